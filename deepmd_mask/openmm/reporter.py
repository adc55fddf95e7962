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

from ..shared.numbers import is_number
from .arguments import plain
from .force import DPTerm


class RegionReporter:
    """Writes what is in the DP regions to a CSV file, as a reporter of a Simulation.

    Columns are step, region (its name), atoms (their number), energy (the model's, in kJ/mol,
    whatever the scale, so that it is also the derivative by it) and residues.

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

    def __init__(self, file: str | PathLike, interval: int, append: bool = False) -> None:
        if not is_number(interval) or interval % 1 != 0 or interval < 1:
            msg = f"RegionReporter: the interval is {interval!r}; give steps, 1 or more"
            raise ValueError(msg)
        self.interval = int(interval)
        self._terms: list[DPTerm] | None = None
        begun = append and Path(file).is_file() and Path(file).stat().st_size > 0
        self._file = open(file, "a" if append else "w", newline="")
        self._writer = csv.writer(self._file)
        if not begun:
            self._writer.writerow(self.COLUMNS)

    def describeNextReport(self, simulation: app.Simulation) -> dict:  # OpenMM calls this
        """Tell OpenMM when to report next, and what that takes."""
        steps = self.interval - simulation.currentStep % self.interval
        return {"steps": steps, "periodic": False, "include": ["positions"]}

    def report(self, simulation: app.Simulation, state: openmm.State) -> None:
        """Write a line for each region.

        Raises
        ------
        ValueError
            If no force of the system was made by `dp_force`.
        """
        if self._terms is None:
            self._terms = list(_terms(simulation.system.getForces()))
        if not self._terms:
            raise ValueError("RegionReporter: no force of the system was made by dp_force")
        positions = plain(state.getPositions(asNumpy=True))
        for term in self._terms:
            for part in term.parts(positions, state):
                residues = np.unique(term.labels.residue[part.atoms])
                names = " ".join(term.labels.residues[residue] for residue in residues)
                row = (part.region.name, len(part.atoms), f"{part.energy:.6f}", names)
                self._writer.writerow((simulation.currentStep, *row))
        self._file.flush()


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
