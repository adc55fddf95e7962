# SPDX-License-Identifier: LGPL-3.0-or-later
"""Regions with a smooth edge in OpenMM: whole forces, what is conserved, references, reports."""

import csv
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm as mm
import pytest
from md import BOND, add_residue, simulation, solvate
from openmm import app, unit
from plain_models import ZINC, random_nets, write_model
from regions import EV, KJ, NM, evaluate, state

from deepmd_mask.openmm import DPRegion, RegionReporter, dp_force
from deepmd_mask.openmm import edge as edges
from deepmd_mask.openmm.edge import Edge
from deepmd_mask.openmm.labels import Labels
from deepmd_mask.openmm.layout import lay_out
from deepmd_mask.openmm.making import make_term

SEEDS = Path(__file__).parent / "fuzz" / "seeds"
MODEL = SEEDS / "plain-frozen.pb"
TYPES = {"types": {"Zn": "C"}}  # the model knows C and O
REFERENCE = {"CO": (20.0, -1.5), "ZN": (3.0, 0.5)}
SMOOTH = DPRegion([0], 0.47, buffer=0.3, reference=REFERENCE)
ABRUPT = replace(SMOOTH, buffer=None, reference=None)
BOUND = 1e-6 * EV * 10  # 1e-6 eV/Å in kJ/mol/nm


@pytest.fixture(scope="module")
def boxed():
    return solvate(26)


@pytest.fixture(scope="module")
def droplet():
    return solvate(26, periodic=False)


def laid_out(solvated, region):
    return lay_out(region, Labels.of(solvated.topology, **TYPES))


def fractions(solvated, region, positions=None):
    """Return how many residues have a weight between 0 and 1."""
    positions = solvated.positions if positions is None else positions
    found = laid_out(solvated, region)
    atoms = found.members(positions, solvated.box)
    w = found.weights(atoms, positions, solvated.box).w
    return np.count_nonzero((w > 1e-3) & (w < 1 - 1e-3))


def force_of(solvated, regions, **options):
    return dp_force(MODEL, solvated.topology, regions, **TYPES, **options)


def worst_slope(solvated, force, atoms):
    """Return by how much a force differs from 4-point differences, on all axes of these atoms."""
    force.setForceGroup(1)
    running = solvated.simulation(force)
    _, forces = state(running)
    h, worst = 1e-4, 0.0
    for atom in atoms:
        for axis in range(3):
            energies = []
            for k in (1, -1, 2, -2):
                moved = solvated.positions.copy()
                moved[atom, axis] += k * h
                running.context.setPositions(moved)
                energies.append(state(running)[0])
            slope = (8 * (energies[0] - energies[1]) - (energies[2] - energies[3])) / (12 * h)
            worst = max(worst, abs(forces[atom, axis] + slope))
    return worst


REGIONS = {
    "one centre": SMOOTH,
    "two centres": replace(SMOOTH, centres=[0, 9], radius=0.4),
    "two regions": [SMOOTH, DPRegion([9], 0.42, buffer=0.25, reference=REFERENCE, name="other")],
    "heavy atoms": replace(SMOOTH, hydrogens=False, always=[12]),
    "single atoms": replace(
        SMOOTH, whole_residues=False, reference={"C": (20, -1), "O": (8.0, 0.3)}
    ),
}


@pytest.mark.parametrize("name", REGIONS)
@pytest.mark.parametrize("system", ["boxed", "droplet"])
def test_forces_are_the_slope_of_the_energy(system, name, request):
    """Ten residues or more are in the buffer."""
    solvated, regions = request.getfixturevalue(system), REGIONS[name]
    first = regions if isinstance(regions, DPRegion) else regions[0]
    assert fractions(solvated, first) >= 10
    atoms = [0, 1, 2, 7, 8, 9, 10, 12, 31, 32]
    assert worst_slope(solvated, force_of(solvated, regions), atoms) < BOUND


def test_without_the_forces_of_weights_they_are_not(droplet, monkeypatch):
    """The control of the test before."""
    monkeypatch.setattr(edges.Weights, "forces", lambda self, entering: iter(()))
    assert worst_slope(droplet, force_of(droplet, SMOOTH), [0, 1, 2, 7, 8]) > 100 * BOUND


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


def grouped(force):
    force.setForceGroup(1)
    return force


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


# ---- Calibration ---------------------------------------------------------------------------------


def frames_of(solvated, number=8, seed=3):
    rng = np.random.default_rng(seed)
    shape = (number, len(solvated.positions), 3)
    return solvated.positions + rng.normal(scale=0.02, size=shape)


@pytest.mark.parametrize("system", ["boxed", "droplet"])
def test_calibration(system, request):
    """Of what residues in the buffer give, by differences of the energy, a straight line."""
    solvated = request.getfixturevalue(system)
    frames = frames_of(solvated)
    blank = replace(SMOOTH, reference=None, exclude=["ZN"], always=[], centres=[1])
    found = blank.calibrate(MODEL, solvated.topology, frames, **TYPES)
    assert list(found.reference) == ["CO"]
    alpha, _, least, most = found.reference["CO"]
    W, costs = costs_of(solvated, found, frames)
    assert len(W) > 50
    assert least == W.min() and most == W.max()
    assert abs(costs.mean()) < 1e-8 * abs(alpha)  # what is left of a straight line
    assert abs((costs * W).mean()) < 1e-8 * abs(alpha) * W.max()
    boxes = None if solvated.box is None else [solvated.box * NM] * len(frames)
    for others in ((frames * NM, solvated.box), (list(frames), boxes)):
        again = blank.calibrate(MODEL, solvated.topology, *others, **TYPES)
        assert again.reference == found.reference


def costs_of(solvated, region, frames):
    """Return W, and what residues in the buffer pay for entering, in all frames."""
    term = make_term(MODEL, solvated.topology, region, **TYPES)
    found = [next(term.parts(positions, solvated.box)).entering for positions in frames]
    kind = term.regions[0].edge.kinds.index("CO")
    W = np.repeat([one.W[kind] for one in found], [len(one.costs) for one in found])
    return W, np.concatenate([one.costs for one in found])


@pytest.mark.parametrize(
    "change, frames, message",
    [
        (
            {"buffer": None, "reference": None},
            None,
            "a region with a smooth edge; it has no buffer",
        ),
        ({"atoms": [0, 1, 2]}, None, "a region with a smooth edge; fixed atoms do not enter"),
        ({"buffer": 1e-6}, None, "in 8 frames no residue is in the buffer, between radius"),
        ({}, [], "in 0 frames no residue is in the buffer"),
        ({}, 5, "frames is a int; give a list of positions"),
        ({}, [np.zeros((3, 3))], r"frame 0: positions must be finite, of the shape \(53, 3\)"),
    ],
)
def test_calibrations_that_cannot_be(droplet, change, frames, message):
    frames = frames_of(droplet) if frames is None else frames
    with pytest.raises(ValueError, match=message):
        replace(SMOOTH, **change).calibrate(MODEL, droplet.topology, frames, **TYPES)


def test_calibration_on_too_little(droplet):
    with pytest.raises(ValueError, match=r"too few or too alike to tell .* give more frames"):
        SMOOTH.calibrate(MODEL, droplet.topology, [droplet.positions] * 3, **TYPES)


def test_boxes_of_frames(boxed):
    with pytest.raises(ValueError, match="2 boxes for 8 frames; give one for each, or one"):
        SMOOTH.calibrate(MODEL, boxed.topology, frames_of(boxed), [boxed.box] * 2, **TYPES)


# ---- Simulations ---------------------------------------------------------------------------------


def test_serialised(boxed):
    force = grouped(force_of(boxed, REGIONS["two regions"]))
    started = boxed.simulation(force)
    wanted = state(started)
    xml = mm.XmlSerializer.serialize(started.system)
    again = state(simulation(boxed, mm.XmlSerializer.deserialize(xml)))
    assert again[0] == wanted[0]
    np.testing.assert_array_equal(again[1], wanted[1])
    # What knows no edges must not read one as abrupt, and can read what has none.
    terms = (make_term(MODEL, boxed.topology, region, **TYPES) for region in (SMOOTH, ABRUPT))
    assert [term.__getstate__()["layout"] for term in terms] == [2, 1]


def test_candidates(boxed):
    wanted = evaluate(boxed, force_of(boxed, SMOOTH))
    near = laid_out(boxed, replace(SMOOTH, radius=0.5)).members(boxed.positions, boxed.box)
    found = evaluate(boxed, force_of(boxed, SMOOTH, candidates=near.tolist()))
    assert found[0] == wanted[0]
    np.testing.assert_array_equal(found[1], wanted[1])


def drift(solvated, regions):
    """Return the range of the total energy over 300 steps of 0.5 fs, over the kinetic energy."""
    running = solvated.simulation(force_of(solvated, regions))
    running.context.setVelocitiesToTemperature(200, 1)
    total, kinetic = [], []
    for _ in range(60):
        running.step(5)
        found = running.context.getState(getEnergy=True)
        kinetic.append(found.getKineticEnergy()._value)
        total.append(found.getPotentialEnergy()._value + kinetic[-1])
    return np.ptp(total) / np.mean(kinetic)


def test_energy_is_conserved_while_residues_come_and_go(droplet, monkeypatch):
    """And is not by an abrupt edge, nor without the forces of the weights, which are large here."""
    region = replace(SMOOTH, reference={"CO": (0, 0)})
    smooth = drift(droplet, region)
    abrupt = drift(droplet, ABRUPT)
    monkeypatch.setattr(edges.Weights, "forces", lambda self, entering: iter(()))
    without = drift(droplet, region)
    assert smooth < 0.02
    assert abrupt > 5 * smooth and without > 5 * smooth, (smooth, abrupt, without)


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_reporter(droplet, tmp_path, caplog):
    """Its numbers are those of a calibration; W beyond what was fitted is one warning."""
    frames = frames_of(droplet)
    region = SMOOTH.calibrate(MODEL, droplet.topology, frames, **TYPES)
    running = droplet.simulation(force_of(droplet, region))
    running.reporters.append(RegionReporter(tmp_path / "regions.csv", 1))
    with caplog.at_level(logging.WARNING, "deepmd.mask"):
        running.step(1)
    assert not caplog.messages
    (row,) = rows(tmp_path / "regions.csv")
    now = running.context.getState(getPositions=True).getPositions(asNumpy=True)._value
    _, costs = costs_of(droplet, region, [now])
    assert float(row["cost"]) == pytest.approx(costs.mean(), abs=1e-3)
    assert float(row["spread"]) == pytest.approx(costs.std(), abs=1e-3)
    least, most = region.reference["CO"][2:]
    assert least < float(row["W"]) < most
    alpha, beta = region.reference["CO"][:2]
    few = replace(region, reference={"CO": (alpha, beta, 0.0, 1.0)})
    running = droplet.simulation(force_of(droplet, [few, ABRUPT]))
    running.reporters.append(RegionReporter(tmp_path / "others.csv", 1))
    with caplog.at_level(logging.WARNING, "deepmd.mask"):
        running.step(2)
    (message,) = caplog.messages
    assert "W of CO is" in message and "fitted from 0.000 to 1.000; calibrate" in message
    assert [bool(row["W"]) for row in rows(tmp_path / "others.csv")] == [True, False] * 2


def test_reporter_of_an_abrupt_region_is_what_it_was(droplet, tmp_path):
    path = tmp_path / "regions.csv"
    running = droplet.simulation(force_of(droplet, ABRUPT))
    running.reporters.append(RegionReporter(path, 1))
    running.step(1)
    assert path.read_text().splitlines()[0] == "step,region,atoms,energy,residues"
    smooth = droplet.simulation(force_of(droplet, SMOOTH))
    smooth.reporters.append(RegionReporter(path, 1, append=True))
    with pytest.raises(ValueError, match=r"regions.csv has the columns step, .* give another"):
        smooth.step(1)


def test_minimisation(droplet):
    """To where forces end, which an abrupt region does not let it come to."""
    region = SMOOTH.calibrate(MODEL, droplet.topology, frames_of(droplet), **TYPES)
    running = droplet.simulation(force_of(droplet, region))
    mm.LocalEnergyMinimizer.minimize(running.context, tolerance=1.0, maxIterations=2000)
    found = running.context.getState(getForces=True).getForces(asNumpy=True)._value
    assert np.sqrt(np.mean(found**2)) < 2
