# SPDX-License-Identifier: LGPL-3.0-or-later
"""What may not change the results of a frozen model, as properties."""

import numpy as np
import pytest
from helpers import SLOTS
from hypothesis import given, settings
from hypothesis import strategies as st

SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=12, deadline=None, derandomize=True)
PER_SLOT = ("force", "atom_energy", "atom_virial")


@pytest.fixture(scope="module")
def wanted(trained):
    """Evaluate the model's own frames."""
    return trained.evaluate()


def assert_close(found, wanted):
    """Within rounding; wanted is a dict of which found has all keys."""
    for name, array in wanted.items():
        scale = max(np.abs(array).max(), 1e-6)
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-11 * scale, err_msg=name)


def assert_same_bits(found, wanted):
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def random_rotation(rng):
    """Return an orthogonal matrix with determinant 1."""
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.linalg.det(q)


@FEW
@given(st.tuples(*[st.floats(-50, 50)] * 3))
def test_translation(trained, wanted, shift):
    assert_close(trained.evaluate(coord=trained.frames.coord + shift), wanted)


@FEW
@given(SEEDS)
def test_rotation(trained, wanted, seed):
    Q = random_rotation(np.random.default_rng(seed))
    rotated = {
        "energy": wanted["energy"],
        "atom_energy": wanted["atom_energy"],
        "force": wanted["force"] @ Q.T,
        "virial": (Q @ wanted["virial"].reshape(-1, 3, 3) @ Q.T).reshape(-1, 9),
        "atom_virial": (
            Q @ wanted["atom_virial"].reshape(*trained.frames.mask.shape, 3, 3) @ Q.T
        ).reshape(wanted["atom_virial"].shape),
    }
    assert_close(trained.evaluate(coord=trained.frames.coord @ Q.T), rotated)


@FEW
@given(SEEDS)
def test_permutation_of_atoms_of_one_type(trained, wanted, seed):
    frames, rng = trained.frames, np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(np.flatnonzero(frames.types == t)) for t in range(3)])
    permuted = {k: v[:, order] if k in PER_SLOT else v for k, v in wanted.items()}
    found = trained.evaluate(coord=frames.coord[:, order], mask=frames.mask[:, order])
    assert_close(found, permuted)


@FEW
@given(SEEDS)
def test_slots_in_any_order_of_types(trained, wanted, seed):
    """DeepPot sorts by type; what it returns is in the order of its input."""
    frames = trained.frames
    order = np.random.default_rng(seed).permutation(len(frames.types))
    permuted = {k: v[:, order] if k in PER_SLOT else v for k, v in wanted.items()}
    found = trained.evaluate(
        coord=frames.coord[:, order], mask=frames.mask[:, order], types=frames.types[order]
    )
    assert_close(found, permuted)


@FEW
@given(SEEDS, st.sampled_from([0.0, 1e300, np.nan, np.inf, -np.inf]))
def test_moving_virtual_atoms_changes_no_bit(trained, wanted, seed, value):
    coord, virtual = trained.frames.coord.copy(), trained.frames.mask == 0
    rng = np.random.default_rng(seed)
    coord[virtual] = np.where(rng.uniform(size=(virtual.sum(), 3)) < 0.5, value, 3.0)
    assert_same_bits(trained.evaluate(coord=coord), wanted)


@FEW
@given(SEEDS, st.tuples(*[st.integers(0, 9)] * 3))
def test_adding_virtual_atoms_changes_no_bit(trained, wanted, seed, more):
    """The new slots lie anywhere among the old ones of their type."""
    frames, rng = trained.frames, np.random.default_rng(seed)
    types = np.repeat(np.arange(3), np.add(SLOTS, more))
    kept = np.concatenate([
        np.sort(rng.permutation(np.flatnonzero(types == t))[:n]) for t, n in enumerate(SLOTS)
    ])  # fmt: skip
    coord = rng.normal(size=(len(frames.mask), len(types), 3))
    mask = np.zeros((len(frames.mask), len(types)))
    coord[:, kept], mask[:, kept] = frames.coord, frames.mask
    found = trained.evaluate(coord=coord, mask=mask, types=types)
    added = np.setdiff1d(np.arange(len(types)), kept)
    for name in PER_SLOT:
        assert not found[name][:, added].any()
        found[name] = found[name][:, kept]
    assert_same_bits(found, wanted)


def test_removing_virtual_atoms_changes_no_bit(trained):
    frames = trained.frames
    for f, mask in enumerate(frames.mask):
        real = mask == 1
        padded = trained.evaluate(frames.take([f]))
        found = trained.evaluate(
            coord=frames.coord[f : f + 1, real], mask=mask[None, real], types=frames.types[real]
        )
        assert_same_bits(found, {k: v[:, real] if k in PER_SLOT else v for k, v in padded.items()})


@FEW
@given(st.permutations(range(4)), st.integers(1, 4))
def test_splitting_a_batch(trained, wanted, order, size):
    found = trained.evaluate(trained.frames.take(list(order)), batch=size)
    assert_close(found, {name: array[list(order)] for name, array in wanted.items()})


def test_without_atomic_gives_the_same_bits(trained, wanted):
    found = trained.evaluate(atomic=False)
    assert set(found) == {"energy", "force", "virial"}
    assert_same_bits({**wanted, **found}, wanted)
