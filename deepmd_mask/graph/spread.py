# SPDX-License-Identifier: LGPL-3.0-or-later
"""Where embedding nets begin: their first neurons turn over at distances that occur.

A net takes s = 1/r, which differs by hundredths for atoms that are bonded. Neurons with weights of
the usual size hardly bend over all s that occur, and training takes long to make them.
"""

from collections.abc import Sequence

import numpy as np
from scipy.spatial.distance import pdist

from ..shared.pair_nets import PairNets

# Of a neuron, its weight times the span: at 2 it bends once over all of it, at 15 within a fifth.
STEEPNESS = (2.0, 15.0)
# Where functions have bounds; others would grow with the weight, and are as they are at the least.
BOUNDED = ("tanh", "sigmoid")
MOST_FRAMES = 50  # of a batch of DeePMD-kit's statistics
LEAST_SPAN = 0.8  # of the largest s, where a frame has few pairs

Span = tuple[float, float]


def spans(
    nets: PairNets,
    coord: Sequence[np.ndarray],
    types: Sequence[np.ndarray],
    mask: Sequence[np.ndarray],
) -> list[Span]:
    """Find which s the pairs of each net have.

    Parameters
    ----------
    nets
        The nets.
    coord, types, mask
        Batches of frames, each [nframes, natoms * 3], [nframes, natoms], [nframes, natoms].

    Returns
    -------
    list of tuple of float
        The least and the largest s of each net in a frame, the median over frames, since one with
        atoms that are much too near would spoil the span, in 1/(length unit). Of a net that meets
        no pair, those of all pairs; (0, 1) if there are none.
    """
    number = np.array(nets.of_pairs()).reshape(nets.ntypes, nets.ntypes)
    frames = [
        _extremes(number, len(nets.names()), *frame)
        for batch in zip(coord, types, mask, strict=True)
        for frame in zip(*(part[:MOST_FRAMES] for part in batch), strict=True)
    ]
    low, high = np.array(frames).transpose(1, 2, 0)
    met = (high > 0).any(axis=1)
    if not met.any():
        return [(0.0, 1.0)] * len(met)
    found = np.empty((2, len(met)))
    for net in np.flatnonzero(met):
        there = high[net] > 0
        found[:, net] = np.median(low[net, there]), np.median(high[net, there])
    found[0, ~met], found[1, ~met] = found[0, met].min(), found[1, met].max()
    return list(zip(*found.tolist(), strict=True))


def _extremes(
    number: np.ndarray, nnets: int, r: np.ndarray, t: np.ndarray, w: np.ndarray
) -> np.ndarray:
    """Return the least and the largest s of each net in a frame [2, nnets]; inf and 0 if none.

    The number of the net of t_i and t_j is number[t_i, t_j].
    """
    real = np.flatnonzero(w)
    i, j = np.triu_indices(len(real), 1)
    distance = pdist(np.reshape(r, (-1, 3))[real])
    i, j, s = i[distance > 0], j[distance > 0], 1 / distance[distance > 0]
    t_i, t_j = t[real[i]].astype(int), t[real[j]].astype(int)
    found = np.array([[np.inf], [0.0]]).repeat(nnets, axis=1)
    for net in (number[t_i, t_j], number[t_j, t_i]):
        has_net = net >= 0
        np.minimum.at(found[0], net[has_net], s[has_net])
        np.maximum.at(found[1], net[has_net], s[has_net])
    return found


def first_layer(
    width: int, span: Span, activation: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a first layer: the s at which w s + b = 0 within the span, and how steeply.

    Returns
    -------
    matrix
        [1, width]
    bias
        [width]
    """
    middle, whole = sum(span) / 2, max(span[1] - span[0], LEAST_SPAN * span[1])
    turns = rng.uniform(middle - whole / 2, middle + whole / 2, width)
    steep = np.exp(rng.uniform(*np.log(STEEPNESS), width)) * rng.choice((-1.0, 1.0), width)
    if activation not in BOUNDED:
        steep = np.sign(steep) * STEEPNESS[0]
    w = steep / whole
    return w[None], -w * turns
