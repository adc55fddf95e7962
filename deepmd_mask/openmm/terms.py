# SPDX-License-Identifier: LGPL-3.0-or-later
"""What reporters have in common: when they report, and the terms of dp_force in a system."""

import pickle
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree

import openmm
from openmm import app

from .force import DPTerm


class IntervalReporter:
    """Reports each so many steps.

    Attributes
    ----------
    interval
        Steps between reports.
    """

    interval: int

    def describeNextReport(self, simulation: app.Simulation) -> dict:  # OpenMM calls this
        """Tell OpenMM when to report next, and what that takes."""
        steps = self.interval - simulation.currentStep % self.interval
        return {"steps": steps, "periodic": False, "include": ["positions"]}


def terms_of(forces: Sequence[openmm.Force]) -> Iterator[DPTerm]:
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
            yield from terms_of([force.getCollectiveVariable(n) for n in range(count)])
