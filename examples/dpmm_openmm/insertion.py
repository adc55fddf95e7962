# SPDX-License-Identifier: LGPL-3.0-or-later
"""What energy a water brings with it, by models and by the labels.

Takes labelled frames of `dp-mask learn`, leaves out a water beyond zinc's shell, and labels again:
the difference is what a smooth edge pays out by degrees as a water comes. Tells the mean error
(bias) of the models' mean, and how far errors of single waters lie from it (spread).
"""

import argparse
from pathlib import Path

import numpy as np
from explore import outer_waters
from levels import Correction
from system import BOX, EXAMPLE, load
from tqdm import tqdm

from deepmd_mask.ase import MaskedDP
from deepmd_mask.learning.frames import read_frames

RUN = EXAMPLE / "run"


def insertion(calculator, correction, box, frames, seed=1):
    """Return the energies [n] that waters bring, one of each frame that has one beyond the shell.

    Parameters
    ----------
    calculator : ase.calculators.calculator.Calculator
        Of the models.
    correction : Correction
        Of the box.
    box : Box
    frames : list of ase.Atoms
        With energies.
    seed : int
        Of the choice of a water.

    Returns
    -------
    by_models, by_labels : numpy.ndarray
        In eV.
    """
    rng = np.random.default_rng(seed)
    by_models, by_labels = [], []
    for atoms in tqdm(frames, unit="frame"):
        waters, _ = outer_waters(box, atoms)
        if not len(waters):
            continue
        fewer = atoms.copy()
        del fewer[waters[rng.integers(len(waters))]]
        with_it, without = map(calculator.get_potential_energy, (atoms, fewer))
        by_models.append(with_it - without)
        by_labels.append(atoms.get_potential_energy() - correction.evaluate(fewer)[0])
    return np.array(by_models), np.array(by_labels)


def main():
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, nargs="+", required=True)
    parser.add_argument(
        "--frames", type=Path, nargs="+", help="labelled; by default those that learn.py held out"
    )
    parser.add_argument("--box", type=Path, default=RUN / BOX.name, help="that they are of")
    arguments = parser.parse_args()
    paths = arguments.frames or sorted(RUN.glob("iter.*/label/held_out.xyz"))
    if not paths:
        raise SystemExit(f"{RUN} has no frames of learn.py; name files with --frames")
    box = load(arguments.box)
    both = MaskedDP(arguments.models), Correction(box.topology, box.positions)
    found = [insertion(*both, box, read_frames(path)) for path in paths]
    by_models, by_labels = np.concatenate(found, axis=1)
    errors = by_models - by_labels
    # Frames of one iteration are of few trajectories, and those of one are alike.
    blocks = [np.mean(models - labels) for models, labels in found if len(models)]
    uncertain = np.std(blocks, ddof=1) / np.sqrt(len(blocks)) if len(blocks) > 1 else np.nan
    print(f"energy of a water at the edge, {len(errors)} frames, eV")
    print(f"  labels: {by_labels.mean():.3f}, spread {by_labels.std():.3f}")
    print(f"  models: {by_models.mean():.3f}, spread {by_models.std():.3f}")
    print(f"  error:  {errors.mean():.3f} ± {uncertain:.3f}, spread {errors.std():.3f}")


if __name__ == "__main__":
    main()
