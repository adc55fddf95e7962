# SPDX-License-Identifier: LGPL-3.0-or-later
"""Series of many panels and of few: rows of pairs and moments, which give the same."""

from collections import Counter

import numpy as np
import pytest
from embedding_case import Case, split
from implementations import INSTRUCTION_SETS, implementation, on  # noqa: F401

from deepmd_mask import _kernels as cpu

pytestmark = on(*INSTRUCTION_SETS, "emulated")
kernels = None  # those that a test runs on
TERMS = 16
# One panel; so many that few pairs are in one, but beyond the ends; and between.
PARTS = {"moments": 1, "pairs": 150, "both": 12}
# Of two tables of the same nets, whose slopes differ by rounding errors times panels' numbers.
TOLERANCE = {np.float64: 1e-9, np.float32: 1e-3}


def table_of(case, parts, lower, upper):
    """Return a table of equal panels of each net."""
    nets = {**case.shape, "parameters": [p.astype(float) for p in case.parameters]}
    first, panels, _ = cpu.fit_table64(**nets, lower=lower, upper=upper, narrowest=100.0)
    assert np.diff(first).tolist() == [1] * case.ntypes
    first, panels, C = split(first, panels, parts, nets)
    return first, panels, C.astype(case.dtype)


def kinds(case, table, rows_of_pair=1):
    """Return which centres in panels would have rows of pairs, by what is less work."""
    first, panels, _ = table
    (real,) = np.nonzero(case.mask[0])
    assert case.nframes == 1
    ends, met = panels.sum(axis=1), Counter()
    for i in real:
        for j in real:
            if i != j:
                net = case.net[case.types[0, i] * case.ntypes + case.types[0, j]]
                s = 1 / np.linalg.norm(case.coord[0, i] - case.coord[0, j])
                low, high = first[net], first[net + 1] - 1
                met[i, min(low + np.searchsorted(ends[low:high], s), high)] += 1
    return {rows_of_pair * npairs * (TERMS + 4) < 4 * TERMS for npairs in met.values()}


def results(case, table):
    """Return X, forces and virials, and gradients of both."""
    embedding = case.kernels(case.atoms)
    embedding.use_table(*table)
    dA, gradient = embedding.force_grad(case.A, **case.cotangents)
    X, force = embedding.embed(), embedding.force(case.A)
    return [X, *force, *embedding.embed_grad(case.A), dA, *gradient]


def small_case(dtype, neuron=(5, 10), nreal=24):
    return Case(nreal=(nreal,), nslots=30, neuron=neuron, steepness=0.1, dtype=dtype)


def assert_same(found, wanted, dtype):
    for one, other in zip(found, wanted, strict=True):
        scale = max(np.abs(other).max(), 1e-3)
        np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("ends", [(0.1, 1.5), (0.25, 0.6)], ids=["within", "beyond"])
def test_rows_of_pairs_and_moments_give_the_same(dtype, ends):
    """Within a table and beyond both of its ends."""
    case = small_case(dtype)
    tables = {name: table_of(case, parts, *ends) for name, parts in PARTS.items()}
    for rows_of_pair in (1, 2):
        found = {name: kinds(case, table, rows_of_pair) for name, table in tables.items()}
        assert found["moments"] == {False}
        assert found["both"] == {False, True}
        assert True in found["pairs"]
    if ends[1] > 1:
        case.assert_close(results(case, tables["pairs"])[0], case.X_by_reference)
    wanted = results(case, tables["moments"])
    for name in ("pairs", "both"):
        assert_same(results(case, tables[name]), wanted, dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("nreal", [2, 3, 4, 6])
def test_few_pairs(dtype, nreal):
    """Vectors of pairs are longer than what there is, and read what is behind the last."""
    case = small_case(dtype, nreal=nreal)
    one, many = (table_of(case, PARTS[name], 0.1, 1.5) for name in ("moments", "pairs"))
    found = results(case, one)
    case.assert_close(found[0], case.X_by_reference)
    assert_same(found, results(case, many), dtype)


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_forces_beyond_the_ends_are_minus_the_gradient(parts):
    case = small_case(np.float64)
    table = table_of(case, parts, 0.25, 0.6)

    def energy(coord):
        case.coord = coord
        embedding = case.kernels(case.atoms)
        embedding.use_table(*table)
        return np.sum(case.A * embedding.embed()), embedding

    coord = case.coord
    force = energy(coord)[1].force(case.A)[0]
    for direction in case.rng.normal(size=(3, *coord.shape)):
        ahead, behind = (energy(coord + h * direction)[0] for h in (1e-5, -1e-5))
        wanted = np.sum(force * np.where(case.mask[..., None] > 0, direction, 0))
        assert (behind - ahead) / 2e-5 == pytest.approx(wanted, rel=1e-6, abs=1e-8)
