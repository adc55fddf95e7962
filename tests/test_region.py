# SPDX-License-Identifier: LGPL-3.0-or-later
"""Which atoms are in a DP region, and how they are put into one piece, against plain loops."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmd_mask.openmm.pieces import minimum_image
from deepmd_mask.openmm.region import Region

FEW = settings(max_examples=40, deadline=None, derandomize=True)
SEEDS = st.integers(0, 2**32 - 1)
IMAGES = np.array(list(itertools.product((-2, -1, 0, 1, 2), repeat=3)))


def random_box(rng):
    """Return a box in OpenMM's reduced form, some of them rectangular."""
    a, b, c = rng.uniform(2.0, 3.0, size=3)
    skew = rng.uniform(-0.5, 0.5, size=3) * rng.integers(2)
    return np.array([[a, 0, 0], [skew[0] * a, b, 0], [skew[1] * a, skew[2] * b, c]])


def random_system(seed, nresidues=40, ncentres=2):
    """Return a box, positions of whole residues and a region on them."""
    rng = np.random.default_rng(seed)
    box = random_box(rng)
    residue = np.repeat(np.arange(nresidues), rng.integers(1, 5, size=nresidues))
    natoms = len(residue)
    middle = rng.uniform(size=(nresidues, 3)) @ box
    positions = middle[residue] + rng.uniform(-0.2, 0.2, size=(natoms, 3))
    region = Region(
        name="site",
        residue=residue,
        bonds=np.zeros((0, 2), int),
        eligible=rng.uniform(size=natoms) < 0.9,
        forces_on=np.full(natoms, True),
        always=np.full(nresidues, False),
        centres=rng.choice(natoms, size=ncentres, replace=False),
        radius=0.5 * box.diagonal().min() * rng.uniform(0.3, 0.9),
    )
    return rng, box, positions, region


def shortest(separation, box):
    """Return the shortest image of a separation [3], from all near ones."""
    images = separation + IMAGES @ box
    return images[np.linalg.norm(images, axis=1).argmin()]


@FEW
@given(SEEDS)
def test_separations_below_half_a_box_are_the_shortest_images(seed):
    rng = np.random.default_rng(seed)
    box = random_box(rng)
    d = rng.uniform(-4, 4, size=(30, 3))
    wanted = np.array([shortest(separation, box) for separation in d])
    near = np.linalg.norm(wanted, axis=1) < box.diagonal().min() / 2
    found = minimum_image(d.copy(), box)
    np.testing.assert_allclose(found[near], wanted[near], rtol=0, atol=1e-12)
    images = (found - d) @ np.linalg.inv(box)
    np.testing.assert_allclose(images, np.rint(images), rtol=0, atol=1e-12)


@FEW
@given(SEEDS, st.integers(1, 4))
def test_members_are_those_of_the_definition(seed, ncentres):
    _, box, positions, region = random_system(seed, ncentres=ncentres)
    residues = {
        region.residue[atom]
        for atom, centre in itertools.product(np.flatnonzero(region.eligible), region.centres)
        if np.linalg.norm(shortest(positions[atom] - positions[centre], box)) < region.radius
    }
    wanted = [a for a in np.flatnonzero(region.eligible) if region.residue[a] in residues]
    np.testing.assert_array_equal(region.members(positions, box), wanted)


@FEW
@given(SEEDS)
def test_atoms_in_any_image_give_the_same_cut_in_one_piece(seed):
    rng, box, positions, region = random_system(seed, ncentres=1)
    atoms, coordinates = region.cut(positions, box)
    scattered = positions + rng.integers(-3, 4, size=positions.shape) @ box
    again = region.cut(scattered, box)
    np.testing.assert_array_equal(again.atoms, atoms)
    np.testing.assert_allclose(again.coordinates, coordinates, rtol=0, atol=1e-12)
    for residue in np.unique(region.residue[atoms]):
        of = region.residue[atoms] == residue
        whole = positions[atoms[of]]
        np.testing.assert_allclose(
            coordinates[of] - coordinates[of][0], whole - whole[0], rtol=0, atol=1e-12
        )
        centre = positions[region.centres[0]]
        distances = [np.linalg.norm(shortest(r - centre, box)) for r in whole]
        nearest = np.linalg.norm(coordinates[of], axis=1).min()
        assert nearest == pytest.approx(min(distances), rel=0, abs=1e-12)


@FEW
@given(SEEDS)
def test_molecule_larger_than_the_box_stays_whole(seed):
    """A chain through many residues, its bonds listed in any order."""
    rng, box, _, region = random_system(seed, ncentres=1)
    natoms = len(region.residue)
    positions = np.cumsum(rng.uniform(-0.3, 0.3, size=(natoms, 3)), axis=0)
    bonds = rng.permutation([(k, k + 1) for k in range(natoms - 1)])
    everything = np.arange(natoms)
    region = replace(region, bonds=bonds, eligible=everything >= 0, fixed=everything)
    scattered = positions + rng.integers(-2, 3, size=positions.shape) @ box
    found = region.cut(scattered, box).coordinates
    wanted = positions - positions[region.centres[0]]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-11)


@FEW
@given(SEEDS)
def test_two_centres_on_both_sides_of_the_boundary(seed):
    """Coordinates are relative to the first centre, also round the second."""
    rng, box, positions, region = random_system(seed)
    axis = rng.integers(3)
    first, second = region.centres
    positions[region.residue == region.residue[first]] = 0.05 * rng.uniform(size=3)
    other = -0.2 * np.eye(3)[axis]
    positions[second] = other + box[axis]
    coordinates = dict(zip(*region.cut(positions, box), strict=True))
    if second in coordinates:
        np.testing.assert_allclose(
            coordinates[second], other - positions[first], rtol=0, atol=1e-12
        )


def test_without_a_box():
    _, _, positions, region = random_system(3, ncentres=1)
    d = positions - positions[region.centres[0]]
    near = (np.linalg.norm(d, axis=1) < region.radius) & region.eligible
    atoms, coordinates = region.cut(positions, None)
    inside = np.isin(region.residue, region.residue[near]) & region.eligible
    np.testing.assert_array_equal(atoms, np.flatnonzero(inside))
    np.testing.assert_array_equal(coordinates, d[atoms])


def test_residues_that_are_always_members():
    _, box, positions, region = random_system(5)
    always = region.always.copy()
    always[[0, 7, 39]] = True
    region = replace(region, radius=1e-3, always=always)
    own = region.residue[region.centres]
    wanted = np.isin(region.residue, [0, 7, 39, *own[region.eligible[region.centres]]])
    members = region.members(positions, box)
    np.testing.assert_array_equal(members, np.flatnonzero(wanted & region.eligible))


def test_radius_beyond_half_the_box():
    _, box, positions, region = random_system(0)
    region = replace(region, radius=0.51 * box.diagonal().min())
    with pytest.raises(ValueError, match=r"site: the radius, .*larger than half of the box"):
        region.cut(positions, box)


def test_member_beyond_half_the_box():
    _, _, positions, region = random_system(0, ncentres=1)
    box = 2 * np.eye(3)
    region = replace(region, fixed=np.arange(len(positions)), radius=0.0)
    corner = positions[region.centres[0]] + 0.95
    positions[region.residue == 20] = corner
    assert region.residue[region.centres[0]] != 20
    with pytest.raises(ValueError, match=r"site: a molecule is 1.6.* not clear which image"):
        region.cut(positions, box)
