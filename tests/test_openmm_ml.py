# SPDX-License-Identifier: LGPL-3.0-or-later
"""The potential "deepmd-mask" of OpenMM-ML, alone and beside a force field."""

import numpy as np
import openmm as mm
import pytest
from helpers import run_python
from md import Solvated, add_residue, force_field, simulation, solvate
from openmm import app, unit
from openmmml import MLPotential

KJ, NM = unit.kilojoule_per_mole, unit.nanometer
EV = 96.48533212331002  # kJ/mol
TYPE = {"C": 0, "O": 1, "Zn": 2}


@pytest.fixture
def potential(trained):
    return MLPotential("deepmd-mask", modelPath=trained.model)


def of_deeppot(trained, solvated, members):
    """Return energy in kJ/mol and forces in kJ/mol/nm of some atoms in one piece."""
    types = [TYPE[atom.element.symbol] for atom in solvated.topology.atoms()]
    coordinates, mask = 10 * solvated.positions[members].reshape(1, -1), np.ones((1, len(members)))
    energy, forces, _ = trained.potential.eval(
        coordinates, None, np.array(types)[members], aparam=mask
    )
    return energy[0, 0] * EV, forces[0] * EV * 10


def look(simulation):
    found = simulation.context.getState(getEnergy=True, getForces=True)
    forces = found.getForces(asNumpy=True).value_in_unit(KJ / NM)
    return found.getPotentialEnergy().value_in_unit(KJ), forces


def test_whole_system(trained, potential):
    solvated = solvate(8, periodic=False)
    started = simulation(solvated, potential.createSystem(solvated.topology))
    wanted = of_deeppot(trained, solvated, np.arange(17))
    energy, forces = look(started)
    assert energy == pytest.approx(wanted[0], rel=1e-11)
    np.testing.assert_allclose(forces, wanted[1], rtol=0, atol=1e-8)
    started.step(5)


def test_options_of_the_force(trained):
    potential = MLPotential(
        "deepmd-mask", modelPath=trained.model, energy_unit=2 * unit.ev, scale="coupling"
    )
    solvated = solvate(8, periodic=False)
    started = simulation(solvated, potential.createSystem(solvated.topology))
    started.context.setParameter("coupling", 0.25)
    wanted, _ = of_deeppot(trained, solvated, np.arange(17))
    assert look(started)[0] == pytest.approx(wanted / 2, rel=1e-11)


def mixed(potential, solvated, **options):
    """Return the system with the ion and the first molecules of it in the model's hands."""
    return simulation(
        solvated,
        potential.createMixedSystem(
            solvated.topology, solvated.system, range(9), forceGroup=3, **options
        ),
    )


def test_part_of_a_periodic_system(trained, potential):
    """The model stands for what the force field says of the part alone, and for nothing else."""
    solvated = solvate(26)
    started = mixed(potential, solvated)
    found = started.context.getState(getEnergy=True, getForces=True, groups={3})
    of_model = found.getPotentialEnergy().value_in_unit(KJ)
    energy, forces = of_deeppot(trained, solvated, np.arange(9))
    assert of_model == pytest.approx(energy, rel=1e-11)
    on_atoms = found.getForces(asNumpy=True).value_in_unit(KJ / NM)
    np.testing.assert_allclose(on_atoms[:9], forces, rtol=0, atol=1e-8)
    assert not on_atoms[9:].any()

    topology = app.Topology()
    for residue in list(solvated.topology.residues())[:5]:
        atoms = add_residue(
            topology, residue.name, *[atom.element.symbol for atom in residue.atoms()]
        )
        if len(atoms) == 2:
            topology.addBond(*atoms)
    topology.setPeriodicBoxVectors(solvated.topology.getPeriodicBoxVectors())
    part = Solvated(topology, force_field(topology, True), solvated.positions[:9])
    of_force_field = look(solvated.simulation())[0] - look(part.simulation())[0]
    assert look(started)[0] == pytest.approx(of_model + of_force_field, rel=1e-9)


def test_interpolation(trained, potential):
    """From the force field alone, at 0, to the mixed system, at 1; a line between."""
    solvated = solvate(26, periodic=False)
    start = mixed(potential, solvated, interpolate=True)
    energies = []
    for coupling in (0.0, 0.5, 1.0):
        start.context.setParameter("lambda_interpolate", coupling)
        energies.append(look(start)[0])
    assert energies[0] == pytest.approx(look(solvated.simulation())[0], rel=1e-9)
    assert energies[2] == pytest.approx(look(mixed(potential, solvated))[0], rel=1e-9)
    assert energies[1] == pytest.approx((energies[0] + energies[2]) / 2, rel=1e-9)


def test_whole_periodic_system_is_refused(potential):
    with pytest.raises(ValueError, match=r"no periodic images.*createMixedSystem"):
        potential.createSystem(solvate(8).topology)


def test_importing_openmm_ml_does_not_import_tensorflow(tmp_path):
    script = "import sys, openmmml; print('deepmd-mask' in openmmml.MLPotential._implFactories)"
    output = run_python(["-c", f"{script}; print('tensorflow' in sys.modules)"], tmp_path)
    assert output.split() == ["True", "False"]


def test_mixed_system_can_be_serialised(potential):
    start = mixed(potential, solvate(26))
    again = simulation(
        solvate(26), mm.XmlSerializer.deserialize(mm.XmlSerializer.serialize(start.system))
    )
    assert look(again)[0] == look(start)[0]
