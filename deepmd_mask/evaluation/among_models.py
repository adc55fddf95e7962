# SPDX-License-Identifier: LGPL-3.0-or-later
"""How far models differ on the real atoms of frames, with labels or without: ``dp-mask devi``."""

import csv
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from ..data.scan import Wanted, scan_system
from ..data.systems import System, systems_in
from ..shared.paths import AnyPath, Paths, listed
from .atoms_file import AtomsFile, is_atoms_file
from .deviations import COLUMNS, Deviations, Rows
from .outputs import Outputs, opened, require_possible
from .predict import Frames, Model, parts


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
        At least two frozen models with se_a_mask, of one type map.
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
        Naming models, system, file, frame and atom, if models have different type maps, or a frame
        cannot be evaluated.
    OSError
        If a file cannot be read, exists, or cannot be written. Nothing is left of it then.
    """
    outputs = Outputs(output, plot, overwrite, progress)
    given, of_models = listed(systems), listed(models)
    require_possible(outputs, "output", {"models": of_models, "systems": given})
    loaded = _load(of_models)
    scanned = _open(given, loaded[0].type_map)
    result = Deviations([model.path for model in loaded])
    known = [system.nframes for system in scanned if system.nframes is not None]
    with opened(outputs, sum(known) if len(known) == len(scanned) else None) as out:
        write = _rows_writer(out.table, Path(output or "").suffix)
        for system in scanned:
            for chunk, types in parts(system, loaded):
                frames = [model.predict_part(system.path, chunk, types) for model in loaded]
                part = Rows(system.path, chunk.set_name, chunk.first, _values(frames))
                result.add(part)
                write(part)
                out.bar.update(len(chunk))
        if out.figure:
            result.draw(out.figure, out.form)
    return result


def _load(paths: list[str]) -> list[Model]:
    """Open the models, which must have one type map."""
    if len(paths) < 2:
        raise ValueError(
            f"{len(paths)} model{'s' * (len(paths) != 1)} given; a deviation is between two models "
            "or more, trained on the same data from different seeds"
        )
    models = [Model(path) for path in paths]
    first = models[0]
    for other in models[1:]:
        if other.type_map != first.type_map:
            raise ValueError(
                f"models {first.path} and {other.path} have different type maps, "
                f"{' '.join(first.type_map)} and {' '.join(other.type_map)}; compare models of one"
            )
    return models


def _open(paths: list[str], type_map: tuple[str, ...]) -> list[System | AtomsFile]:
    """Open systems and look through them, but for labels; files are looked through as they come."""
    found: list[System | AtomsFile] = []
    for path in paths:
        if is_atoms_file(path):
            found.append(AtomsFile(path, type_map))
            continue
        wanted = Wanted(type_map, required=("coord",), used=(), to_evaluate=True)
        found += [scan_system(system, wanted).system for system in systems_in(path)]
    if not found:
        raise ValueError("there is no system; name one")
    return found


def _values(of_models: list[Frames]) -> np.ndarray:
    """Return the columns of COLUMNS for some frames, [nframes, columns]; NaN is none."""
    chunk = of_models[0].chunk
    real = chunk.mask == 1
    natoms = real.sum(axis=1)
    force = np.std([frames.force for frames in of_models], axis=0)
    of_atoms = np.sqrt((force**2).sum(axis=2))
    energy = np.std([frames.energy for frames in of_models], axis=0) / np.maximum(natoms, 1)
    columns = [natoms, *_of_atoms(of_atoms, real.astype(float))]
    columns.append(np.where(natoms > 0, energy, np.nan))
    if chunk.preference is None:
        columns += [np.full(len(chunk), np.nan)] * 4
    else:
        weights = chunk.preference * real
        columns += [weights.sum(axis=1), *_of_atoms(of_atoms, weights)]
    return np.stack(columns, axis=1)


def _of_atoms(values: np.ndarray, weights: np.ndarray) -> list[np.ndarray]:
    """Return largest, smallest and mean of values with a weight, in each row; NaN without any."""
    some = weights > 0
    none = ~some.any(axis=1)
    largest = np.where(some, values, -np.inf).max(axis=1, initial=-np.inf)
    smallest = np.where(some, values, np.inf).min(axis=1, initial=np.inf)
    mean = (weights * values).sum(axis=1) / np.where(none, 1, weights.sum(axis=1))
    return [np.where(none, np.nan, column) for column in (largest, smallest, mean)]


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
