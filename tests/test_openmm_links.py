# SPDX-License-Identifier: LGPL-3.0-or-later
"""Regions that cut bonds: link atoms, single atoms, and the link atoms of OpenMM-ML."""

import csv
from dataclasses import replace

import helpers
import numpy as np
import openmm as mm
import pytest
from jobs import run
from openmm import app, unit
from openmmml import MLPotential
from openmmml.embeddings import utilities
from regions import EV, KJ, NM, state

from deepmd_mask.openmm import DPRegion, RegionReporter, dp_force
from deepmd_mask.openmm.links import LENGTHS, RADII

TYPE_MAP = ["H", "C", "O"]
TO_CARBON = 0.107  # nm, from a link atom
CHAIN = 13


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Train a small model that knows hydrogen, for two steps."""
    directory = tmp_path_factory.mktemp("links")
    system = helpers.write_system(directory / "system", helpers.random_frames(1), TYPE_MAP)
    jdata = helpers.make_input([system], steps=2, model={"type_map": TYPE_MAP})
    helpers.write_input(directory, jdata)
    run([[directory, "train", "input.json"], [directory, "freeze", "-o", "frozen.pb"]])
    return directory / "frozen.pb"


class Chain:
    """A zigzag of carbon atoms along x, each with an oxygen atom, a residue for each pair.

    Attributes
    ----------
    topology, positions
        Carbon atoms have even numbers.
    system
        With masses only.
    box
        [3, 3] or None.
    """

    def __init__(self, box=None, n=CHAIN):
        rng = np.random.default_rng(0)
        self.topology, points, before = app.Topology(), [], None
        chain = self.topology.addChain("A")
        for k in range(n):
            residue = self.topology.addResidue("UNK", chain)
            atoms = [
                self.topology.addAtom(name, app.Element.getBySymbol(name), residue)
                for name in ("C", "O")
            ]
            self.topology.addBond(*atoms)
            if before:
                self.topology.addBond(before, atoms[0])
            before = atoms[0]
            points += [[0.13 * k, 0.04 * (k % 2), 0.0], [0.13 * k, 0.04 * (k % 2), 0.12]]
        self.positions = np.array(points) + rng.uniform(-0.01, 0.01, size=(2 * n, 3))
        self.box = None if box is None else box * np.eye(3)
        self.system = mm.System()
        for atom in self.topology.atoms():
            self.system.addParticle(atom.element.mass)
        if box is not None:
            self.topology.setPeriodicBoxVectors(self.box * unit.nanometer)
            self.system.setDefaultPeriodicBoxVectors(*self.box)

    def simulation(self, force):
        system = mm.XmlSerializer.clone(self.system)
        force.setForceGroup(1)
        system.addForce(force)
        made = app.Simulation(
            self.topology, system, mm.VerletIntegrator(1e-4), mm.Platform.getPlatform("Reference")
        )
        made.context.setPositions(self.positions)
        return made


MIDDLE = DPRegion([6], 0.2, link_atoms=True)  # carbon 6, and the residues next to it


def hydrogens(positions, bonds, length=TO_CARBON):
    inner, outer = positions[np.array(bonds)].transpose(1, 0, 2)
    d = outer - inner
    return inner + length * d / np.linalg.norm(d, axis=1)[:, None]


def of_deeppot(model, types, positions):
    from deepmd.infer import DeepPot

    energy, _, _ = DeepPot(str(model)).eval(
        10 * positions.reshape(1, -1), None, np.array(types), aparam=np.ones((1, len(types)))
    )
    return energy[0, 0] * EV


@pytest.mark.parametrize("box", [None, 3.0])
def test_energy_is_that_of_the_region_with_hydrogen(model, box):
    chain = Chain(box)
    cut = MIDDLE.cut(chain.topology, chain.positions)
    assert cut.atoms.tolist() == [4, 5, 6, 7, 8, 9]
    assert cut.bonds.tolist() == [[4, 2], [8, 10]]
    wanted = hydrogens(chain.positions, [(4, 2), (8, 10)]) - chain.positions[6]
    np.testing.assert_allclose(cut.hydrogens, wanted, rtol=0, atol=1e-12)
    energy, forces = state(chain.simulation(dp_force(model, chain.topology, MIDDLE)))
    everything = np.append(cut.coordinates, cut.hydrogens, axis=0)
    types = [1, 2, 1, 2, 1, 2, 0, 0]
    assert energy == pytest.approx(of_deeppot(model, types, everything), rel=1e-11)
    felt = np.flatnonzero(np.abs(forces).max(axis=1) > 1e-6)
    assert felt.tolist() == [2, 4, 5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("whole_residues", [True, False])
def test_forces_are_the_slope_of_the_energy(model, whole_residues, fixed):
    """On members, and on atoms outside by which link atoms are placed; none is lost."""
    chain = Chain(3.0)
    region = replace(MIDDLE, whole_residues=whole_residues)
    if fixed:
        region = region.fix(chain.topology, chain.positions)
    force = dp_force(model, chain.topology, region)
    assert list(force.getParticles()) == ([2, *range(4, 11)] if fixed else [])
    simulation = chain.simulation(force)
    forces = state(simulation)[1]
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-8 * np.abs(forces).max())
    torque = np.cross(chain.positions, forces).sum(axis=0)
    np.testing.assert_allclose(torque, 0, atol=1e-8 * np.abs(forces).max())
    for atom in (2, 4, 5, 6, 9, 10):
        for axis in range(3):
            energies = []
            for sign in (1, -1):
                moved = chain.positions.copy()
                moved[atom, axis] += sign * 1e-5
                simulation.context.setPositions(moved)
                energies.append(state(simulation)[0])
            slope = (energies[0] - energies[1]) / 2e-5
            assert forces[atom, axis] == pytest.approx(-slope, rel=1e-5, abs=1e-3)


def test_region_of_single_atoms(model):
    chain = Chain(3.0)
    region = DPRegion([6], 0.2, whole_residues=False)
    near = np.flatnonzero(np.linalg.norm(chain.positions - chain.positions[6], axis=1) < 0.2)
    assert near.tolist() == [4, 5, 6, 7, 8, 9] or len(near) < 6
    cut = region.cut(chain.topology, chain.positions)
    assert cut.atoms.tolist() == near.tolist()
    added = replace(region, always=[20], exclude=["HOH"])
    cut = added.cut(chain.topology, chain.positions)
    assert cut.atoms.tolist() == [*near.tolist(), 20]
    few = dp_force(model, chain.topology, region, candidates=[4, 8])
    reported = list(few.getParticles())
    assert reported == [4, 6, 8]


def slopes(simulation, positions, atoms, h=1e-4):
    """Return -dE/dr [n, 3] of these atoms, by 4-point differences."""
    found = np.zeros((len(atoms), 3))
    for row, axis in np.ndindex(found.shape):
        energies = []
        for k in (1, -1, 2, -2):
            moved = positions.copy()
            moved[atoms[row], axis] += k * h
            simulation.context.setPositions(moved)
            energies.append(state(simulation)[0])
        found[row, axis] = (energies[2] - energies[3] - 8 * (energies[0] - energies[1])) / (12 * h)
    return found


@pytest.mark.parametrize("box", [None, 3.5])
@pytest.mark.parametrize("linked", [True, False])
def test_smooth_edge_across_a_chain(model, box, linked):
    """Link atoms come with their residue; bonds that are left open are there as it is."""
    chain = Chain(box)
    region = DPRegion([6], 0.5, link_atoms=linked, buffer=0.3, reference={"UNK": (5.0, 0.5)})
    options = {"candidates": [6, 12]} if linked else {}
    running = chain.simulation(dp_force(model, chain.topology, region, **options))
    _, forces = state(running)
    atoms = [4, 6, 7, 8, 10, 12, 13, 14] if linked else [2, 4, 6, 7, 8, 9, 10, 12]
    assert np.abs(forces[atoms]).max(axis=1).min() > 1e-3
    found = slopes(running, chain.positions, atoms)
    np.testing.assert_allclose(forces[atoms], found, rtol=0, atol=1e-3)


def test_lengths_of_the_users_own(model):
    chain = Chain()
    region = replace(MIDDLE, link_atoms={"C": 1.09 * unit.angstrom})
    cut = region.cut(chain.topology, chain.positions)
    lengths = np.linalg.norm(cut.hydrogens - cut.coordinates[[0, 4]], axis=1)
    np.testing.assert_allclose(lengths, 0.109, rtol=1e-12)
    np.testing.assert_allclose(
        region.fix(chain.topology, chain.positions).cut(chain.topology, chain.positions).hydrogens,
        cut.hydrogens,
    )


def test_lengths_are_those_of_openmm_ml():
    for symbol, radius in RADII.items():
        number = app.Element.getBySymbol(symbol).atomic_number
        assert utilities.COVALENT_RADII[number] == radius * unit.picometer
    assert LENGTHS["C"] == pytest.approx(TO_CARBON)


@pytest.mark.parametrize("box, interpolate", [(None, False), (None, True), (2.4, False)])
def test_same_as_the_link_atoms_of_openmm_ml(model, box, interpolate):
    """Ten carbon atoms of a chain in a box less than twice as long: link atoms are at its ends."""
    chain, alone = Chain(box), Chain()
    region = DPRegion([2], atoms=range(2, 22), link_atoms=True)
    energy, forces = state(alone.simulation(dp_force(model, alone.topology, region)))
    potential = MLPotential("deepmd-mask", modelPath=model)
    system = potential.createMixedSystem(
        chain.topology, chain.system, region.atoms, forceGroup=1, interpolate=interpolate
    )
    platform = mm.Platform.getPlatform("Reference")
    context = mm.Context(system, mm.VerletIntegrator(1e-4), platform)
    context.setPositions(np.append(chain.positions, np.zeros((2, 3)), axis=0))
    context.computeVirtualSites()
    found = context.getState(getEnergy=True, getForces=True)
    assert found.getPotentialEnergy().value_in_unit(KJ) == pytest.approx(energy, rel=1e-9)
    on_atoms = found.getForces(asNumpy=True).value_in_unit(KJ / NM)[: len(forces)]
    np.testing.assert_allclose(on_atoms, forces, rtol=0, atol=1e-6)


def test_reports_and_serialised_systems(model, tmp_path):
    chain = Chain(3.0)
    first = chain.simulation(dp_force(model, chain.topology, MIDDLE))
    again = app.Simulation(
        chain.topology,
        mm.XmlSerializer.deserialize(mm.XmlSerializer.serialize(first.system)),
        mm.VerletIntegrator(1e-4),
        mm.Platform.getPlatform("Reference"),
    )
    again.context.setPositions(chain.positions)
    assert state(again)[0] == state(first)[0]
    again.reporters.append(RegionReporter(tmp_path / "regions.csv", 1))
    again.step(1)
    with open(tmp_path / "regions.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["atoms"] == "6"
    assert float(row["energy"]) == pytest.approx(state(again)[0], abs=1e-4)


def test_forces_on_named_atoms(model):
    """Outer atoms feel link atoms only if they are named, too."""
    chain = Chain()
    _, everything = state(chain.simulation(dp_force(model, chain.topology, MIDDLE)))
    region = replace(MIDDLE, forces_on=[10, 6])
    _, forces = state(chain.simulation(dp_force(model, chain.topology, region)))
    np.testing.assert_allclose(forces[[6, 10]], everything[[6, 10]], atol=1e-9)
    assert not forces[[2, 4, 5, 7, 8, 9]].any()


def test_bonds_that_no_hydrogen_can_end(model, trained):
    chain = Chain()
    message = r"DP region: link atoms are hydrogen, and the model's type map, .* no H; use a model"
    with pytest.raises(ValueError, match=message):
        dp_force(trained.model, chain.topology, MIDDLE.fix(chain.topology, chain.positions))
    moving = chain.simulation(dp_force(trained.model, chain.topology, MIDDLE))
    with pytest.raises(mm.OpenMMException, match=message):
        state(moving)
    whole = DPRegion([6], atoms=range(2 * CHAIN), link_atoms=True)  # no bond is cut
    energy, _ = state(chain.simulation(dp_force(trained.model, chain.topology, whole)))
    open_ends = dp_force(trained.model, chain.topology, replace(whole, link_atoms=False))
    assert energy == state(chain.simulation(open_ends))[0]
    region = DPRegion([0], atoms=[0, 4], link_atoms=True)  # carbon 2 is bonded to both
    with pytest.raises(
        ValueError, match=r"atom 2 is no member, but has bonds to the members 0, 4,"
    ):
        region.cut(chain.topology, chain.positions)
    next(chain.topology.atoms()).element = app.Element.getBySymbol("Zn")
    region = DPRegion([0], atoms=[0, 1], link_atoms=True)
    with pytest.raises(
        ValueError, match=r"bond of atom 0 to atom 2 leaves the region, .* no usual"
    ):
        region.cut(chain.topology, chain.positions)
    own = replace(region, link_atoms={"Zn": 0.15})
    cut = own.cut(chain.topology, chain.positions)
    assert np.linalg.norm(cut.hydrogens[0] - cut.coordinates[0]) == pytest.approx(0.15)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"link_atoms": "yes"}, r"link_atoms is 'yes'; give True, False or lengths"),
        ({"link_atoms": {"c": 0.1}}, r"link_atoms has 'c', which is no element"),
        ({"link_atoms": {"C": -0.1}}, r"link_atoms of C is -0.1; it must be above 0"),
        ({"link_atoms": {"C": 1 * unit.kelvin}}, r"link_atoms of C is .*; it must be above 0"),
        ({"whole_residues": 1}, r"whole_residues is 1; give True or False"),
        ({"hydrogens": None}, r"hydrogens is None; give True or False"),
    ],
)
def test_options_that_cannot_be(options, message):
    chain = Chain()
    with pytest.raises(ValueError, match=message):
        replace(MIDDLE, **options).cut(chain.topology, chain.positions)
