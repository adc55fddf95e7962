# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frames that are different from each other: what tells them apart, and a choice of some.

The choice is that of the farthest point, one after the other: T. F. Gonzalez, Theor. Comput. Sci.
38, 293 (1985). What tells frames apart are the distances from their preferred atoms, as

    f_abk = sum_i sum_j p_i exp(-(r_ij - r_k)² / 2 sigma²) / r_ij

over the preferred atoms i of element a, of preference p_i, and all other atoms j of element b. It
takes no model, has one length for frames of any composition, and is zero for what is not there.
"""

from collections.abc import Sequence

import numpy as np

NEAREST, FARTHEST, NUMBER = 0.8, 5.3, 10  # r_k in Å, as far apart as sigma


def fingerprint(
    symbols: Sequence[str],
    positions: np.ndarray,
    preference: np.ndarray,
    elements: Sequence[str],
) -> np.ndarray:
    """Return f of a frame, [len(elements)² NUMBER].

    Parameters
    ----------
    symbols
        [natoms], the elements of the atoms.
    positions
        [natoms, 3] in Å, of an isolated molecule.
    preference
        [natoms], not negative; if all are 0, all atoms count alike.
    elements
        All elements of the frames to be compared; other atoms are left out.
    """
    kinds = np.array([*map({name: k for k, name in enumerate(elements)}.get, symbols)], float)
    preference = np.asarray(preference, float)
    if not preference.any():
        preference = np.ones(len(preference))
    known = ~np.isnan(kinds)
    chosen = np.flatnonzero(known & (preference > 0))
    r = np.linalg.norm(positions[chosen, None] - positions, axis=2)
    centre, other = np.nonzero((r > 0) & (r < 2 * FARTHEST) & known)
    r, weight = r[centre, other], preference[chosen[centre]]
    kinds = kinds[known].astype(int) if known.all() else np.nan_to_num(kinds).astype(int)
    at, width = np.linspace(NEAREST, FARTHEST, NUMBER, retstep=True)
    heights = np.exp(-(((r[:, None] - at) / width) ** 2) / 2) * (weight / r)[:, None]
    found = np.zeros((len(elements) ** 2, NUMBER))
    np.add.at(found, kinds[chosen[centre]] * len(elements) + kinds[other], heights)
    return found.ravel()


def farthest(features: np.ndarray, number: int, start: Sequence[int] = ()) -> np.ndarray:
    """Choose rows, each the farthest from those before it.

    Parameters
    ----------
    features
        [n, …], what tells rows apart, `fingerprint`, say.
    number
        How many are wanted. There are fewer if no other row differs from all chosen ones.
    start
        Rows that are there already, of training data, say; they are not among those returned. None
        of them: the first choice is the row that is the farthest from the mean.

    Returns
    -------
    np.ndarray
        [number] int, the rows in the order of choice.
    """
    features = np.asarray(features, float).reshape(len(features), -1)
    chosen: list[int] = []
    distance = np.full(len(features), np.inf)
    for row in start:
        distance = np.minimum(distance, _distances(features, features[row]))
    while len(chosen) < min(number, len(features)):
        if chosen or len(start):
            row = int(distance.argmax())
            if not distance[row] > 0:
                break
        else:
            row = int(_distances(features, features.mean(axis=0)).argmax())
        chosen.append(row)
        distance = np.minimum(distance, _distances(features, features[row]))
    return np.array(chosen, int)


class Different:
    """The same of rows that come one by one: of all so far, some that are far from each other.

    When there are too many, one of the two that are the nearest to each other goes, the one of the
    lower rank, or, of equal ranks, the one that is nearer to the others.

    Parameters
    ----------
    most
        How many are kept.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._features: list[np.ndarray] = []
        self._ranks: list[float] = []
        self._distance = np.full((most + 1, most + 1), np.inf)  # of each two; no row from itself

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._features)

    def offer(self, features: np.ndarray, rank: float = 0.0) -> int | None:
        """Return the place that a row takes, which another may have had; None if it is not kept.

        Parameters
        ----------
        features
            [m], what tells it apart.
        rank
            How much it is wanted; a deviation, say.
        """
        n = len(self)
        distance = _distances(np.array(self._features).reshape(n, -1), features) if n else []
        if n and min(distance) == 0:
            return None
        self._distance[n, :n] = self._distance[:n, n] = distance
        goes = self._superfluous([*self._ranks, rank]) if n == self.most else n
        if n < self.most:
            self._features.append(features)
            self._ranks.append(rank)
        elif goes < n:
            self._features[goes], self._ranks[goes] = features, rank
            moved = self._distance[n, :n].copy()
            moved[goes] = np.inf
            self._distance[goes, :n] = self._distance[:n, goes] = moved
        return None if goes == self.most else goes

    def _superfluous(self, ranks: list[float]) -> int:
        """Return which of the rows, one too many, goes."""
        pair = np.unravel_index(self._distance.argmin(), self._distance.shape)
        return min(map(int, pair), key=lambda row: (ranks[row], *np.sort(self._distance[row])[1:2]))


def _distances(features: np.ndarray, one: np.ndarray) -> np.ndarray:
    return np.linalg.norm(features - one, axis=1)
