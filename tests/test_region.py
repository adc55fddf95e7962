# SPDX-License-Identifier: LGPL-3.0-or-later
"""Which atoms are in a DP region, and how they are put into one piece, against plain loops."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmd_mask.openmm.images import minimum_image, nearest_image
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
    eligible = rng.uniform(size=natoms) < 0.9
    region = Region(
        name="site",
        residue=residue,
        bonds=np.zeros((0, 2), int),
        eligible=eligible,
        telling=eligible,
        forces_on=np.full(natoms, True),
        always=np.full(nresidues, False),
        centres=rng.choice(natoms, size=ncentres, replace=False),
        radius=box.diagonal().min()
        * rng.uniform(0.02, 0.07),  # so that a region is never too large
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
    positions[region.residue == region.residue[second]] += other + box[axis] - positions[second]
    coordinates = dict(zip(*region.cut(positions, box), strict=True))
    if second in coordinates and region.residue[first] != region.residue[second]:
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


# ---- Regions that are large for their box --------------------------------------------------------


class Cluster:
    """Chains, rings and single atoms, some next to the ends of chains, and a box for them.

    Attributes
    ----------
    positions
        [natoms, 3], as they are meant.
    bonds, piece
        As in Region and Pieces.
    box
        Large enough for the cluster, or nearly so, or not.
    """

    def __init__(self, seed):
        self.rng = rng = np.random.default_rng(seed)
        self.box = random_box(rng) * rng.uniform(0.3, 1.2)
        points, bonds, pieces = [], [], []
        for k in range(rng.integers(1, 6)):
            middle = points[rng.integers(len(points))] if points else np.zeros(3)
            middle = middle + rng.uniform(-0.4, 0.4, size=3)
            n, first = rng.integers(1, 9), len(points)
            if rng.uniform() < 0.3:  # a ring
                angle = 2 * np.pi * np.arange(n) / n
                found = 0.06 * n * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
                bonds += [(first + j, first + (j + 1) % n) for j in range(n)] if n > 2 else []
                n = n if n > 2 else 1
                found = found[:n]
            else:
                step = rng.normal(size=3)
                steps = 0.1 * step / np.linalg.norm(step) + rng.uniform(-0.05, 0.05, size=(n, 3))
                found = np.cumsum(steps, axis=0)
                bonds += [(first + j, first + j + 1) for j in range(n - 1)]
            points += list(middle + found)
            pieces += [k] * len(found)
        order = rng.permutation(len(points))
        self.positions = np.array(points)[order]
        self.piece = np.array(pieces)[order]
        self.bonds = np.argsort(order)[np.array(bonds, int).reshape(-1, 2)]

    def region(self):
        natoms = len(self.positions)
        everything = np.arange(natoms)
        return Region(
            name="site",
            residue=self.rng.integers(3, size=natoms),
            bonds=self.bonds,
            eligible=everything >= 0,
            telling=everything >= 0,
            forces_on=everything >= 0,
            always=np.full(3, False),
            centres=self.rng.choice(natoms, size=self.rng.integers(1, 3)),
            radius=0.0,
            fixed=everything,
        )

    def fits(self, x):
        """Tell whether no two pieces are nearer through the box than at x; by trying all images."""
        images = MORE_IMAGES @ self.box
        for p, q in itertools.combinations(np.unique(self.piece), 2):
            d = x[self.piece == p][:, None] - x[self.piece == q]
            nearest = np.linalg.norm(d + images[:, None, None], axis=-1).min()
            if nearest < np.linalg.norm(d, axis=-1).min() * (1 - 1e-7):
                return False
        return True


MORE_IMAGES = np.array(list(itertools.product(range(-3, 4), repeat=3)))


@settings(FEW, max_examples=300)
@given(SEEDS)
def test_a_region_is_that_of_a_large_box_or_an_error(seed):
    check_cluster(seed)


def check_cluster(seed):
    """Return whether the cluster fits into its box."""
    cluster = Cluster(seed)
    region, wanted = cluster.region(), cluster.positions
    in_large_box = region.cut(wanted, 100 * np.eye(3)).coordinates
    np.testing.assert_allclose(in_large_box, wanted - wanted[region.centres[0]], atol=1e-11)
    scattered = wanted + cluster.rng.integers(-2, 3, size=wanted.shape) @ cluster.box
    fits = cluster.fits(wanted)
    longest = cluster.box.diagonal().min() / 2
    if (np.linalg.norm(np.diff(wanted[cluster.bonds], axis=1), axis=2) >= longest).any():
        return fits  # bonds that no one can follow
    try:
        found = region.cut(scattered, cluster.box).coordinates
    except ValueError as error:
        assert not fits
        assert re.search(
            r"site: atoms \d+ and \d+ are .* through the box, so the region", str(error)
        )
        return fits
    if fits:
        np.testing.assert_allclose(found, in_large_box, atol=1e-11)
    assert cluster.fits(found)
    return fits


def chain(box, bonded=True):
    """Return a region of 12 carbon atoms, 0.13 nm apart, and zinc 0.2 nm beyond; its positions."""
    x = np.r_[0.13 * np.arange(12), 0.13 * 11 + 0.2]
    everything = np.arange(13)
    region = Region(
        name="chain",
        residue=np.r_[np.zeros(12, int), 1],
        bonds=np.array([(k, k + 1) for k in range(12 if bonded else 11)]),
        eligible=everything >= 0,
        telling=everything >= 0,
        forces_on=everything >= 0,
        always=np.full(2, False),
        centres=np.array([0]),
        radius=0.0,
        fixed=everything,
    )
    return region, np.mod(np.outer(x, [1.0, 0, 0]) + 0.7, box)


def test_zinc_at_the_end_of_a_chain():
    """It was seen at the other end, where it is nearer to the centre, 2.4 nm from its neighbour."""
    wanted = np.r_[0.13 * np.arange(12), 0.13 * 11 + 0.2]
    for box, bonded in itertools.product((1.9, 2.6, 3.3), (True, False)):
        region, positions = chain(box, bonded)
        found = region.cut(positions, box * np.eye(3)).coordinates
        np.testing.assert_allclose(found[:, 0], wanted, rtol=0, atol=1e-12)
    region, positions = chain(1.75, bonded=False)  # there it is nearer to the first atom
    found = region.cut(positions, 1.75 * np.eye(3)).coordinates
    np.testing.assert_allclose(found[12, 0], -0.12, rtol=0, atol=1e-12)


def test_row_of_atoms_round_the_box():
    """Each is next to the one before it, and the last one next to the first, through the box."""
    region, _ = chain(1.0)
    everything = np.arange(13)
    region = replace(region, bonds=np.zeros((0, 2), int))
    positions = np.outer(everything, [0.2, 0.0, 0.0])
    found = region.cut(positions, np.diag([5.5, 1.0, 1.0])).coordinates
    np.testing.assert_allclose(found, positions, rtol=0, atol=1e-12)
    message = r"chain: atoms \d+ and \d+ are 2.* apart in the region, but 0\.2 through the box, so"
    with pytest.raises(ValueError, match=message):
        region.cut(positions, np.diag([2.6, 1.0, 1.0]))


def test_molecule_that_goes_round_the_box():
    everything = np.arange(20)
    region, _ = chain(1.0)
    region = replace(
        region,
        residue=0 * everything,
        bonds=np.array([(k, (k + 1) % 20) for k in everything]),
        eligible=everything >= 0,
        fixed=everything,
    )
    positions = np.outer(everything, [0.13, 0.0, 0.0])
    with pytest.raises(ValueError, match=r"chain: the bond between atoms \d+ and \d+ closes"):
        region.cut(positions, np.diag([2.6, 4, 4]))


def test_member_beyond_half_the_box():
    _, _, positions, region = random_system(0, ncentres=1)
    box = 2 * np.eye(3)
    region = replace(region, fixed=np.arange(len(positions)), radius=0.0)
    with pytest.raises(ValueError, match=r"site: atoms .* apart in the region, but .* through the"):
        region.cut(positions, box)


@FEW
@given(SEEDS, st.floats(0.05, 1.0))
def test_nearest_images_in_boxes_of_any_form(seed, flat):
    """Also in boxes that are flat, and so skew that the shortest vectors are none of the box's."""
    rng = np.random.default_rng(seed)
    box = random_box(rng)
    box[1] *= flat
    d = rng.uniform(-3, 3, size=(10, 3))
    numbers = np.array(list(itertools.product(range(-4, 5), range(-99, 100), range(-3, 4))))
    images = numbers @ box
    wanted = [np.linalg.norm(minimum_image(v.copy(), box) - images, axis=1).min() for v in d]
    found = nearest_image(d.copy(), box)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), wanted, rtol=0, atol=1e-11)
    numbers = (found - d) @ np.linalg.inv(box)
    np.testing.assert_allclose(numbers, np.rint(numbers), rtol=0, atol=1e-8)
