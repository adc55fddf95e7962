# SPDX-License-Identifier: LGPL-3.0-or-later
"""Which members of a region hold together, and where they are when the box does not tear them.

Atoms that bonds connect are a piece, and bonds say where each is. Where pieces are is said by their
contacts: two pieces lie so that no image of one is nearer to the other. There is at most one way to
place all pieces so, and any tree of pairs that finds it will do; if there is none, the region is
too large for its box.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import (
    breadth_first_order,
    connected_components,
    minimum_spanning_tree,
)
from scipy.spatial.distance import cdist

from .images import lattice_vectors, minimum_image, nearest_image

ROUNDING = 1e-9  # of distances, relative: an image may be as near as the atom


class Torn(NamedTuple):
    """A pair of atoms that are nearer through the box than where they were placed.

    Attributes
    ----------
    i, j
        Their rows.
    placed, nearer
        Their distances.
    """

    i: int
    j: int
    placed: float
    nearer: float


class Pieces(NamedTuple):
    """Atoms that bonds hold together, each such piece a tree, and all of them hung on an origin.

    Attributes
    ----------
    piece
        [n] int, the piece of each atom.
    parent
        [n + 1] int, the atom before each on the way from the origin; n is the origin, its own.
    bonds
        [nbonds, 2] int, rows of these atoms.
    first
        The atom that is the origin; None if it is none of them.
    """

    piece: np.ndarray
    parent: np.ndarray
    bonds: np.ndarray
    first: int | None

    @classmethod
    def of(cls, bonds: np.ndarray, n: int, first: int | None) -> "Pieces":
        """Find the pieces of n atoms; an atom of each hangs on the origin. See the attributes."""
        _, piece = connected_components(_graph(bonds, n), directed=False)
        _, roots = np.unique(piece, return_index=True)
        if first is not None:
            roots[piece[first]] = first
        to_roots = np.stack([np.full(len(roots), n), roots], axis=1)
        return cls(piece, _tree(np.concatenate([bonds, to_roots]), n), bonds, first)

    def by_contacts(self, r: np.ndarray, origin: np.ndarray, box: np.ndarray) -> "Pieces":
        """Return these pieces, each hung on the nearest atom of those before it.

        Contacts are the shortest between pieces that make one tree of them, a minimum spanning
        tree. Arguments are those of `place`.
        """
        n = len(self.piece)
        r = np.concatenate([r, origin[None]])
        distances = np.zeros((n + 1, n + 1))
        for k in range(n):
            d = np.linalg.norm(nearest_image(r[k + 1 :] - r[k], box), axis=1)
            distances[k, k + 1 :] = distances[k + 1 :, k] = d + ROUNDING  # 0 would be no edge
        own = self.piece.max() + 1 if self.first is None else self.piece[self.first]
        piece = np.append(self.piece, own)
        edges = [] if self.first is None else [(n, self.first)]
        whole = self._replace(piece=piece)
        for p, q in np.argwhere(minimum_spanning_tree(_contacts(distances, piece)).toarray()):
            edges.append(whole._contact(distances, p, q))
        contacts = np.array(edges, int).reshape(-1, 2)
        return self._replace(parent=_tree(np.concatenate([self.bonds, contacts]), n))

    def place(self, r: np.ndarray, origin: np.ndarray, box: np.ndarray) -> np.ndarray:
        """Return where the atoms are [n, 3] from the origin: at the images that the tree leads to.

        Parameters
        ----------
        r
            [n, 3], positions.
        origin
            [3]
        box
            As of `minimum_image`. No bond may be longer than half of its smallest width.
        """
        r = np.concatenate([r, origin[None]])
        separation = r - r[self.parent]
        # Of a rectangular box, what minimum_image gives is the nearest however long it is.
        nearest = minimum_image if np.count_nonzero(box) == 3 else nearest_image
        separation = nearest(separation, box)
        reached = self.parent  # what a separation is from; each time twice as far along the tree
        while not np.array_equal(reached, reached[reached]):
            separation = separation + separation[reached]
            reached = reached[reached]
        from_origin = r[:-1] - origin
        images = np.rint((separation[:-1] - from_origin) @ np.linalg.inv(box))
        return from_origin + images @ box  # the same bits, whatever the tree

    def torn_bond(self, x: np.ndarray, box: np.ndarray) -> Torn | None:
        """Look for a bond that is torn since its molecule goes round the box; as `torn_pieces`."""
        d = x[self.bonds[:, 1]] - x[self.bonds[:, 0]]
        nearest = minimum_image(d.copy(), box)
        for bond in np.flatnonzero(np.abs(d - nearest).max(axis=1) > ROUNDING * box[0, 0])[:1]:
            lengths = np.linalg.norm([d[bond], nearest[bond]], axis=1).tolist()
            return Torn(*self.bonds[bond].tolist(), *lengths)
        return None

    def torn_pieces(self, x: np.ndarray, box: np.ndarray) -> Torn | None:
        """Look for two pieces that are nearer to each other through the box than as placed.

        Parameters
        ----------
        x
            [n, 3], where the atoms were placed.
        box
            As of `minimum_image`.
        """
        if self.piece.max() == 0 or len(_possible(x, lattice_vectors(box))) == 0:
            return None  # no two atoms are nearer through the box, in whatever piece
        longest = 2 * np.linalg.norm(np.ptp(x, axis=0))
        vectors = _possible(x, lattice_vectors(box, longest))
        here = _contacts(cdist(x, x), self.piece)
        found = None
        for vector in vectors:
            distances = cdist(x, x - vector)
            there = _contacts(distances, self.piece)
            np.fill_diagonal(there, np.inf)
            there[there >= here * (1 - ROUNDING)] = np.inf
            if there.min() < (found.nearer if found else np.inf):
                p, q = np.unravel_index(there.argmin(), there.shape)
                i, j = self._contact(distances, int(p), int(q))
                found = Torn(i, j, float(np.linalg.norm(x[i] - x[j])), float(distances[i, j]))
        return found

    def _contact(self, distances: np.ndarray, p: int, q: int) -> tuple[int, int]:
        """Return the nearest atoms of two pieces, rows and columns of the distances [n, n]."""
        one, other = np.flatnonzero(self.piece == p), np.flatnonzero(self.piece == q)
        between = distances[np.ix_(one, other)]
        i, j = np.unravel_index(between.argmin(), between.shape)
        return int(one[i]), int(other[j])


def _possible(x: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return those lattice vectors by which a pair of atoms could be nearer than as placed."""
    halves = np.einsum("ij,ij->i", vectors, vectors) * (0.5 + ROUNDING)
    return vectors[np.ptp(x @ vectors.T, axis=0) > halves]


def _contacts(distances: np.ndarray, piece: np.ndarray) -> np.ndarray:
    """Return the shortest distances between pieces [npieces, npieces], of those between atoms."""
    order = np.argsort(piece, kind="stable")
    starts = np.flatnonzero(np.diff(piece[order], prepend=-1))
    by_rows = np.minimum.reduceat(distances[np.ix_(order, order)], starts, axis=0)
    return np.minimum.reduceat(by_rows, starts, axis=1)


def _tree(edges: np.ndarray, origin: int) -> np.ndarray:
    """Return the node before each, on the way from the origin; that is its own."""
    _, parent = breadth_first_order(_graph(edges, origin + 1), origin, directed=False)
    parent[origin] = origin
    return parent


def _graph(edges: np.ndarray, nnodes: int) -> coo_array:
    return coo_array((np.ones(len(edges)), edges.T), shape=(nnodes, nnodes))
