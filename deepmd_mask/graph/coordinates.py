# SPDX-License-Identifier: LGPL-3.0-or-later
"""Coordinates in which D spreads more evenly, for the first layers of fitting nets.

The D of atoms of a type differ from their mean along few directions: the tenth standard deviation
is a twentieth of the first one, the fortieth a hundredth of that. A step of Adam is as long for
every number of a matrix W, so what lies in small directions, as angles and bonds of neighbours do,
is learned last. With W = A U and a step for U it is not.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

FLOOR = 0.02  # of the largest standard deviation, added to all, lest noise be what is learned
MOST_DIRECTIONS = 48  # that are told apart; beyond, deviations are small beside the floor


class Coordinates(NamedTuple):
    """The symmetric matrix A = V diag(1 / (s + floor)) Vᵀ; s, of D along V, is 0 beyond some.

    Attributes
    ----------
    mean
        [width], of D.
    scale
        1 / floor.
    directions
        [width, MOST_DIRECTIONS], orthonormal columns of V.
    excess
        [MOST_DIRECTIONS], how much less than the scale A is along them.
    """

    mean: np.ndarray
    scale: float
    directions: np.ndarray
    excess: np.ndarray

    @classmethod
    def of(cls, D: np.ndarray) -> "Coordinates":
        """Find the coordinates of samples D [n, width]; A = 1 where there are none that differ."""
        width = D.shape[1]
        mean = D.mean(axis=0) if len(D) else np.zeros(width)
        deviations = (D - mean).astype(np.float64)
        variance, V = np.linalg.eigh(deviations.T @ deviations / max(1, len(D)))
        sigma = np.sqrt(np.maximum(variance[::-1], 0))
        if sigma[0] == 0:
            return cls(mean, 1.0, np.zeros((width, MOST_DIRECTIONS)), np.zeros(MOST_DIRECTIONS))
        floor = FLOOR * sigma[0]
        excess, V = 1 / floor - 1 / (sigma + floor), V[:, ::-1]
        rest = max(0, MOST_DIRECTIONS - width)
        return cls(
            mean,
            1 / floor,
            np.pad(V[:, :MOST_DIRECTIONS], ((0, 0), (0, rest))),
            np.pad(excess[:MOST_DIRECTIONS], (0, rest)),
        )


def times(A: Any, U: Any, transpose: Callable[[Any], Any] = np.transpose) -> Any:
    """Return A U for U [width, n]: of Coordinates, or of what has their names as tensors."""
    V = A.directions
    return A.scale * U - V @ (A.excess[:, None] * (transpose(V) @ U))
