# SPDX-License-Identifier: LGPL-3.0-or-later
"""Images of vectors in a periodic box, and which of them is the shortest."""

import itertools
from functools import lru_cache

import numpy as np


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


def nearest_image(d: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Take separations [n, 3] to their shortest images, however long those are; return them."""
    d = minimum_image(d, box)
    vectors = lattice_vectors(box)
    squares = np.einsum("ij,ij->i", vectors, vectors)
    each = np.arange(len(d))
    while len(d):
        steps = np.rint(d @ vectors.T / squares * (1 - 1e-12))  # halves are no reason to go on
        worst = np.abs(steps).argmax(axis=1)
        if not steps[each, worst].any():
            break
        d = d - steps[each, worst][:, None] * vectors[worst]
    return d


def lattice_vectors(box: np.ndarray, longest: float = 0.0) -> np.ndarray:
    """Return lattice vectors L [m, 3], one of each pair L and -L.

    Those are among them that tell shortest images: a separation d is the shortest of its images if
    and only if |d . L| <= |L|^2 / 2 for all L. So it lies in the Voronoi cell of the lattice, and
    no face of that is farther from 0 than half of the diagonal of the box's widths.

    Parameters
    ----------
    box
        As of `minimum_image`.
    longest
        All vectors up to this length are among them, too.
    """
    return _lattice_vectors(np.asarray(box, float).tobytes(), longest)


@lru_cache(maxsize=8)
def _lattice_vectors(box: bytes, longest: float) -> np.ndarray:  # bytes can be kept
    rows = np.frombuffer(box).reshape(3, 3)
    longest = max(longest, float(np.linalg.norm(rows.diagonal()))) * (1 + 1e-12)
    most = np.zeros(3, int)
    for k in (2, 1, 0):  # component k of a vector has shares of the box vectors from k on
        skew = np.abs(rows[k + 1 :, k]) @ most[k + 1 :]
        most[k] = int((longest + skew) / rows[k, k])
    numbers = np.array(list(itertools.product(*(range(-m, m + 1) for m in most))))
    numbers = numbers[len(numbers) // 2 + 1 :]  # the first half has the negatives of these
    vectors = numbers @ rows
    return vectors[np.linalg.norm(vectors, axis=1) <= longest]
