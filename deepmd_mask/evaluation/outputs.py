# SPDX-License-Identifier: LGPL-3.0-or-later
"""What comes before and around an evaluation: its files, which replace no other, and its bar."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

from tqdm import tqdm

from ..data.writer import put_in_place, require_replaceable
from ..shared import paths

FIGURES = ("pdf", "png", "svg")


class Outputs(NamedTuple):
    """Where the results of an evaluation go, as the user named it.

    Attributes
    ----------
    table, plot
        Paths; None for none.
    overwrite
        Whether they may replace files that exist.
    progress
        Whether to show a bar if the standard error is a terminal.
    """

    table: paths.AnyPath | None
    plot: paths.AnyPath | None
    overwrite: bool
    progress: bool


class OpenedOutputs(NamedTuple):
    """The same, while the evaluation runs.

    Attributes
    ----------
    table
        To write to; None for none.
    figure
        Where to draw, whatever the suffix; None for none.
    form
        Format of the figure, one of FIGURES.
    bar
        Counts frames.
    """

    table: TextIO | None
    figure: Path | None
    form: str
    bar: tqdm


def require_possible(
    outputs: Outputs,
    table: str,
    inputs: Mapping[str, paths.Paths],
    suffixes: Sequence[str] = (".csv",),
) -> None:
    """Complain of outputs before any model is opened.

    Parameters
    ----------
    outputs
        To look at.
    table
        Name of the parameter for the table.
    inputs
        Paths of models and systems by the parameters that have them.
    suffixes
        Of tables that there are.

    Raises
    ------
    ValueError
        If an output is an input or another output, the figure's suffix is none of FIGURES, or the
        table's is that of something else.
    OSError
        If one exists and may not be replaced.
    """
    paths.require_unlike_files(inputs, {table: outputs.table, "plot": outputs.plot})
    if outputs.plot is not None and _form(outputs.plot) not in FIGURES:
        raise ValueError(f"figure {outputs.plot}: the suffix must be one of .{', .'.join(FIGURES)}")
    for path in (outputs.table, outputs.plot):
        if path is not None:
            require_replaceable(Path(path), outputs.overwrite, folder=False)
    if outputs.table is not None:
        paths.require_suffix("table", outputs.table, suffixes)


def _form(plot: paths.AnyPath) -> str:
    return Path(plot).suffix.lower()[1:]


@contextmanager
def opened(outputs: Outputs, nframes: int | None) -> Iterator[OpenedOutputs]:
    """Open the outputs, and put them in place when all went well.

    They come before any evaluation: one that cannot be written costs none.

    Parameters
    ----------
    outputs
        Those that are possible.
    nframes
        Number of frames; None if it is not known.

    Raises
    ------
    OSError
        If one cannot be written. Nothing is left of it then.
    """
    with ExitStack() as stack:

        def begin(path: paths.AnyPath) -> Path:
            replacing = put_in_place(Path(path), outputs.overwrite, folder=False)
            return stack.enter_context(replacing)

        table = figure = None
        if outputs.table is not None:
            file = open(begin(outputs.table), "w", newline="", encoding="utf-8")
            table = stack.enter_context(file)
        if outputs.plot is not None:
            figure = begin(outputs.plot)
        hidden = None if outputs.progress else True  # None: hidden unless there is a terminal
        bar = tqdm(desc="evaluating", total=nframes, unit=" frames", disable=hidden)
        yield OpenedOutputs(table, figure, _form(outputs.plot or ""), stack.enter_context(bar))
