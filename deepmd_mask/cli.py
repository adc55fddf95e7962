# SPDX-License-Identifier: LGPL-3.0-or-later
"""The command ``dp-mask``. Each command parses its options and calls one function."""

import json
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from .shared.commands import Command, Commands, in_words_of_options
from .shared.reason import reason_of

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # what TensorFlow says of itself
for name in ("deepmd.env", "deepmd.utils.batch_size"):  # hints on speed, in each run
    logging.getLogger(name).setLevel(logging.ERROR)


EXTERNAL_FIELD = (
    "Do not warn of net forces and torques: a field, embedding charges or other atoms act."
)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    lazy={"learn": "deepmd_mask.learning.commands:learn"},
)
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


@main.command("c-flags")
def c_flags() -> None:
    """Print what compiler and linker of a program in C are told.

    They find deepmd_mask.h and the library, which needs no Python:

        cc energy.c -o energy $(dp-mask c-flags)
    """
    folder = Path(__file__).parent
    library = next(folder.glob("libdeepmd_mask_c.so.*"), None)
    if library is None:
        raise ValueError(f"there is no library for C in {folder}; build with -DDPMASK_C=ON")
    words = [
        f"-I{folder / 'include'}",
        f"-L{folder}",
        f"-l:{library.name}",
        f"-Wl,-rpath,{folder}",
    ]
    click.echo(shlex.join(words))


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Print warnings as lines; this package's name options."""
    from .data.balance import NetForceWarning  # noqa: PLC0415

    context = click.get_current_context()
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", NetForceWarning)
            yield
    finally:  # an error may be a consequence of what they warn of
        for warning in caught:
            text = str(warning.message)
            if issubclass(warning.category, NetForceWarning):
                text = in_words_of_options(context.command, text)
            click.echo(f"warning: {text}", err=True)


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({reason_of(error)})") from error


def _split(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",")]


def _read_sel(context: click.Context, option: click.Parameter, text: str) -> str | list[int]:
    if text.startswith("auto"):
        return text
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter("write auto, auto:1.2, or numbers with commas") from None


@main.command()
@click.argument("sources", nargs=-1, required=True)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@click.option("--type-map", metavar="H,C,…", help="Names of the types; default: by atomic number.")
@click.option(
    "--sel",
    default="auto",
    callback=_read_sel,
    show_default=True,
    metavar="AUTO|N,N,…",
    help="Slots of each type: auto, or auto:1.2, as in an input; or a number for each type, in "
    "the order of --type-map, which must be given then.",
)
@click.option(
    "--preference",
    help="all, element:ZN,S, within:2.8:ZN (Å), names:SG,NE2 (of atoms, from the array atomtypes), "
    "names:ARRAY:SG, or array:NAME; all sources must have the array. Default: array:atom_pref if "
    "the sources have it, else all.",
)
@click.option(
    "--validation",
    type=click.FloatRange(min=0),
    default=0,
    help="Frames for it: a fraction below 1, or a number; 1 is one frame.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of the choice of these frames.",
)
@click.option("--energy-unit", help="Of all sources; default: what a source says itself, or eV.")
@click.option(
    "--force-unit", help="Of all sources, as hartree/bohr; default: what a source says, or eV/Å."
)
@click.option("--energy-key", default="energy", show_default=True, help="Name in the sources.")
@click.option("--forces-key", default="forces", show_default=True, help="Name in the sources.")
@click.option(
    "--precision", type=click.Choice(["float64", "float32"]), default="float64", show_default=True
)
@click.option(
    "--set-size", type=click.IntRange(1), default=2000, show_default=True, help="Frames of a set."
)
@click.option("--drop-cell", is_flag=True, help="Take periodic sources as if they were not.")
@click.option(
    "--skip-incomplete",
    is_flag=True,
    help="Leave out and count frames without energy or forces, with an SCF that did not converge, "
    "or that a file cuts off.",
)
@click.option("--external-field", is_flag=True, help=EXTERNAL_FIELD)
@click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
def pack(sources: tuple[str, ...], type_map: str | None, **options: Any) -> None:
    """Pack frames of any composition into a masked system.

    SOURCES are files that ASE or cclib reads, FILE@INDEX for some of their frames, systems of
    DeePMD-kit or folders of such, FORMAT:PATH with a format of ASE or dpdata, as in
    vasp/outcar:run1/OUTCAR, or dpdata:FORMAT:PATH and ase:FORMAT:PATH with any format of theirs
    and options, as in dpdata:amber/md:BASE?nc_file=run.nc.
    """
    from . import data  # noqa: PLC0415

    with _warnings_as_lines():
        packed = data.pack(sources, type_map=_split(type_map), progress=True, **options)
    for system, nframes in packed.systems.items():
        click.echo(f"{system}: {nframes} frames")
    click.echo(f"real atoms in a frame: {packed.atoms[0]} to {packed.atoms[1]}")
    click.echo(f"type_map: {','.join(packed.type_map)}")
    click.echo(f"sel: {','.join(map(str, packed.sel))}")
    if packed.kept_preference:
        click.echo("preference: array:atom_pref, as the sources have it")
    if packed.repeated:
        click.echo(f"frames that repeat one before: {packed.repeated}")
    for reason, nframes in packed.left_out.items():
        click.echo(f"left out: {nframes} ({reason})")
    if packed.without_preference:
        click.echo(f"frames in which no atom is preferred: {packed.without_preference}")


@main.command()
@click.argument("systems", nargs=-1, required=True)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
def unpack(systems: tuple[str, ...], output: Path, overwrite: bool) -> None:
    """Write the real atoms of masked systems to extended XYZ.

    SYSTEMS are masked systems or folders of such.
    """
    from . import data  # noqa: PLC0415

    nframes = data.unpack(systems, output, overwrite=overwrite, progress=True)
    click.echo(f"{output}: {nframes} frames")


@main.command()
@click.argument("systems", nargs=-1)
@click.option(
    "--input", "input_file", type=click.Path(), help="Input of dp train; its systems, too."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option(
    "--all", "everything", is_flag=True, help="Print all findings of a kind, not just ten."
)
@click.option("--external-field", is_flag=True, help=EXTERNAL_FIELD)
def check(
    systems: tuple[str, ...],
    input_file: str,
    as_json: bool,
    everything: bool,
    external_field: bool,
) -> None:
    """Find in masked systems what will go wrong in training.

    SYSTEMS are masked systems or folders of such. The exit status is 1 if there are errors, 0 if
    there are only warnings or none.
    """
    from . import data  # noqa: PLC0415

    if not systems and input_file is None:
        raise click.UsageError("name a system, or an input with --input")
    checked = data.check(systems, input_file, external_field=external_field, progress=not as_json)
    text = checked.as_json() if as_json else checked.as_text(None if everything else 10)
    click.echo(in_words_of_options(click.get_current_context().command, text))
    sys.exit(checked.errors > 0)


@main.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A .pb file.")
@click.option("--builtin", is_flag=True, help="The other way: for DeePMD-kit alone.")
@click.option(
    "--precision", type=click.Choice(["float64", "float32"]), help="Of the nets of the result."
)
@click.option("--compress", is_flag=True, help="Compress it, too.")
@click.option(
    "--min-distance",
    type=click.FloatRange(min=0, min_open=True),
    help="With --compress: the shortest distance of real atoms, if the model does not tell it.",
)
@click.option(
    "--input",
    "training_input",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What the model was trained with, if it does not carry that itself.",
)
@click.option(
    "--weights",
    is_flag=True,
    help="With --compress: its graph takes weights between 0 and 1, too; Potential needs no such.",
)
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
def convert(
    model: Path,
    output: Path,
    builtin: bool,
    training_input: Path | None,
    **options: Any,
) -> None:
    """Put a frozen model of the built-in se_a_mask on the operators of deepmd-mask.

    Or one of an older deepmd-mask on those of this one, which refuse boxes. The result is compared
    with MODEL before it appears. Nothing is trained anew.
    """
    from .conversion import convert as convert_model  # noqa: PLC0415

    difference = convert_model(
        model,
        output,
        operators="built-in" if builtin else "deepmd-mask",
        training_input=_read_json(training_input) if training_input else None,
        **options,
    )
    click.echo(
        f"{output} agrees with {model} on a frame of a few atoms: forces to "
        f"{difference.force:.0e} of the largest, atomic energies to {difference.atom_energy:.0e}"
        + (f"; not compared with Potential: {difference.refusal}" if difference.refusal else "")
    )


@main.command()
@click.argument("model", type=click.Path(path_type=Path))
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


class SeveralValues(Command):
    """A command where an option that may be repeated takes several values, too: -m A B."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Parse -m A B as -m A -m B."""
        repeated = {name for option in self.params if option.multiple for name in option.opts}
        spread, option = [], None
        for arg in args:
            if arg.startswith("-"):
                option = arg if arg in repeated else None
            if arg != option:
                spread += [arg] if option is None else [option, arg]
        return super().parse_args(context, spread)


@main.command("test", cls=SeveralValues)
@click.option(
    "-m",
    "--model",
    multiple=True,
    required=True,
    type=click.Path(),
    help="Frozen model; several are a committee.",
)
@click.option(
    "-s", "--system", "first", multiple=True, required=True, help="System, or folder of such."
)
@click.argument("others", metavar="[SYSTEM]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--csv", "csv_file", type=click.Path(), help="Write a row for each frame to it.")
@click.option("--plot", type=click.Path(), help="Write a figure to it: .png, .pdf or .svg.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
def test_model(
    model: tuple[str, ...],
    first: tuple[str, ...],
    others: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Compare a model with the labels of masked systems.

    Errors are those on real and on preferred atoms, whatever the padding: dp-mask test -m
    model.pb -s SYSTEM1 SYSTEM2. Models of the built-in se_a_mask serve, too. With several models
    errors are those of their mean, and set against how far the models differ.
    """
    from . import evaluation  # noqa: PLC0415

    result = evaluation.evaluate(model, (*first, *others), progress=not as_json, **options)
    click.echo(result.as_json() if as_json else result.as_text())


@main.command(cls=SeveralValues)
@click.option(
    "-m", "--models", multiple=True, required=True, metavar="MODEL…", help="Frozen models."
)
@click.option(
    "-s",
    "--systems",
    multiple=True,
    required=True,
    metavar="SYSTEM…",
    help="Systems, folders of such, or files that ASE reads; no labels are needed.",
)
@click.option(
    "-o", "--output", type=click.Path(), help="Write a row for each frame to it: .csv or .out."
)
@click.option("--plot", type=click.Path(), help="Write a figure to it: .png, .pdf or .svg.")
@click.option("--json", "as_json", is_flag=True, help="Print all frames as JSON.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
def devi(models: tuple[str, ...], systems: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Tell how far models differ on frames of any composition.

    Deviations are those of dp model-devi, but of real and of preferred atoms, whatever the padding:
    dp-mask devi -m 1.pb 2.pb 3.pb 4.pb -s SYSTEM1 SYSTEM2 -o devi.csv.
    """
    from . import evaluation  # noqa: PLC0415

    result = evaluation.model_deviation(models, systems, progress=not as_json, **options)
    click.echo(result.as_json() if as_json else result.as_text())
