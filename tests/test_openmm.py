# SPDX-License-Identifier: LGPL-3.0-or-later
"""The force on DP regions in OpenMM: what DeepPot gives, and what a simulation does with it."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import openmm as mm
import pytest
from md import BOND, add_residue, solvate
from openmm import app, unit
from regions import (
    EV,
    FORCES,
    KJ,
    NM,
    SITE,
    assert_same,
    evaluate,
    members_of,
    of_deeppot,
    state,
    symbols_of,
)

from deepmd_mask.openmm import DPRegion, dp_force


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("fixed", [True, False])
def test_equals_deeppot_on_the_members(trained, periodic, fixed):
    solvated = solvate(26, periodic=periodic)
    region = SITE.fix(solvated.topology, solvated.positions * NM) if fixed else SITE
    members = members_of(solvated, 0.45)
    assert 10 < len(members) < 50
    force = dp_force(trained.model, solvated.topology, region)
    assert force.usesPeriodicBoundaryConditions() == periodic
    assert len(force.getParticles()) == (len(members) if fixed else 0)
    found = evaluate(solvated, force)
    assert np.abs(found[1]).max() > 10
    assert_same(found, of_deeppot(trained, solvated, members))


def test_forces_are_the_slope_of_the_energy_while_members_stay(trained, solvated):
    force = dp_force(trained.model, solvated.topology, SITE)
    force.setForceGroup(1)
    simulation = solvated.simulation(force)
    _, forces = state(simulation)
    members, step = members_of(solvated, 0.45), 1e-5
    for atom in [*members[:5], *members[-2:]]:
        for axis in range(3):
            energies = []
            for sign in (1, -1):
                moved = solvated.positions.copy()
                moved[atom, axis] += sign * step
                np.testing.assert_array_equal(members_of(solvated, 0.45, moved), members)
                simulation.context.setPositions(moved)
                energies.append(state(simulation)[0])
            slope = (energies[0] - energies[1]) / (2 * step)
            assert forces[atom, axis] == pytest.approx(-slope, rel=1e-5, abs=1e-3)


def test_molecules_across_the_boundary_are_made_whole(trained, solvated):
    """Every atom in any image of its own: the same energy and forces."""
    force = dp_force(trained.model, solvated.topology, SITE)
    images = np.random.default_rng(0).integers(-2, 3, size=solvated.positions.shape)
    scattered = solvated.positions + images @ solvated.box
    wanted = of_deeppot(trained, solvated, members_of(solvated, 0.45))
    assert_same(evaluate(solvated, force, scattered), wanted)


def test_molecule_that_walks_in_and_out(trained, solvated):
    """Its oxygen is its nearest atom; the others are as far away as the box allows."""
    force = dp_force(trained.model, solvated.topology, SITE)
    force.setForceGroup(1)
    simulation = solvated.simulation(force)
    positions = solvated.positions.copy()
    positions[3:] = positions[0] + 0.5 * solvated.box.diagonal()
    seen = []
    for x in (0.46, 0.4501, 0.4499, 0.40, 0.4499, 0.4501, 0.46):
        positions[1] = positions[0] + [x, BOND, 0]
        positions[2] = positions[0] + [x, 0, 0]
        simulation.context.setPositions(positions)
        members = np.array([0, 1, 2] if x < 0.45 else [0])
        assert_same(state(simulation), of_deeppot(trained, solvated, members, positions))
        seen.append(len(members))
    assert seen == [1, 1, 3, 3, 3, 1, 1]


def test_several_regions_add_up(trained, solvated):
    other = DPRegion(centres=[21], radius=0.3, name="other")
    each = [
        evaluate(solvated, dp_force(trained.model, solvated.topology, region))
        for region in (SITE, other)
    ]
    both = dp_force(trained.model, solvated.topology, [SITE, other])
    wanted = each[0][0] + each[1][0], each[0][1] + each[1][1]
    assert_same(evaluate(solvated, both), wanted)


def test_forces_on_named_atoms_only(trained, solvated):
    energy, forces = of_deeppot(trained, solvated, members_of(solvated, 0.45))
    named = [0, 2, 40]
    region = replace(SITE, forces_on=named)
    found = evaluate(solvated, dp_force(trained.model, solvated.topology, region))
    forces[~np.isin(np.arange(len(forces)), named)] = 0
    assert_same(found, (energy, forces))


def test_scale_multiplies_energy_and_forces(trained, solvated):
    force = dp_force(trained.model, solvated.topology, SITE)
    force.setForceGroup(1)
    simulation = solvated.simulation(force)
    energy, forces = state(simulation)
    for scale in (0.5, 0.0, 1.0):
        simulation.context.setParameter("dp_scale", scale)
        assert_same(state(simulation), (scale * energy, scale * forces))


def test_derivative_by_a_parameter(trained, solvated):
    """PythonForce has none, but CustomCVForce has."""
    energy, forces = of_deeppot(trained, solvated, members_of(solvated, 0.45))
    force = mm.CustomCVForce("coupling^2*model")
    force.addCollectiveVariable("model", dp_force(trained.model, solvated.topology, SITE))
    force.addGlobalParameter("coupling", 0.3)
    force.addEnergyParameterDerivative("coupling")
    force.setForceGroup(1)
    simulation = solvated.simulation(force)
    assert_same(state(simulation), (0.09 * energy, 0.09 * forces))
    found = simulation.context.getState(getParameterDerivatives=True, groups={1})
    derivative = found.getEnergyParameterDerivatives()["coupling"]
    assert derivative == pytest.approx(0.6 * energy, rel=1e-11)


def test_units_of_the_model(trained, solvated):
    """As if it had been trained in units of 2 Å and of hartree."""
    region = DPRegion(centres=[0], radius=4.5 * unit.angstrom)
    force = dp_force(
        trained.model,
        solvated.topology,
        region,
        length_unit=2 * unit.angstrom,
        energy_unit=unit.hartree,
    )
    energy, forces = evaluate(solvated, force)
    members = members_of(solvated, 0.45)
    wanted = of_deeppot(trained, solvated, members, unit_of_length=0.2)
    hartree = 2625.4996394799 / EV
    assert energy == pytest.approx(wanted[0] * hartree, rel=1e-9)
    np.testing.assert_allclose(forces, wanted[1] * hartree, rtol=1e-9, atol=1e-8)
    per_mole = dp_force(
        trained.model, solvated.topology, region, energy_unit=unit.kilocalorie_per_mole
    )
    kcal, _ = evaluate(solvated, per_mole)
    wanted, _ = of_deeppot(trained, solvated, members)
    assert kcal == pytest.approx(wanted * 4.184 / EV, rel=1e-11)


def test_candidates_are_all_that_openmm_hands_over(trained, solvated):
    near = members_of(solvated, 0.47)
    assert len(near) < len(solvated.positions)
    force = dp_force(trained.model, solvated.topology, SITE, candidates=near[1::2].tolist())
    assert list(force.getParticles()) == near.tolist()
    wanted = of_deeppot(trained, solvated, members_of(solvated, 0.45))
    assert_same(evaluate(solvated, force), wanted)
    few = dp_force(trained.model, solvated.topology, SITE, candidates=near[1:5].tolist())
    members = np.intersect1d(members_of(solvated, 0.45), near[:5])
    wanted = of_deeppot(trained, solvated, members)
    assert_same(evaluate(solvated, few), wanted)


def with_sites(solvated, name="M", residues=None):
    """Return a topology with an atom without element more in residues, and where those are."""
    topology = app.Topology()
    for residue in solvated.topology.residues():
        atoms = add_residue(topology, residue.name, *symbols_of(residue))
        if residues is None or residue.index in residues:
            topology.addAtom(name, None, atoms[0].residue)
    return topology, np.array([atom.element is None for atom in topology.atoms()])


def test_fixed_members_need_not_be_candidates(trained, solvated):
    region = DPRegion([0], atoms=[0, 1, 2, 5, 6])
    wanted = evaluate(solvated, dp_force(trained.model, solvated.topology, region))
    few = dp_force(trained.model, solvated.topology, region, candidates=[0, 3])
    assert list(few.getParticles()) == region.atoms
    assert_same(evaluate(solvated, few), wanted)


def test_virtual_sites_are_left_out(trained):
    """Those of all molecules lie on the ion, which makes no molecule a member."""
    solvated = solvate(26, periodic=False)
    topology, sites = with_sites(solvated, residues=range(1, 27))
    positions = np.full((len(sites), 3), solvated.positions[0])
    positions[~sites] = solvated.positions
    system = mm.System()
    for site in sites:
        system.addParticle(0.0 if site else 1.0)
    for site in np.flatnonzero(sites).tolist():
        system.setVirtualSite(site, mm.TwoParticleAverageSite(0, site - 1, 1.0, 0.0))
    wanted = of_deeppot(trained, solvated, members_of(solvated, 0.45))
    for options in ({"system": system}, {"types": {"M": None}}):
        force = dp_force(trained.model, topology, SITE, **options)
        added = mm.XmlSerializer.clone(system)
        added.addForce(force)
        platform = mm.Platform.getPlatform("Reference")
        context = mm.Context(added, mm.VerletIntegrator(0.001), platform)
        context.setPositions(positions)
        found = context.getState(getEnergy=True, getForces=True)
        forces = found.getForces(asNumpy=True).value_in_unit(KJ / NM)
        assert_same((found.getPotentialEnergy().value_in_unit(KJ), forces[~sites]), wanted)
        assert not forces[sites].any()


@pytest.mark.parametrize("region", [DPRegion([0], atoms=range(20)), DPRegion([0], 0.4)])
def test_molecule_longer_than_half_the_box(trained, region):
    """As the same molecule without a box."""
    topology = app.Topology()
    residue = topology.addResidue("LIG", topology.addChain())
    carbon = app.Element.getBySymbol("C")
    atoms = [topology.addAtom(f"C{k}", carbon, residue) for k in range(20)]
    for first, second in pairwise(atoms):
        topology.addBond(first, second)
    positions = np.outer(np.arange(20), [0.15, 0, 0])
    found = []
    for box in (None, 4 * np.eye(3)):
        topology.setPeriodicBoxVectors(None if box is None else box * NM)
        force = dp_force(trained.model, topology, region)
        force.setForceGroup(1)
        system = mm.System()
        for _ in atoms:
            system.addParticle(12)
        if box is not None:
            system.setDefaultPeriodicBoxVectors(*box)
        system.addForce(force)
        running = app.Simulation(topology, system, mm.VerletIntegrator(0.001))
        running.context.setPositions(positions)
        found.append(state(running))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-10)
    np.testing.assert_allclose(found[1][1], found[0][1], **FORCES)
