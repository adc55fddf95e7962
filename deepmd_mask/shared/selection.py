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

    Once there are enough, a row that is farther from all of them than the nearest two are from each
    other takes the place of one of these two: of that with the lower rank, or, of equal ranks, of
    that which is nearer to the others. Another takes the place of the row that it is nearest to, if
    its rank is higher and no two come nearer than any were.

    Parameters
    ----------
    most
        How many are kept.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._features: list[np.ndarray] = []
        self._ranks: list[float] = []
        self._distance = np.full((most, most), np.inf)  # of each two; no row from itself

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
        distance = _distances(np.array(self._features).reshape(n, len(features)), features)
        place = n if n < self.most else self._place(distance, rank)
        if place is None or (distance == 0).any():
            return None
        self._features[place : place + 1] = [features]
        self._ranks[place : place + 1] = [rank]
        distance = np.append(distance, np.inf)[: len(self)]
        distance[place] = np.inf
        self._distance[place, : len(self)] = self._distance[: len(self), place] = distance
        return place

    def _place(self, distance: np.ndarray, rank: float) -> int | None:
        """Return the row that goes for one at these distances from all that are kept."""
        least = self._distance.min()
        if distance.min() > least:
            pair = np.unravel_index(self._distance.argmin(), self._distance.shape)
            return min(map(int, pair), key=lambda row: (self._ranks[row], self._second(row)))
        nearest = int(distance.argmin())
        is_apart = np.delete(distance, nearest).min(initial=np.inf) >= least
        return nearest if rank > self._ranks[nearest] and is_apart else None

    def _second(self, row: int) -> float:
        """Return the distance of a row from the second nearest one."""
        return float(np.sort(self._distance[row])[1:2].min(initial=np.inf))


def _distances(features: np.ndarray, one: np.ndarray) -> np.ndarray:
    return np.linalg.norm(features - one, axis=1)
