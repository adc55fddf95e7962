# SPDX-License-Identifier: LGPL-3.0-or-later
"""How far models differ on the real atoms of frames, with labels or without: ``dp-mask devi``."""

import csv
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from ..data.scan import Wanted
from ..data.systems import System, systems_in
from ..shared.paths import AnyPath, Paths, listed
from .atoms_file import AtomsFile, is_atoms_file
from .deviations import COLUMNS, Deviations, Rows
from .outputs import Outputs, opened, require_possible
from .predict import Model, looked_through


def model_deviation(
    models: Paths,
    systems: Paths,
    *,
    output: AnyPath | None = None,
    plot: AnyPath | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Deviations:
    """Compare models with each other on frames, which need no labels.

    The deviation of the force on an atom is, as in DeePMD-kit, the root of the mean over models of
    |F_k - mean|², and that of the energy the standard deviation over models, here of the energy
    divided by the number of real atoms. The numbers do not depend on padding.

    Parameters
    ----------
    models
        At least two frozen models with se_a_mask, of one type map and one sum of sel.
    systems
        Path of one system or of several, masked, plain or mixed; each may be a folder of systems,
        or a file that ASE reads.
    output
        File for a table with a row for each frame: CSV, or with the suffix .out one like that of
        ``dp model-devi``.
    plot
        File for a figure, PNG, PDF or SVG by its suffix.
    overwrite
        Replace these files if they exist.
    progress
        Show a progress bar if the standard error is a terminal.

    Returns
    -------
    Deviations
        Of each frame.

    Raises
    ------
    ValueError
        Naming models, system, file, frame and atom, if models differ in type map or sum of sel, or
        a frame cannot be evaluated.
    OSError
        If a file cannot be read, exists, or cannot be written. Nothing is left of it then.
    """
    outputs = Outputs(output, plot, overwrite, progress)
    given, of_models = listed(systems), listed(models)
    inputs = {"models": of_models, "systems": given}
    require_possible(outputs, "output", inputs, (".csv", ".out"))
    committee = _load(of_models)
    scanned = _open(given, committee.type_map)
    result = Deviations(committee.paths)
    known = [system.nframes for system in scanned if system.nframes is not None]
    with opened(outputs, sum(known) if len(known) == len(scanned) else None) as out:
        write = _rows_writer(out.table, Path(output or "").suffix)
        for system in scanned:
            for frames in committee.predict(system):
                part = Rows.of(frames)
                result.add(part)
                write(part)
                out.bar.update(len(frames.chunk))
        if out.figure:
            result.draw(out.figure, out.form)
    return result


def _load(paths: list[str]) -> Model:
    """Open the models, a committee."""
    if len(paths) < 2:
        raise ValueError(
            f"{len(paths)} model{'s' * (len(paths) != 1)} given; a deviation is between two models "
            "or more, trained on the same data from different seeds"
        )
    return Model(paths)


def _open(paths: list[str], type_map: tuple[str, ...]) -> list[System | AtomsFile]:
    """Open systems and look through them, but for labels; files are looked through as they come."""
    found: list[System | AtomsFile] = []
    for path in paths:
        if is_atoms_file(path):
            found.append(AtomsFile(path, type_map))
            continue
        wanted = Wanted(type_map, required=("coord",), used=(), to_evaluate=True)
        found += [looked_through(system, wanted) for system in systems_in(path)]
    if not found:
        raise ValueError("there is no system; name one")
    return found


def _rows_writer(table: TextIO | None, suffix: str) -> Callable[[Rows], None]:
    """Return what writes rows."""
    if table is None:
        return lambda _: None
    if suffix == ".out":
        return _OutWriter(table).write
    writer = csv.writer(table)
    writer.writerow(("system", "set", "frame", *COLUMNS))
    return lambda part: writer.writerows(_csv_rows(part))


def _csv_rows(part: Rows) -> Iterator[list]:
    for index, (natoms, *values) in enumerate(part.values.tolist()):
        cells = ["" if math.isnan(value) else value for value in values]
        yield [part.system, part.set_name, part.first + index, int(natoms), *cells]


class _OutWriter:
    """Writes columns of numbers, and a comment where a system begins, as dp model-devi does."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.system, self.step = "", 0

    def write(self, part: Rows) -> None:
        """Write rows."""
        if part.system != self.system:
            self.system, self.step = part.system, 0
            names = "".join(f"{name:>21}" for name in COLUMNS)
            self.file.write(f"# {part.system}\n# {'step':>10}{names}\n")
        for row in part.values:
            self.file.write(f"{self.step:12d}" + "".join(f"{x:21.6e}" for x in row) + "\n")
            self.step += 1
