# SPDX-License-Identifier: LGPL-3.0-or-later
"""Compares a frozen model with the labels of masked systems: ``dp-mask test``."""

import csv
from collections.abc import Callable, Iterator
from typing import TextIO

import numpy as np

from ..data.scan import Wanted
from ..data.systems import System, systems_in
from ..shared.paths import AnyPath, Paths, listed
from .deviations import COLUMNS, Rows
from .errors_by_deviation import ErrorsByDeviation
from .metrics import Errors, Evaluation, Metrics, Place
from .outputs import Outputs, opened, require_possible
from .parity import SCATTERED, Points, draw
from .predict import Frames, Model, looked_through

ERROR_COLUMNS = (
    "system", "set", "frame", "real_atoms", "energy", "energy_predicted", "energy_error_per_atom",
    "force_rmse", "force_mae", "force_max", "preference", "preferred_rmse", "preferred_mae",
    "preferred_max",
)  # fmt: skip
# Of a committee there are these, too, as in the table of dp-mask devi.
COMMITTEE_COLUMNS = tuple(name for name in COLUMNS if "devi" in name)


def evaluate(
    model: Paths,
    systems: Paths,
    *,
    csv_file: AnyPath | None = None,
    plot: AnyPath | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Evaluation:
    """Compare a model with the labels of masked systems.

    The energy of a frame is the sum of the model's atomic energies of real atoms. That is the
    model's energy, but with a model of the built-in se_a_mask, whose energy has a constant for
    each virtual atom besides.

    Parameters
    ----------
    model
        Frozen model with se_a_mask, of this package or of the built-in; or several, a committee,
        whose means are compared, and whose deviation is set against the errors.
    systems
        Path of one system or of several; each may be a folder of systems. What they have no
        labels of is left out.
    csv_file
        File for a table with a row for each frame.
    plot
        File for a figure, PNG, PDF or SVG by its suffix: parity plots and histograms of errors,
        and of a committee errors over deviations.
    overwrite
        Replace these files if they exist.
    progress
        Show a progress bar if the standard error is a terminal.

    Returns
    -------
    Evaluation
        Errors over all, by system and by element; of a committee, and if there are forces, also by
        deviation.

    Raises
    ------
    ValueError
        Naming system, file, frame and atom, if a system is not a masked one, has no labels, or the
        model does not fit it.
    OSError
        If a file cannot be read, exists, or cannot be written. Nothing is left of it then.
    """
    outputs = Outputs(csv_file, plot, overwrite, progress)
    given = listed(systems)
    require_possible(outputs, "csv_file", {"model": model, "systems": given})
    paths = [path for each in given for path in systems_in(each)]
    if not paths:
        raise ValueError("there is no system; name one")
    potential = Model(model)
    scanned = [_scan(path, potential.type_map) for path in paths]
    result = Evaluation(", ".join(potential.paths))
    points = {key: Points() for key in (*Metrics().__dict__, *SCATTERED)} if plot else {}
    row_of = _rows_of_committee if len(potential.paths) > 1 else _rows
    with opened(outputs, sum(system.nframes for system in scanned)) as out:
        more = COMMITTEE_COLUMNS if len(potential.paths) > 1 else ()
        write_row = _row_writer(out.table, (*ERROR_COLUMNS, *more))
        for system in scanned:
            for frames in potential.predict(system):
                _add(result, frames, potential.type_map, points)
                for row in row_of(frames):
                    write_row(row)
                out.bar.update(len(frames.chunk))
        if out.figure:
            draw(out.figure, out.form, points, potential.type_map)
    return result


def _scan(path: str, type_map: tuple[str, ...]) -> System:
    """Open a system and look through it, by the rules of training."""
    system = looked_through(path, Wanted(type_map, to_evaluate=True))
    if not any(key in part.arrays for part in system.sets for key in ("energy", "force")):
        raise ValueError(f"system {path}: it has neither energy.npy nor force.npy to compare with")
    return system


def _add(
    result: Evaluation, frames: Frames, type_map: tuple[str, ...], points: dict[str, Points]
) -> None:
    """Add frames to all errors that they belong to."""
    result.nframes += len(frames.chunk)
    _add_deviations(result, frames, points)
    everything = result.overall, result.systems.setdefault(frames.system, Metrics())
    for key, reference, predicted, weights, place in _compared(frames):
        for metrics in everything:
            getattr(metrics, key).add(reference, predicted, weights, place)
        kinds = frames.types.ravel() if key != "energy" else np.full(len(weights), -1)
        for kind in np.unique(kinds[(weights > 0) & (kinds >= 0)]).tolist():
            of_element = result.elements.setdefault(type_map[kind], Metrics())
            getattr(of_element, key).add(reference, predicted, weights * (kinds == kind), place)
        if key in points:
            points[key].add(reference, predicted, weights, kinds)


def _add_deviations(result: Evaluation, frames: Frames, points: dict[str, Points]) -> None:
    """Add frames that a committee has evaluated to the errors by deviation."""
    chunk = frames.chunk
    if frames.deviation is None or chunk.force is None:
        return
    weights = chunk.mask if chunk.preference is None else chunk.preference * chunk.mask
    error = np.linalg.norm(frames.force - chunk.force, axis=2)
    if result.by_deviation is None:
        result.by_deviation = ErrorsByDeviation()
    of_frames = result.by_deviation.add(frames.deviation, error, weights)
    if points:
        sigma, length = frames.deviation.reshape(-1, 1), error.reshape(-1, 1)
        points["by_atoms"].add(sigma, length, weights.ravel(), frames.types.ravel())
        deviation, rmse = of_frames.T[..., None]
        ones = np.ones(len(rmse))
        points["by_frames"].add(deviation, rmse, ones, -ones)


def _compared(
    frames: Frames,
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray, Callable[[int], Place]]]:
    """Yield what there are labels of: a field of Metrics, then the arguments of Errors.add."""
    chunk = frames.chunk
    natoms = chunk.mask.sum(axis=1)
    if chunk.energy is not None:
        per_atom = np.maximum(natoms, 1)
        wanted, found = ((e / per_atom)[:, None] for e in (chunk.energy, frames.energy))
        yield "energy", wanted, found, (natoms > 0).astype(float), frames.place
    if chunk.force is not None:
        wanted, found = (force.reshape(-1, 3) for force in (chunk.force, frames.force))
        yield "force", wanted, found, chunk.mask.ravel(), frames.atom
        if chunk.preference is not None:
            weights = (chunk.preference * chunk.mask).ravel()
            yield "preferred", wanted, found, weights, frames.atom


def _row_writer(table: TextIO | None, columns: tuple[str, ...]) -> Callable[[list], object]:
    """Return what writes a row."""
    if table is None:
        return lambda _: None
    writer = csv.writer(table)
    writer.writerow(columns)
    return writer.writerow


def _rows(frames: Frames) -> Iterator[list]:
    """Yield a row for each frame, as ERROR_COLUMNS are; empty where there are no labels."""
    chunk = frames.chunk
    for f in range(len(chunk)):
        errors = Metrics()
        for key, *pair in _compared(frames.alone(f)):
            getattr(errors, key).add(*pair)
        natoms = int(chunk.mask[f].sum())
        energy = "" if chunk.energy is None else chunk.energy[f].item()
        difference = (
            "" if energy == "" or not natoms else (frames.energy[f].item() - energy) / natoms
        )
        weight = "" if chunk.preference is None else (chunk.preference * chunk.mask)[f].sum().item()
        row = [frames.system, chunk.set_name, chunk.first + f, natoms]
        row += [energy, frames.energy[f].item(), difference]
        yield row + _cells(errors.force) + [weight] + _cells(errors.preferred)


def _rows_of_committee(frames: Frames) -> Iterator[list]:
    """Yield these rows with deviations, as COMMITTEE_COLUMNS are."""
    where = [COLUMNS.index(name) for name in COMMITTEE_COLUMNS]
    for row, values in zip(_rows(frames), Rows.of(frames).values[:, where].tolist(), strict=True):
        yield row + ["" if np.isnan(value) else value for value in values]


def _cells(errors: Errors) -> list:
    return [errors.rmse, errors.mae, errors.max] if errors.count else ["", "", ""]
