# SPDX-License-Identifier: LGPL-3.0-or-later
"""A force field of OpenMM as a level of theory, for what a model corrects."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import openmm
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from openmm import app

KJ_MOL = units.kJ / units.mol  # in eV


class InVacuum:
    """Makes calculators of a force field for parts of a system, in vacuum and without cutoff.

    A frame's array `index` tells which atoms of the system it has, whole residues, in their order,
    as `FrameReporter` and `learning.openmm` write it. Bonds are springs and waters flexible, also
    where they are rigid in the system.

    Parameters
    ----------
    topology
        Of the system.
    field
        With templates for all residues that frames have.
    positions
        Of the system, only as `openmm.app.Modeller` wants some.
    options
        Of `ForceField.createSystem`.

    Examples
    --------
    ``label: [levels:gfn2, minus: levels:force_field]`` with, in levels.py,

    >>> force_field = InVacuum(pdb.topology, ForceField("amber14-all.xml"), pdb.positions)
    """

    def __init__(
        self, topology: app.Topology, field: app.ForceField, positions: Any, **options: Any
    ) -> None:
        self.topology, self.field, self.positions = topology, field, positions
        self.options = {"constraints": None, "rigidWater": False, **options}
        self._made: dict[tuple[int, ...], InVacuumCalculator] = {}

    def __call__(self, atoms: Atoms) -> "InVacuumCalculator":
        """Return the calculator for a frame.

        Raises
        ------
        ValueError
            If the frame has no array `index`, link atoms, or elements that the system has not
            there; if the force field does not know a residue.
        """
        index = _index(atoms)
        every = list(self.topology.atoms())
        for k, (atom, symbol) in enumerate(zip(index, atoms.symbols, strict=True)):
            element = every[atom].element if atom < len(every) else None
            if element is not None and element.symbol != symbol:
                raise ValueError(
                    f"atom {k} is {symbol}, but atom {atom} of the system is {element.symbol}"
                )
        if index not in self._made:
            self._made[index] = InVacuumCalculator(self._system(set(index)))
        return self._made[index]

    def _system(self, kept: set[int]) -> openmm.System:
        part = app.Modeller(self.topology, self.positions)
        part.delete([atom for atom in self.topology.atoms() if atom.index not in kept])
        return self.field.createSystem(part.topology, **self.options)

    def charge(self, atoms: Atoms) -> int:
        """Return the charge of a frame's atoms in the force field, where residues have whole ones.

        Raises
        ------
        ValueError
            As of a call.
        """
        return self(atoms).charge


class InVacuumCalculator(Calculator):
    """Energy and forces of a System of OpenMM without a box.

    Parameters
    ----------
    system
        The system; its order of atoms is that of the frames.

    Attributes
    ----------
    charge : int
        Of all atoms.
    """

    implemented_properties: list[str] = ["energy", "forces"]  # noqa: RUF012  as in ASE's classes

    def __init__(self, system: openmm.System) -> None:
        super().__init__()
        integrator = openmm.VerletIntegrator(0.001)
        platform = openmm.Platform.getPlatform("Reference")
        charges = [
            force.getParticleParameters(k)[0]._value
            for force in system.getForces()
            if isinstance(force, openmm.NonbondedForce)
            for k in range(system.getNumParticles())
        ]
        self.charge = round(sum(charges))
        self._context = openmm.Context(system, integrator, platform)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate; ASE calls this."""
        super().calculate(atoms, list(properties), list(system_changes))
        assert self.atoms is not None
        self._context.setPositions(self.atoms.positions / units.nm)
        state = self._context.getState(getEnergy=True, getForces=True)
        self.results = {
            "energy": state.getPotentialEnergy()._value * KJ_MOL,
            "forces": state.getForces(asNumpy=True)._value * (KJ_MOL / units.nm),
        }


def _index(atoms: Atoms) -> tuple[int, ...]:
    """Return which atoms of the system a frame has."""
    index = atoms.arrays.get("index")
    if index is None:
        raise ValueError("the frame has no array index, which tells the atoms of the system")
    if (np.asarray(index) < 0).any():
        raise ValueError("the frame has link atoms, which the force field knows nothing of")
    if not (np.diff(index) > 0).all():
        raise ValueError("the atoms of the frame are not in the order of the system")
    return tuple(np.asarray(index).tolist())
