# SPDX-License-Identifier: LGPL-3.0-or-later
"""Regions with a smooth edge in OpenMM: whole forces, weights, and what cannot be meant."""

from dataclasses import replace

import numpy as np
import openmm as mm
import pytest
from md import BOND, add_residue, solvate
from openmm import app, unit
from plain_models import ZINC, random_nets, write_model
from regions import EV, KJ, NM, evaluate, state
from smooth import (
    ABRUPT,
    BOUND,
    MODEL,
    REFERENCE,
    REGIONS,
    SMOOTH,
    TYPES,
    force_of,
    grouped,
    laid_out,
)

from deepmd_mask.openmm import DPRegion, dp_force
from deepmd_mask.openmm import edge as edges
from deepmd_mask.openmm.edge import Edge
from deepmd_mask.openmm.labels import Labels
from deepmd_mask.openmm.layout import lay_out


@pytest.fixture(scope="module")
def boxed():
    return solvate(26)


@pytest.fixture(scope="module")
def droplet():
    return solvate(26, periodic=False)


def fractions(solvated, region, positions=None):
    """Return how many residues have a weight between 0 and 1."""
    positions = solvated.positions if positions is None else positions
    found = laid_out(solvated, region)
    atoms = found.members(positions, solvated.box)
    w = found.weights(atoms, positions, solvated.box).w
    return np.count_nonzero((w > 1e-3) & (w < 1 - 1e-3))


def slope(running, positions, direction):
    """Return dE/dt at positions + t direction, by 4-point differences."""
    h, energies = 1e-4, []
    for k in (1, -1, 2, -2):
        running.context.setPositions(positions + k * h * direction)
        energies.append(state(running)[0])
    return (8 * (energies[0] - energies[1]) - (energies[2] - energies[3])) / (12 * h)


def worst_slope(solvated, force, atoms):
    """Return by how much a force differs from differences, on all axes of these atoms."""
    running, worst = solvated.simulation(grouped(force)), 0.0
    _, forces = state(running)
    for atom in atoms:
        for axis in range(3):
            direction = np.zeros_like(forces)
            direction[atom, axis] = 1
            found = -slope(running, solvated.positions, direction)
            worst = max(worst, abs(forces[atom, axis] - found))
    return worst


def virials(solvated, force):
    """Return the virial [3, 3] in eV of the forces of a droplet, and of its energy under strain."""
    running = solvated.simulation(grouped(force))
    positions, (_, forces) = solvated.positions, state(running)
    of_strain = np.zeros((3, 3))
    for a, b in np.ndindex(3, 3):
        direction = np.zeros_like(positions)
        direction[:, b] = positions[:, a]
        of_strain[a, b] = -slope(running, positions, direction)
    return positions.T @ forces / EV, of_strain / EV


@pytest.mark.parametrize("name", REGIONS)
@pytest.mark.parametrize("system", ["boxed", "droplet"])
def test_forces_are_the_slope_of_the_energy(system, name, request):
    """Ten residues or more are in the buffer."""
    solvated, regions = request.getfixturevalue(system), REGIONS[name]
    first = regions if isinstance(regions, DPRegion) else regions[0]
    assert fractions(solvated, first) >= 10
    atoms = [0, 1, 2, 7, 8, 9, 10, 12, 31, 32]
    assert worst_slope(solvated, force_of(solvated, regions), atoms) < BOUND


@pytest.mark.parametrize("name", REGIONS)
def test_virial_is_that_of_strain(droplet, name):
    """Of whole forces, those of the weights and the reaction on centres included, all atoms."""
    of_forces, of_strain = virials(droplet, force_of(droplet, REGIONS[name]))
    assert np.abs(of_strain).max() > 1
    np.testing.assert_allclose(of_forces, of_strain, rtol=0, atol=1e-7)


def test_without_the_forces_of_weights_they_are_not(droplet, monkeypatch):
    """The control of the two tests before."""
    monkeypatch.setattr(edges.Weights, "forces", lambda self, entering: iter(()))
    assert worst_slope(droplet, force_of(droplet, SMOOTH), [0, 1, 2, 7, 8]) > 100 * BOUND
    of_forces, of_strain = virials(droplet, force_of(droplet, SMOOTH))
    assert np.abs(of_forces - of_strain).max() > 1


def test_no_net_force_and_no_torque(droplet):
    for regions in REGIONS.values():
        _, forces = evaluate(droplet, force_of(droplet, regions))
        forces, positions = forces / (10 * EV), 10 * droplet.positions  # eV/Å, Å
        assert np.abs(forces).max() > 0.1
        np.testing.assert_allclose(forces.sum(axis=0), 0, rtol=0, atol=1e-10)
        np.testing.assert_allclose(np.cross(positions, forces).sum(axis=0), 0, atol=1e-10)


def test_energy_goes_on_when_a_residue_enters(droplet):
    """In steps of 1e-5 nm along the way of a molecule, through the radius and the inner border."""
    positions = droplet.positions.copy()
    positions[3:] += [9, 0, 0]
    force = force_of(droplet, SMOOTH)
    force.setForceGroup(1)
    running = droplet.simulation(force)
    found, slopes = {}, {}
    for border in (SMOOTH.radius, SMOOTH.radius - SMOOTH.buffer):
        for k in range(-3, 4):
            x = border + 1e-5 * k
            positions[1] = positions[0] + [x, BOND, 0]
            positions[2] = positions[0] + [x, 0, 0]
            running.context.setPositions(positions)
            found[border, k], forces = state(running)
            slopes[border, k] = forces[1:3, 0].sum()
        steps = np.diff([found[border, k] for k in range(-3, 4)])
        assert np.abs(steps).max() < 1e-3
        assert np.ptp([slopes[border, k] for k in range(-3, 4)]) < 1
    alone = ABRUPT
    abrupt = droplet.simulation(grouped(force_of(droplet, alone)))
    running.context.setPositions(positions)
    jump = []
    for x in (SMOOTH.radius - 1e-5, SMOOTH.radius + 1e-5):
        positions[1:3] = positions[0] + [[x, BOND, 0], [x, 0, 0]]
        abrupt.context.setPositions(positions)
        jump.append(state(abrupt)[0])
    assert abs(jump[1] - jump[0]) > 10


def test_buffer_without_residues_is_the_abrupt_region(boxed):
    """The same bits of forces; the energy differs by Phi alone."""
    narrow = replace(SMOOTH, buffer=1e-9)
    abrupt = ABRUPT
    energy, forces = evaluate(boxed, force_of(boxed, abrupt))
    found = evaluate(boxed, force_of(boxed, narrow))
    np.testing.assert_array_equal(found[1], forces)
    members = laid_out(boxed, abrupt).members(boxed.positions, boxed.box)
    W = {"ZN": 1, "CO": (len(members) - 1) // 2}
    Phi = sum(REFERENCE[kind][0] * n + REFERENCE[kind][1] * n**2 / 2 for kind, n in W.items())
    assert found[0] == pytest.approx(energy - Phi, rel=1e-12)


def weight_by_loops(d, radius, buffer):
    """Return w_R, by the formula, for distances [natoms, ncentres]."""
    product = 1.0
    for distance in np.ravel(d):
        x = min(max((distance - radius + buffer) / buffer, 0), 1)
        product *= 1 - (1 - 10 * x**3 + 15 * x**4 - 6 * x**5)
    return 1 - product


@pytest.mark.parametrize("centres", [[0], [0, 9]])
def test_weights_are_those_of_the_definition(boxed, centres):
    region = laid_out(boxed, replace(SMOOTH, centres=centres, always=[30]))
    members = region.members(boxed.positions, boxed.box)
    w = region.weights(members, boxed.positions, boxed.box).w
    for residue in range(len(w)):
        atoms = np.flatnonzero(region.residue == residue)
        d = boxed.positions[atoms, None] - boxed.positions[centres]
        d -= np.rint(d / boxed.box[0, 0]) * boxed.box[0, 0]
        wanted = weight_by_loops(np.linalg.norm(d, axis=2), 0.47, 0.3)
        wanted = 1 if residue == region.residue[30] else wanted
        assert w[residue] == pytest.approx(wanted, rel=0, abs=1e-12)
    assert w[region.residue[0]] == 1


def test_weights_near_the_borders_are_exact():
    """Relative to w outside, and to 1 - w inside, where slopes are small, not nothing."""
    edge = Edge(0.1, ["A"], np.zeros(1, int), np.zeros((1, 4)), np.full(1, False))
    always = np.full(1, False)
    for t in (1e-3, 1e-6, 1e-9):
        d = np.array([[0.5 - 0.1 * t, 0, 0]])
        w, slope = edge.weigh(d, np.zeros(1, int), always, 0.5)
        assert w[0] == pytest.approx(10 * t**3, rel=2e-3, abs=0)
        assert slope[0, 0] == pytest.approx(-300 * t**2, rel=3e-3, abs=0)
        w, slope = edge.weigh(d - [[0.1 - 0.2 * t, 0, 0]], np.zeros(1, int), always, 0.5)
        assert slope[0, 0] == pytest.approx(-300 * t**2, rel=3e-3, abs=0)


# ---- Links, chains ------------------------------------------------------------------------------


def chain(box=None):
    """Return a topology of three residues in a chain, C-O-C-O, and one apart."""
    topology, last = app.Topology(), None
    for k in range(4):
        carbon, oxygen = add_residue(topology, "CO", "C", "O")
        topology.addBond(carbon, oxygen)
        if last is not None and k < 3:
            topology.addBond(last, carbon)
        last = oxygen
    return topology


def test_residues_of_a_chain(tmp_path):
    """Open bonds are smooth; link atoms are not where a residue beyond can enter."""
    topology = chain()
    region = DPRegion([0], 0.5, buffer=0.2, reference={"CO": (1, 0)}, always=[0])
    dp_force(MODEL, topology, region)
    message = (
        r"atom 1, O of residue A:CO:1, and atom 2, C of residue A:CO:2, is cut, the hydrogen .* "
        "comes and goes at once .* make both residues members with always"
    )
    with pytest.raises(ValueError, match=message):
        lay_out(replace(region, link_atoms=True), Labels.of(topology))
    smooth = lay_out(replace(region, link_atoms=True, always=[0, 2, 4]), Labels.of(topology))
    assert smooth.edge is not None
    labels = Labels.of(topology)
    assert lay_out(replace(region, link_atoms=True), labels, candidates=[0]).edge is not None


def test_one_name_for_residues_of_other_atoms():
    topology = app.Topology()
    for symbols in ("C", "CO", "CO", "COO"):
        add_residue(topology, "LIG", *symbols)
    region = DPRegion([0], 0.5, buffer=0.2, reference={"LIG": (1, 0)})
    message = "residues A:LIG:2 and A:LIG:4 have the name LIG, and one reference, but not the same"
    with pytest.raises(ValueError, match=message):
        dp_force(MODEL, topology, region)
    dp_force(MODEL, topology, replace(region, always=[6]))


# ---- Input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        ({"reference": None}, r"a buffer needs a reference, .* take region.calibrate\(model"),
        ({"reference": {"HOH": (1, 2)}}, "with the names of residues of this topology"),
        ({"buffer": None}, "a reference is for residues that enter by degrees; give a buffer"),
        ({"buffer": 0.5}, "the buffer, 0.5 nm, is wider than the radius, 0.47 nm"),
        ({"buffer": 0.0}, "the buffer is 0.0; it must be above 0"),
        ({"buffer": -0.1}, "the buffer is -0.1; it must be above 0"),
        ({"buffer": "wide"}, "the buffer is 'wide'; it must be above 0"),
        ({"buffer": np.nan}, "the buffer is nan; it must be above 0"),
        ({"forces_on": [0]}, "energy is conserved, which forces on some atoms only would undo"),
        ({"reference": (1, 2)}, r"reference is \(1, 2\); it takes energies by names of residues"),
        ({"reference": {"CO": 3}}, "reference has 3 for 'CO'; it takes energies"),
        ({"reference": {"CO": (1, np.inf)}}, r"reference has \(1, inf\) for 'CO'"),
        ({"reference": {"CO": (1 * NM, 2)}}, "reference has .* for 'CO'"),
    ],
)
def test_edges_that_cannot_be_meant(droplet, change, message):
    with pytest.raises(ValueError, match=message):
        force_of(droplet, replace(SMOOTH, **change))


def test_reference_in_units(droplet):
    wanted, _ = evaluate(droplet, force_of(droplet, SMOOTH))
    kj = {"CO": (20 * KJ, -1.5 * KJ), "ZN": (3 / EV * unit.ev, 0.5)}
    found, _ = evaluate(droplet, force_of(droplet, replace(SMOOTH, reference=kj)))
    assert found == pytest.approx(wanted, rel=1e-6)


def test_kind_without_reference_that_enters(droplet):
    """At once when it does; members for certain need none."""
    topology = app.Topology()
    for residue in droplet.topology.residues():
        name = "X" if residue.index == 3 else residue.name
        add_residue(topology, name, *(atom.element.symbol for atom in residue.atoms()))
    region = replace(SMOOTH, reference={"CO": (1, 0)})
    changed = droplet._replace(topology=topology)
    message = "residue A:X:4 enters, and the reference has nothing for X, only for CO; keep it out"
    with pytest.raises(mm.OpenMMException, match=message):
        evaluate(changed, force_of(changed, region))
    for change in ({"always": [5]}, {"exclude": ["X"]}):
        evaluate(changed, force_of(changed, replace(region, **change)))


def test_fixed_atoms_have_no_edge(droplet):
    fixed = SMOOTH.fix(droplet.topology, droplet.positions, **TYPES)
    abrupt = replace(fixed, buffer=None, reference=None)
    found = [evaluate(droplet, force_of(droplet, region)) for region in (fixed, abrupt)]
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_built_in_models_are_refused(droplet, tmp_path):
    nets = random_nets(2, **ZINC | {"fitting_neuron": [8]})
    builtin = write_model(tmp_path / "plain.pb", nets, ["C", "O"])
    with pytest.raises(ValueError, match=r"plain.pb .*built-in.* dp-mask convert"):
        dp_force(builtin, droplet.topology, SMOOTH, **TYPES)
    dp_force(builtin, droplet.topology, ABRUPT, **TYPES)
