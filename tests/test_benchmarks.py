# SPDX-License-Identifier: LGPL-3.0-or-later
"""What benchmarks/ measures, and what it says a machine needs for it."""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from deepmd_mask import _kernels

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
SIZES = (20, 35, 56, 89, 131, 250)


@pytest.fixture
def benchmarks(monkeypatch):
    """Let scripts import each other, as when one of them is run."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in ("frames", "limits", "tables", "models"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("natoms", SIZES)
def test_frames_are_of_whole_molecules(benchmarks, natoms):
    import frames

    frame = frames.frame_of(natoms)
    assert len(frame) == natoms
    assert np.all(np.diff(frame.types) >= 0)
    distances = np.linalg.norm(frame.positions[:, None] - frame.positions, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert distances.min() > 0.8
    hydrogens = frame.types == frames.TYPE_MAP.index("H")
    assert np.all(distances[hydrogens].min(axis=1) < 1.5)  # none is cut off its molecule


def random_arguments(rng):
    """Return arguments of a model of two types, of nets 1-4-8 and fitting nets 16-6-6-1."""
    nets = [(1, 4), (4, 8)]
    parameters = [
        array
        for _ in range(2)
        for shape in nets
        for array in (rng.normal(size=shape) * 4, rng.normal(size=shape[1]))
    ]
    return {
        "neuron": [4, 8], "resnet_dt": False, "activation": "tanh", "parameters": parameters,
        "M2": 2, "bias": np.zeros(2), "net": [0, 1, 0, -1], "fitting_neuron": [6, 6],
    }  # fmt: skip


def test_pairs_are_counted_in_their_panels(benchmarks):
    import limits

    rng = np.random.default_rng(0)
    arguments = random_arguments(rng)
    names = ("neuron", "resnet_dt", "activation", "parameters")
    given = {name: arguments[name] for name in names}
    table = _kernels.fit_table64(**given, lower=0.0, upper=2.0, narrowest=1e-9)
    model = limits.Model(arguments, table)
    types, positions = np.array([0, 0, 0, 1, 1]), rng.uniform(0, 4, (5, 3))
    panels = model.pairs_in_panels(types, positions)
    first, edges, _ = table
    pairs = Counter()
    for i in range(5):
        for j in range(5):
            net = arguments["net"][2 * types[i] + types[j]]
            if i == j or net < 0:
                continue
            s = 1 / np.linalg.norm(positions[i] - positions[j])
            of_net = range(first[net], first[net + 1])
            k = next((k for k in of_net if s <= edges[k].sum()), of_net[-1])
            pairs[k, i] += 1
    assert max(np.diff(first)) > 2
    assert panels.pairs.tolist() == [npairs for _, npairs in sorted(pairs.items())]
    assert panels.used.tolist() == sorted({k for k, _ in pairs})
    assert panels.direct == 0


def test_the_limit_takes_the_cheaper_rows_and_the_longer_time(benchmarks):
    import limits

    panels = limits.Panels(np.array(3 * [1] + 10 * [10]), np.arange(2), 0)
    assert panels.cheaper(of_pair=10, of_pair_in_moments=1, of_centre=50) == 30 + 600
    rates = limits.Rates(flop=10, values=2, nbytes=4)
    assert limits.Work(flop=20, values=2, nbytes=8).seconds(rates) == 3
    assert limits.Work(flop=20, values=2, nbytes=16).seconds(rates) == 4


def test_the_work_of_fitting_nets(benchmarks):
    """Two FLOP for each entry of a matrix and direction; parameters of one type alone."""
    import limits

    rng = np.random.default_rng(0)
    arguments = random_arguments(rng)
    table = np.array([0, 1, 2]), np.ones((2, 2)), np.zeros((2, 16, 8))
    work = limits.fitting(limits.Model(arguments, table), np.array([3, 0]))
    entries = 16 * 6 + 6 * 6 + 6
    assert (work.flop, work.values, work.nbytes) == (4 * entries * 3, 12 * 3, 2 * entries * 8)


def test_tables_are_filled_in(benchmarks, tmp_path):
    import tables

    page = tmp_path / "page.md"
    page.write_text("a\n  <!-- table slots -->\n  old\n  <!-- end -->\nb <!-- table errors -->\n")
    tables.fill(page, {"slots": [{"model": "one", "isa": "avx2", "ms": 1.2345}]})
    assert page.read_text() == (
        "a\n  <!-- table slots -->\n  | model | ms |\n  | --- | --- |\n  | one | 1.23 |\n"
        "  <!-- end -->\nb <!-- table errors -->\n"
    )
