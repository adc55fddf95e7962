# SPDX-License-Identifier: LGPL-3.0-or-later
"""The command ``dp-mask``. Each command parses its options and calls one function."""

import json
import os
from pathlib import Path

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # what TensorFlow says of itself


class Commands(click.Group):
    """A group whose commands report what is wrong with the input as one line, not a traceback."""

    def invoke(self, context: click.Context) -> object:
        """Run the command that the context names."""
        try:
            return super().invoke(context)
        except (ValueError, OSError) as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="deepmd-mask")
def main() -> None:
    """Serve Deep Potentials whose atoms change from frame to frame (se_a_mask)."""


@main.command("plugin-path")
def plugin_path() -> None:
    """Print the path of the operator library, for DP_PLUGIN_PATH.

    Programs in C and C++ (LAMMPS, the C API) load the operators from there:

        export DP_PLUGIN_PATH=$(dp-mask plugin-path)
    """
    click.echo(Path(__file__).parent / "libdeepmd_mask.so")


@main.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A .pb file.")
@click.option("--builtin", is_flag=True, help="The other way: for DeePMD-kit alone.")
@click.option(
    "--precision", type=click.Choice(["float64", "float32"]), help="Of the nets of the result."
)
@click.option(
    "--input",
    "input_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What the model was trained with, if it does not carry that itself.",
)
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
def convert(
    model: Path,
    output: Path,
    builtin: bool,
    precision: str | None,
    input_file: Path | None,
    overwrite: bool,
) -> None:
    """Put a frozen model of the built-in se_a_mask on the operators of deepmd-mask.

    The result is compared with MODEL before it appears. Nothing is trained anew.
    """
    from .frozen.convert import convert as convert_model  # noqa: PLC0415

    difference = convert_model(
        model,
        output,
        operators="built-in" if builtin else "deepmd-mask",
        precision=precision,
        training_input=json.loads(input_file.read_text()) if input_file else None,
        overwrite=overwrite,
    )
    click.echo(
        f"{output} agrees with {model} on a frame of a few atoms: forces to "
        f"{difference.force:.0e} of the largest, atomic energies to {difference.atom_energy:.0e}"
    )


@main.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="All of it as JSON.")
@click.option("--training-input", is_flag=True, help="Only the training input, as JSON.")
def info(model: Path, as_json: bool, training_input: bool) -> None:
    """Tell what a frozen model with se_a_mask is and what it needs."""
    from . import frozen  # noqa: PLC0415

    if as_json or training_input:
        found = frozen.info(model)
        click.echo(json.dumps(found["training_input"] if training_input else found, indent=2))
    else:
        click.echo(frozen.info_text(model))
