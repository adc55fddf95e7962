# SPDX-License-Identifier: LGPL-3.0-or-later
"""Where embedding nets begin: `dp train` spreads their first neurons over distances that occur."""

import helpers
import jobs
import numpy as np
import pytest

from deepmd_mask.graph.spread import STEEPNESS, first_layer, spans
from deepmd_mask.shared.pair_nets import PairNets


def spans_of_pairs(frames, excluded=()):
    """Return the least and largest s of each pair of types that meets, pair by pair."""
    found = {}
    for coord, mask in zip(frames.coord, frames.mask, strict=True):
        real = np.flatnonzero(mask)
        for i in real:
            for j in real:
                pair = frames.types[i], frames.types[j]
                if i != j and pair not in excluded:
                    found.setdefault(pair, []).append(1 / np.linalg.norm(coord[i] - coord[j]))
    return {pair: (min(values), max(values)) for pair, values in found.items()}


@pytest.mark.parametrize("one_side", [True, False])
def test_spans_are_those_of_real_pairs(one_side):
    """Virtual atoms and pairs without a net count as little as atoms at one point."""
    frames = helpers.random_frames(seed=3, slots=(3, 2, 1), nreal=[[3, 2, 0], [2, 1, 0]])
    frames.coord[frames.mask == 0] = np.nan
    nets = PairNets(3, one_side, {(1, 1)})
    batches = [[part[f : f + 1] for f in range(2)] for part in (frames.coord, frames.mask)]
    coord, mask = ([p.reshape(1, -1) for p in part] for part in batches)
    found = spans(nets, coord, [frames.types[None]] * 2, mask)
    pairs = spans_of_pairs(frames, excluded={(1, 1)})
    every = min(low for low, _ in pairs.values()), max(high for _, high in pairs.values())
    for (i, j), span in zip(nets.names(), found, strict=True):
        mine = [s for (a, b), s in pairs.items() if b == j and i in ("all", str(a))]
        low, high = zip(*mine or [every], strict=True)
        np.testing.assert_allclose(span, (min(low), max(high)), rtol=1e-12)
    assert spans(nets, coord, [frames.types[None]] * 2, [0 * w for w in mask])[0] == (0.0, 1.0)


def test_neurons_turn_over_within_the_span():
    matrix, bias = first_layer(1000, (0.1, 0.9), np.random.default_rng(1))
    assert matrix.shape == (1, 1000) and bias.shape == (1000,)
    turns = -bias / matrix[0]
    assert 0.1 <= turns.min() < 0.11 and 0.89 < turns.max() <= 0.9
    steep = np.abs(matrix) * 0.8
    assert STEEPNESS[0] <= steep.min() < 2.1 and 14 < steep.max() <= STEEPNESS[1]
    assert 0.4 < np.mean(matrix > 0) < 0.6
    matrix, _ = first_layer(5, (0.4, 0.4), np.random.default_rng(1))  # one distance alone
    assert np.isfinite(matrix).all()


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    """Return what the nets begin with, by start, and the frames."""
    root = tmp_path_factory.mktemp("starts")
    frames = helpers.random_frames(nframes=4)
    system = helpers.write_system(root / "system", frames)
    steps, found = [], {}
    for start in (None, "spread", "normal"):
        folder = root / str(start)
        descriptor = {"type_one_side": True, **({} if start is None else {"start": start})}
        helpers.write_input(folder, helpers.make_input([system], steps=0, descriptor=descriptor))
        steps += [[folder, "train", "input.json"], [folder, "freeze", "-o", "frozen.pb"]]
        found[start] = folder / "frozen.pb"
    jobs.run(steps)
    return {start: helpers.parameters(model) for start, model in found.items()}, frames


def test_training_begins_so(starts):
    """By default; and only the first layers are others than those that the built-in draws."""
    parameters, frames = starts
    pairs = spans_of_pairs(frames)
    first = {f"filter_type_all/{name}_1_{j}" for name in ("matrix", "bias") for j in range(3)}
    for name, normal in parameters["normal"].items():
        spread = parameters["spread"][name]
        np.testing.assert_array_equal(spread, parameters[None][name])
        assert np.array_equal(spread, normal) == (name not in first), name
    for j in range(3):
        matrix, bias = (
            parameters["spread"][f"filter_type_all/{name}_1_{j}"] for name in ("matrix", "bias")
        )
        turns = -np.ravel(bias) / np.ravel(matrix)
        span = [s for (_, b), s in pairs.items() if b == j]
        assert min(low for low, _ in span) <= turns.min()
        assert turns.max() <= max(high for _, high in span)


def test_a_start_that_there_is_not(tmp_path):
    system = helpers.write_system(tmp_path / "system", helpers.random_frames())
    helpers.write_input(tmp_path, helpers.make_input([system], descriptor={"start": "wide"}))
    with pytest.raises(Exception, match="it is one of spread, normal"):
        jobs.run([[tmp_path, "train", "input.json"]])
