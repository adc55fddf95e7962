# SPDX-License-Identifier: LGPL-3.0-or-later
"""Where embedding nets begin: `dp train` spreads their first neurons over distances that occur."""

import helpers
import jobs
import numpy as np
import pytest

from deepmd_mask.graph.spread import STEEPNESS, first_layer, spans
from deepmd_mask.shared.pair_nets import PairNets


def all_s(coord, types, mask, excluded=()):
    """Return the s of all pairs of a frame, in a list for each pair of types that meets."""
    found, real = {}, np.flatnonzero(mask)
    for i in real:
        for j in real:
            pair = types[i], types[j]
            if i != j and pair not in excluded:
                found.setdefault(pair, []).append(1 / np.linalg.norm(coord[i] - coord[j]))
    return found


def span_of(net, frames, excluded=()):
    """Return the medians over frames of the least and the largest s that a net meets."""
    extremes = []
    for coord, mask in zip(frames.coord, frames.mask, strict=True):
        pairs = all_s(coord, frames.types, mask, excluded)
        mine = [s for (i, j), some in pairs.items() if j == net[1] and net[0] in ("all", str(i))
                for s in some]  # fmt: skip
        if mine:
            extremes.append((min(mine), max(mine)))
    return np.median(extremes, axis=0) if extremes else None


@pytest.mark.parametrize("one_side", [True, False])
def test_spans_are_those_of_real_pairs(one_side):
    """Virtual atoms and pairs without a net count as little as atoms at one point."""
    frames = helpers.random_frames(seed=3, slots=(3, 2, 1), nreal=[[3, 2, 0], [2, 1, 0], [3, 1, 0]])
    frames.coord[frames.mask == 0] = np.nan
    near = np.flatnonzero(frames.mask[1])[:2]  # of one type; one frame alone has atoms so near
    frames.coord[1, near[1]] = frames.coord[1, near[0]] + [0.001, 0, 0]
    nets = PairNets(3, one_side, {(1, 1)})
    coord, mask = (
        [part[f].reshape(1, -1) for f in range(3)] for part in (frames.coord, frames.mask)
    )
    types = [frames.types[None]] * 3
    found = spans(nets, coord, types, mask)
    expected = [span_of(net, frames, excluded={(1, 1)}) for net in nets.names()]
    met = np.array([span for span in expected if span is not None])
    every = met[:, 0].min(), met[:, 1].max()
    expected = [every if span is None else span for span in expected]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.max(found) < 3
    assert spans(nets, coord, types, [0 * w for w in mask])[0] == (0.0, 1.0)


def test_neurons_turn_over_within_the_span():
    rng = np.random.default_rng(1)
    matrix, bias = first_layer(1000, (0.1, 0.9), "tanh", rng)
    assert matrix.shape == (1, 1000) and bias.shape == (1000,)
    turns = -bias / matrix[0]
    assert 0.1 <= turns.min() < 0.11 and 0.89 < turns.max() <= 0.9
    steep = np.abs(matrix) * 0.8
    assert STEEPNESS[0] <= steep.min() < 2.1 and 14 < steep.max() <= STEEPNESS[1]
    assert 0.4 < np.mean(matrix > 0) < 0.6
    matrix, bias = first_layer(1000, (0.4, 0.4), "tanh", rng)  # of one pair in each frame
    turns = -bias / matrix[0]
    assert 0.24 <= turns.min() < 0.25 and 0.55 < turns.max() <= 0.56
    matrix, bias = first_layer(1000, (0.1, 0.9), "gelu", rng)  # one without bounds
    np.testing.assert_allclose(np.abs(matrix), STEEPNESS[0] / 0.8)
    assert np.ptp(-bias / matrix[0]) > 0.78


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
    pairs = [all_s(coord, frames.types, mask)
             for coord, mask in zip(frames.coord, frames.mask, strict=True)]  # fmt: skip
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
        met = [s for frame in pairs for (_, b), some in frame.items() if b == j for s in some]
        assert min(met) <= turns.min() and turns.max() <= max(met)


def test_a_start_that_there_is_not(tmp_path):
    system = helpers.write_system(tmp_path / "system", helpers.random_frames())
    helpers.write_input(tmp_path, helpers.make_input([system], descriptor={"start": "wide"}))
    with pytest.raises(Exception, match="it is one of spread, normal"):
        jobs.run([[tmp_path, "train", "input.json"]])
