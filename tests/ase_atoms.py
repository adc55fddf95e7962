# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frames of tests as ASE's atoms."""

import numpy as np
from ase import Atoms
from helpers import TYPE_MAP

SYMBOLS = np.array([name.capitalize() for name in TYPE_MAP])


def padded(frames, frame):
    """Return a frame's slots as atoms with a mask."""
    atoms = Atoms(SYMBOLS[frames.types], frames.coord[frame])
    atoms.set_array("mask", frames.mask[frame])
    return atoms


def shuffled(frames, frame):
    """Return the real atoms of a frame in another order."""
    atoms = padded(frames, frame)
    atoms = atoms[np.random.default_rng(1).permutation(np.flatnonzero(atoms.arrays["mask"]))]
    del atoms.arrays["mask"]
    return atoms
