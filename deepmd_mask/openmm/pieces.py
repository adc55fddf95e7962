# SPDX-License-Identifier: LGPL-3.0-or-later
"""Which members of a region hold together, and where they are when the box does not tear them."""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components


class Pieces(NamedTuple):
    """Atoms that bonds, or a residue, hold together: a tree for each such piece.

    Attributes
    ----------
    piece
        [n] int, the piece of each atom.
    parent
        [n] int, the atom before each on the way from the root of its piece; a root is its own.
    """

    piece: np.ndarray
    parent: np.ndarray

    @classmethod
    def of(cls, bonds: np.ndarray, residue: np.ndarray) -> "Pieces":
        """Find the pieces.

        Parameters
        ----------
        bonds
            [nbonds, 2] int, rows of these atoms.
        residue
            [n] int. Atoms of a residue that no bonds connect hang on its first atom.
        """
        n = len(residue)
        _, bonded = connected_components(_graph(bonds, n), directed=False)
        _, first, of_atom = np.unique(residue, return_index=True, return_inverse=True)
        _, heads = np.unique(of_atom * n + bonded, return_index=True)
        edges = np.concatenate([bonds, np.stack([first[of_atom[heads]], heads], axis=1)])
        _, piece = connected_components(_graph(edges, n), directed=False)
        _, roots = np.unique(piece, return_index=True)
        # One more node, n, which the roots hang on, makes a single tree of all.
        to_roots = np.stack([np.full(len(roots), n), roots], axis=1)
        whole = _graph(np.concatenate([edges, to_roots]), n + 1)
        _, parent = breadth_first_order(whole, n, directed=False)
        parent = parent[:n]
        parent[roots] = roots
        return cls(piece, parent)

    def from_roots(self, r: np.ndarray, box: np.ndarray) -> np.ndarray:
        """Return the separation [n, 3] of each atom from the root of its piece, along the tree.

        Parameters
        ----------
        r
            [n, 3], positions.
        box
            As of `minimum_image`. No bond may be longer than half of its smallest width.
        """
        separation = minimum_image(r - r[self.parent], box)
        reached = self.parent  # what a separation is from; each time twice as far along the tree
        while not np.array_equal(reached, reached[reached]):
            separation = separation + separation[reached]
            reached = reached[reached]
        return separation


def minimum_image(d: np.ndarray, box: np.ndarray | None) -> np.ndarray:
    """Take separations [..., 3] to their images in the cell round 0, in place; return them.

    In the reduced form, the vectors of the box have no components x, y and z beyond their own, and
    vectors shorter than half of the smallest width are what they are (as in OpenMM's own forces).
    """
    if box is not None:
        for k in (2, 1, 0):
            images = np.rint(d[..., k] / box[k, k])
            for axis in range(k + 1):
                if box[k, axis] != 0:
                    d[..., axis] -= images * box[k, axis]
    return d


def _graph(edges: np.ndarray, nnodes: int) -> coo_array:
    return coo_array((np.ones(len(edges)), edges.T), shape=(nnodes, nnodes))
