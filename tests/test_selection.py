# SPDX-License-Identifier: LGPL-3.0-or-later
"""A choice of frames that differ, at once and one by one, and what tells them apart."""

import itertools

import numpy as np
import pytest

from deepmd_mask.shared.selection import FARTHEST, NEAREST, NUMBER, Different, farthest, fingerprint

ELEMENTS = ["H", "O", "Zn"]


def least(features):
    """Return the distance of the nearest two rows."""
    return min(np.linalg.norm(a - b) for a, b in itertools.combinations(features, 2))


def test_each_choice_is_the_farthest_from_those_before():
    features = np.random.default_rng(0).normal(size=(50, 4))
    found = farthest(features, 8)
    assert found[0] == np.linalg.norm(features - features.mean(axis=0), axis=1).argmax()
    for k in range(1, 8):
        distances = np.linalg.norm(features[:, None] - features[found[:k]], axis=2).min(axis=1)
        assert found[k] == distances.argmax()
    rest = farthest(features, 5, start=found[:3])
    np.testing.assert_array_equal(rest, found[3:])


def test_fewer_where_no_more_differ():
    features = np.repeat([[0.0], [1.0], [4.0]], 5, axis=0)
    assert sorted(features[farthest(features, 9), 0]) == [0, 1, 4]
    assert sorted(features[farthest(features, 9, start=[0, 5]), 0]) == [4]
    assert farthest(np.zeros((3, 2)), 2).tolist() == [0]
    assert farthest(np.zeros((0, 2)), 2).tolist() == []
    assert farthest(features, 0).tolist() == []


@pytest.mark.parametrize("drifts", [False, True])
def test_of_a_stream_some_that_are_far_from_each_other(drifts):
    """Also where each row is near the one before, as in a simulation."""
    rng = np.random.default_rng(1)
    features = rng.normal(size=(400, 3))
    if drifts:
        features = 0.1 * features.cumsum(axis=0)
    kept, different = {}, Different(10)
    for row in features:
        place = different.offer(row)
        if place is not None:
            kept[place] = row
        assert len(different) == len(kept) <= 10
    assert least(kept.values()) > 0.5 * least(features[farthest(features, 10)])
    assert different.offer(kept[3]) is None


def test_of_those_alike_the_one_of_a_higher_rank():
    different = Different(3)
    places = [different.offer(np.array([x]), rank) for x, rank in ((0, 1), (5, 1), (9, 1))]
    assert places == [0, 1, 2]
    assert different.offer(np.array([5.1]), 0.5) is None
    assert different.offer(np.array([4.9]), 2.0) == 1  # nearest are 4.1 apart now
    assert different.offer(np.array([3.0]), 9.0) is None  # too near to another one
    assert different.offer(np.array([20.0]), 0.0) == 2  # in the place of 9, of a lower rank
    one = Different(1)
    assert [one.offer(np.array([x]), rank) for x, rank in ((0, 1), (1, 0), (2, 3))] == [0, None, 0]


def test_fingerprint_is_its_definition():
    rng = np.random.default_rng(2)
    symbols = ["O", "H", "Zn", "H", "C", "O"]  # carbon is none of the elements
    positions = rng.normal(scale=2, size=(6, 3))
    preference = np.array([2.0, 0, 1, 1, 1, 0])
    at = np.linspace(NEAREST, FARTHEST, NUMBER)
    wanted = np.zeros((3, 3, NUMBER))
    for i, j in itertools.permutations(range(6), 2):
        if "C" not in (symbols[i], symbols[j]):
            r = np.linalg.norm(positions[i] - positions[j])
            a, b = (ELEMENTS.index(symbols[k]) for k in (i, j))
            height = np.exp(-((r - at) ** 2) / 2 / (at[1] - at[0]) ** 2) / r
            wanted[a, b] += preference[i] * height
    found = fingerprint(symbols, positions, preference, ELEMENTS)
    np.testing.assert_allclose(found, wanted.ravel(), rtol=1e-12)
    turned, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    order = rng.permutation(6)
    again = fingerprint(
        [symbols[k] for k in order], positions[order] @ turned + 3, preference[order], ELEMENTS
    )
    np.testing.assert_allclose(again, found, rtol=1e-12, atol=1e-14)
    of_all = fingerprint(symbols, positions, np.ones(6), ELEMENTS)
    np.testing.assert_array_equal(fingerprint(symbols, positions, np.zeros(6), ELEMENTS), of_all)
    assert not fingerprint([], np.zeros((0, 3)), np.zeros(0), ELEMENTS).any()
