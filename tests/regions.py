# SPDX-License-Identifier: LGPL-3.0-or-later
"""What tests of the force on DP regions share: a solvated ion, and what DeepPot gives of it."""

import numpy as np
import pytest
from openmm import unit

from deepmd_mask.openmm import DPRegion

EV = 96.48533212331002  # kJ/mol
NM, KJ = unit.nanometer, unit.kilojoule_per_mole
TYPE = {"C": 0, "O": 1, "Zn": 2}
FORCES = {"rtol": 0, "atol": 1e-8}  # kJ/mol/nm, of some 10^3
SITE = DPRegion(centres=[0], radius=0.45)


def state(simulation, **options):
    """Return energy, in kJ/mol, and forces, in kJ/mol/nm, of what is in force group 1."""
    found = simulation.context.getState(getEnergy=True, getForces=True, groups={1}, **options)
    forces = found.getForces(asNumpy=True).value_in_unit(KJ / NM)
    return found.getPotentialEnergy().value_in_unit(KJ), forces


def evaluate(solvated, force, positions=None, **options):
    """Return energy and forces of a force alone."""
    force.setForceGroup(1)
    simulation = solvated.simulation(force, **options)
    if positions is not None:
        simulation.context.setPositions(positions)
    return state(simulation)


def of_deeppot(trained, solvated, members, positions=None, unit_of_length=0.1):
    """Return what DeepPot gives for these atoms at their images near the ion, and no force else."""
    positions = solvated.positions if positions is None else positions
    r = positions[members] - positions[0]
    if solvated.box is not None:
        for k, (first, second) in enumerate(zip(members[1::2], members[2::2], strict=True), 1):
            assert second == first + 1  # a molecule
            both = r[2 * k - 1 : 2 * k + 1]
            lengths = solvated.box.diagonal()
            images = np.rint(both / lengths)
            nearest = np.linalg.norm(both - images * lengths, axis=1).argmin()
            both -= images[nearest] * lengths
            both[1 - nearest] -= np.rint((both[1 - nearest] - both[nearest]) / lengths) * lengths
    types = [TYPE[atom.element.symbol] for atom in solvated.topology.atoms()]
    energy, forces, _ = trained.potential.eval(
        r.reshape(1, -1) / unit_of_length,
        None,
        np.array(types)[members],
        aparam=np.ones((1, len(members))),
    )
    everywhere = np.zeros_like(positions)
    everywhere[members] = forces[0] * EV / unit_of_length
    return energy[0, 0] * EV, everywhere


def symbols_of(residue):
    return [atom.element.symbol for atom in residue.atoms()]


def members_of(solvated, radius, positions=None):
    """Return the atoms of molecules that are near the ion, atom 0."""
    positions = solvated.positions if positions is None else positions
    d = positions - positions[0]
    if solvated.box is not None:
        d -= np.rint(d / solvated.box.diagonal()) * solvated.box.diagonal()
    near = np.linalg.norm(d, axis=1) < radius
    residue = np.array([atom.residue.index for atom in solvated.topology.atoms()])
    return np.flatnonzero(np.isin(residue, residue[near]))


def assert_same(found, wanted):
    assert found[0] == pytest.approx(wanted[0], rel=1e-11)
    np.testing.assert_allclose(found[1], wanted[1], **FORCES)
