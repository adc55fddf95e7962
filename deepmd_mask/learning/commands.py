# SPDX-License-Identifier: LGPL-3.0-or-later
"""The commands ``dp-mask learn init``, ``run`` and ``status``."""

from pathlib import Path

import click

from ..shared.commands import Commands
from .work import task

FOLDER = click.Path(file_okay=False, exists=True, path_type=Path)


@click.group(cls=Commands)
def learn() -> None:
    """Sample where models disagree, label and train, until they agree."""


@learn.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def init(folder: Path) -> None:
    """Write learn.yaml and what it names to FOLDER: an example that runs as it is."""
    from .example import init as write  # noqa: PLC0415

    for path in write(folder):
        click.echo(path)


@learn.command()
@click.argument("folder", type=FOLDER, default=".")
def run(folder: Path) -> None:
    """Run the loop in FOLDER, by default this one, or go on where it was."""
    from .loop import run as run_loop  # noqa: PLC0415

    run_loop(folder, click.echo)


@learn.command()
@click.argument("folder", type=FOLDER, default=".")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--plot", type=click.Path(path_type=Path), help="Write a figure to it.")
def status(folder: Path, as_json: bool, plot: Path | None) -> None:
    """Tell where the loop in FOLDER stands, also while it runs."""
    from .status import status as find  # noqa: PLC0415

    found = find(folder)
    click.echo(found.as_json() if as_json else found.as_text())
    if plot is not None:
        found.draw(plot)


learn.add_command(task)
