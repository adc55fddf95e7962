# SPDX-License-Identifier: LGPL-3.0-or-later
"""The energy between regions of whole residues, by partitioning: what a smooth edge stands for.

Neither knows fractions: each is a sum over regions with some of the residues, masks of 0 and 1,
which are evaluated as one batch.
"""

from itertools import product

import numpy as np


def of_masks(potential, types, positions, residues, choices):
    """Return energies [n] and forces [n, natoms, 3] with the residues of each choice [n, m].

    Parameters
    ----------
    potential, types, positions
        A Potential, and a molecule.
    residues
        The atoms of each of m residues; all others are always there.
    choices
        [n, m], 1 for a residue that is there, 0 for one that is not.
    """
    masks = np.ones((len(choices), len(types)))
    for atoms, there in zip(residues, np.transpose(choices), strict=True):
        masks[:, atoms] = there[:, None]
    found = potential.evaluate(
        types, np.broadcast_to(positions, (len(masks), *positions.shape)), masks
    )
    return found.energy, found.forces


def permuted(potential, types, positions, residues, w):
    """Return energy and forces at fixed w [m], multilinear in w: 2^m regions."""
    choices = np.array(list(product((0, 1), repeat=len(w))))
    shares = np.prod(np.where(choices, w, 1 - np.asarray(w)), axis=1)
    energies, forces = of_masks(potential, types, positions, residues, choices)
    return shares @ energies, np.tensordot(shares, forces, 1)


def sorted_ones(potential, types, positions, residues, w):
    """Return energy and forces at fixed w [m]: m + 1 regions, each with a residue more.

    The region with the k residues of the largest weights has the share w_k - w_k+1.
    """
    order = np.argsort(w)[::-1]
    bounds = np.concatenate([[1.0], np.asarray(w)[order], [0.0]])
    choices = np.zeros((len(w) + 1, len(w)))
    for k in range(len(w)):
        choices[k + 1 :, order[k]] = 1
    energies, forces = of_masks(potential, types, positions, residues, choices)
    shares = bounds[:-1] - bounds[1:]
    return shares @ energies, np.tensordot(shares, forces, 1)
