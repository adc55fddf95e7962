# SPDX-License-Identifier: LGPL-3.0-or-later
"""Beside the road: what energy a water brings with it, by a model and by the labels.

The data have pairs of frames, one with a water of the region's edge and the next one without. Their
difference in energy is what a smooth edge pays out by degrees as a water comes. Tells the model's
mean error (bias), and how far errors of single waters lie from it (spread).
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
from system import EXAMPLE

from deepmd_mask import Potential
from deepmd_mask.data import open_system

WATER = 3  # atoms
BLOCKS = 8  # of pairs in order, so that pairs of one trajectory are in one or two of them


def pairs(coord, mask):
    """Return the frames [n] whose next one is the same but for a water that it lacks.

    Parameters
    ----------
    coord : numpy.ndarray
        [nframes, natoms, 3]
    mask : numpy.ndarray
        [nframes, natoms], 1 for real atoms.
    """
    atoms = [
        {tuple(xyz) for xyz in frame[real > 0]} for frame, real in zip(coord, mask, strict=True)
    ]
    return np.array(
        [
            k
            for k, (first, second) in enumerate(pairwise(atoms))
            if len(first) == len(second) + WATER and first > second
        ],
        dtype=int,
    )


def insertion(model, system):
    """Return the energies [n] that waters bring, by a model and by the labels, in eV.

    Parameters
    ----------
    model : str or pathlib.Path
    system : str or pathlib.Path
        A masked system.

    Raises
    ------
    ValueError
        If no two frames differ by a water.
    """
    potential, by_model, by_labels = Potential(model), [], []
    opened = open_system(system)
    order = [potential.type_map.index(name) for name in opened.names]
    for chunk in opened.chunks():
        k = pairs(chunk.coord, chunk.mask)
        types = np.array(order)[chunk.types]
        energy = potential.evaluate(types, chunk.coord, chunk.mask).energy
        by_model += (energy[k] - energy[k + 1]).tolist()
        by_labels += (chunk.energy[k] - chunk.energy[k + 1]).tolist()
    if not by_model:
        raise ValueError(f"{system}: no frame is like the one before but for a water that it lacks")
    return np.array(by_model), np.array(by_labels)


def main():
    """Compare."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=EXAMPLE / "run" / "model.pb")
    parser.add_argument("--system", type=Path, default=EXAMPLE / "data" / "validation")
    arguments = parser.parse_args()
    by_model, by_labels = insertion(arguments.model, arguments.system)
    errors = by_model - by_labels
    blocks = [block.mean() for block in np.array_split(errors, BLOCKS) if len(block)]
    uncertain = np.std(blocks, ddof=1) / np.sqrt(len(blocks))
    print(f"energy of a water at the edge, {len(errors)} pairs of frames, eV")
    print(f"  labels: {by_labels.mean():.3f}, spread {by_labels.std():.3f}")
    print(f"  model:  {by_model.mean():.3f}, spread {by_model.std():.3f}")
    print(f"  error:  {errors.mean():.3f} ± {uncertain:.3f}, spread {errors.std():.3f}")


if __name__ == "__main__":
    main()
