# SPDX-License-Identifier: LGPL-3.0-or-later
"""Energies at weights against partitioning over regions of whole residues, the oracle."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from partitioning import permuted, sorted_ones

from deepmd_mask import Potential

MODEL = Path(__file__).parent / "fuzz" / "seeds" / "plain-frozen.pb"
TYPES = np.array([1, 0, 1, 0, 1, 0, 1])
RESIDUES = [[1, 2], [3, 4], [5, 6]]
GROUPS = np.array([0, 1, 1, 2, 2, 3, 3])
BOTH = pytest.mark.parametrize("partition", [permuted, sorted_ones])


@pytest.fixture(scope="module")
def potential():
    return Potential(MODEL, device="cpu")


@pytest.fixture(scope="module")
def positions():
    rng = np.random.default_rng(1)
    middle = np.array([[0, 0, 0], [2.6, 0, 0], [0, 2.7, 0], [0, 0, 2.8]])
    directions = rng.normal(size=(3, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    found = np.zeros((7, 3))
    found[1::2], found[2::2] = middle[1:], middle[1:] + 1.15 * directions
    return found


def at_weights(potential, positions, w):
    weights = np.ones(len(TYPES))
    for atoms, weight in zip(RESIDUES, w, strict=True):
        weights[atoms] = weight
    return potential.evaluate(TYPES, positions, weights, groups=GROUPS)


@BOTH
def test_exact_for_whole_residues(potential, positions, partition):
    for w in product((0, 1), repeat=3):
        found = at_weights(potential, positions, w)
        energy, forces = partition(potential, TYPES, positions, RESIDUES, w)
        assert found.energy == pytest.approx(energy, rel=1e-13)
        np.testing.assert_allclose(found.forces, forces, rtol=0, atol=1e-12)


def test_the_two_agree_for_one_fraction(potential, positions):
    """And differ for more."""
    args = potential, TYPES, positions, RESIDUES
    one = [function(*args, [0.3, 1, 0])[0] for function in (permuted, sorted_ones)]
    assert one[0] == pytest.approx(one[1], rel=1e-13)
    more = [function(*args, [0.3, 0.6, 0.4])[0] for function in (permuted, sorted_ones)]
    assert abs(more[0] - more[1]) > 1e-9


def test_permuted_is_multilinear(potential, positions):
    args = potential, TYPES, positions, RESIDUES
    low, middle, high = (permuted(*args, [w, 0.6, 0.4])[0] for w in (0.0, 0.3, 1.0))
    assert middle == pytest.approx(0.7 * low + 0.3 * high, rel=1e-12)


def test_weights_lie_near(potential, positions):
    """Nearer to the permuted sum than entering and leaving is far."""
    rng, off, range_of = np.random.default_rng(2), [], []
    for w in rng.uniform(size=(8, 3)):
        energy, _ = permuted(potential, TYPES, positions, RESIDUES, w)
        off.append(at_weights(potential, positions, w).energy - energy)
    for w in ([0, 0, 0], [1, 1, 1]):
        range_of.append(at_weights(potential, positions, w).energy)
    assert np.abs(off).max() < 0.2 * np.ptp(range_of)
