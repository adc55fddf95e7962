# SPDX-License-Identifier: LGPL-3.0-or-later
"""The command ``dp-mask``. Each command parses its options and calls one function."""

from pathlib import Path

import click


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
    """Data and models for Deep Potentials whose atoms change from frame to frame (se_a_mask)."""


@main.command("plugin-path")
def plugin_path() -> None:
    """Print the path of the operator library, for DP_PLUGIN_PATH.

    Programs in C and C++ (LAMMPS, the C API) load the operators from there:

        export DP_PLUGIN_PATH=$(dp-mask plugin-path)
    """
    click.echo(Path(__file__).parent / "libdeepmd_mask.so")
