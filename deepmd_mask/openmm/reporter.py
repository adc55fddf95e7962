# SPDX-License-Identifier: LGPL-3.0-or-later
"""A reporter of what is in the DP regions while a simulation runs."""

import csv
import pickle
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import openmm
from openmm import app

from ..shared.log import log
from ..shared.numbers import is_number
from .arguments import plain
from .force import DPTerm, EvaluatedRegion


class RegionReporter:
    """Writes what is in the DP regions to a CSV file, as a reporter of a Simulation.

    Columns are step, region (its name), atoms (their number), energy (the model's, in kJ/mol,
    whatever the scale, so that it is also the derivative by it) and residues. Where a region has a
    smooth edge there are three more, which have a number for each kind of residue that has a
    reference, in the order of the alphabet: W; and of dE/dw - Phi'(W), what it costs a residue in
    the buffer to enter, in kJ/mol, the mean, cost, and the standard deviation, spread. When W
    leaves the range that the reference was fitted in, there is a warning.

    Parameters
    ----------
    file
        Path of the file.
    interval
        Steps between reports. Each costs an evaluation of the model.
    append
        Whether to go on with a file that exists.

    Raises
    ------
    ValueError
        If the interval is no positive whole number.
    """

    COLUMNS = ("step", "region", "atoms", "energy", "residues")
    MORE = ("W", "cost", "spread")

    def __init__(self, file: str | PathLike, interval: int, append: bool = False) -> None:
        if not is_number(interval) or interval % 1 != 0 or interval < 1:
            msg = f"RegionReporter: the interval is {interval!r}; give steps, 1 or more"
            raise ValueError(msg)
        self.interval = int(interval)
        self._terms: list[DPTerm] | None = None
        self._path = Path(file)
        self._begun = _first_row(self._path) if append and self._path.is_file() else []
        self._file = open(file, "a" if append else "w", newline="")
        self._writer = csv.writer(self._file)
        self._blank: tuple[str, ...] = ()  # of an abrupt region, of what smooth ones have more
        self._warned: set[tuple[str, str]] = set()

    def describeNextReport(self, simulation: app.Simulation) -> dict:  # OpenMM calls this
        """Tell OpenMM when to report next, and what that takes."""
        steps = self.interval - simulation.currentStep % self.interval
        return {"steps": steps, "periodic": False, "include": ["positions"]}

    def report(self, simulation: app.Simulation, state: openmm.State) -> None:
        """Write a line for each region.

        Raises
        ------
        ValueError
            If no force of the system was made by `dp_force`, or the file that is appended to has
            other columns.
        """
        if self._terms is None:
            self._terms = list(_terms(simulation.system.getForces()))
            self._begin(self._terms)
        positions = plain(state.getPositions(asNumpy=True))
        for term in self._terms:
            for part in term.parts(positions, term.box_of(state)):
                residues = np.unique(term.labels.residue[part.atoms])
                names = " ".join(term.labels.residues[residue] for residue in residues)
                row = (part.region.name, len(part.atoms), f"{part.energy:.6f}", names)
                self._writer.writerow((simulation.currentStep, *row, *self._more(part)))
        self._file.flush()

    def _begin(self, terms: list[DPTerm]) -> None:
        """Write the names of the columns, unless the file has them."""
        if not terms:
            raise ValueError("RegionReporter: no force of the system was made by dp_force")
        edges = [region.edge for term in terms for region in term.regions]
        more = self.MORE if any(edge is not None for edge in edges) else ()
        wanted = [*self.COLUMNS, *more]
        self._blank = ("",) * len(more)
        if not self._begun:
            self._writer.writerow(wanted)
        elif self._begun != wanted:
            msg = (
                f"RegionReporter: {self._path} has the columns {', '.join(self._begun)}, not "
                f"{', '.join(wanted)}; give another file"
            )
            raise ValueError(msg)

    def _more(self, part: EvaluatedRegion) -> tuple[str, ...]:
        """Return what there is to say of a smooth edge; warn where it is not what was fitted."""
        edge, entering = part.region.edge, part.entering
        if edge is None or entering is None:
            return self._blank
        texts = []
        for kind in np.flatnonzero(edge.known):
            W, name = entering.W[kind], edge.kinds[kind]
            *_, least, most = edge.references[kind]
            if not (least <= W <= most) and not np.isnan(least):
                self._warn(part.region.name, name, f"{W:.3f}", f"{least:.3f} to {most:.3f}")
            costs = entering.costs[edge.kind[entering.residues] == kind]
            mean, spread = (costs.mean(), costs.std()) if len(costs) else (np.nan, np.nan)
            texts.append((f"{W:.4f}", f"{mean:.4f}", f"{spread:.4f}"))
        return tuple(" ".join(of_kinds) for of_kinds in zip(*texts, strict=True))

    def _warn(self, region: str, kind: str, W: str, fitted: str) -> None:
        """Warn once of a kind of residues whose W is not where its reference was fitted."""
        if (region, kind) not in self._warned:
            self._warned.add((region, kind))
            log.warning(
                f"{region}: W of {kind} is {W}, and its reference was fitted from {fitted}; "
                "calibrate the region anew, with frames of this simulation, or look why so many "
                "or few are there"
            )


def _first_row(path: Path) -> list[str]:
    """Return the names of columns of a file, none if it is empty."""
    with path.open(newline="") as file:
        return next(csv.reader(file), [])


def _terms(forces: Sequence[openmm.Force]) -> Iterator[DPTerm]:
    """Find the terms of dp_force, also within the forces that OpenMM-ML interpolates."""
    for force in forces:
        if isinstance(force, openmm.PythonForce):
            # getPickledFunction gives Python a pointer only; the serialised force has the bytes.
            serialized = ElementTree.fromstring(openmm.XmlSerializer.serialize(force))
            term = pickle.loads(bytes.fromhex(serialized.get("function", "")) or pickle.dumps(None))
            if isinstance(term, DPTerm):
                yield term
        elif isinstance(force, openmm.CustomCVForce):
            count = force.getNumCollectiveVariables()
            yield from _terms([force.getCollectiveVariable(n) for n in range(count)])
