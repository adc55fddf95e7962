# SPDX-License-Identifier: LGPL-3.0-or-later
"""Step 2: label the sampled configurations with GFN2-xTB.

Every file of step 1 gives one of the same name, with energies (eV) and forces (eV/Å). Files that
exist are kept, so that an interrupted run goes on where it stopped.
"""

import os
from functools import partial

os.environ["OMP_NUM_THREADS"] = "1"  # one file for each core, and the same digits everywhere

import ase.io
import numpy as np
from ase.calculators.calculator import CalculationFailed
from ase.calculators.singlepoint import SinglePointCalculator
from steps import for_each, options, write_frames
from tblite.ase import TBLite

ACCURACY = 0.01  # of tblite's default threshold: forces are then exact to 1e-6 eV/Å
LARGEST_FORCE = 25.0  # eV/Å; frames with larger ones are left out


def label(atoms):
    """Return a copy with energy and forces, or None if there are none that one would want."""
    atoms.calc = TBLite(
        method="GFN2-xTB", charge=atoms.info["charge"], accuracy=ACCURACY, verbosity=0
    )
    try:
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    except CalculationFailed:  # no self-consistent field
        return None
    if np.linalg.norm(forces, axis=1).max() > LARGEST_FORCE:
        return None
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


def label_file(output, path):
    """Label the frames of a file, unless that has been done."""
    if not (output / path.name).exists():
        frames = ase.io.read(path, index=":") if path.stat().st_size else []
        labelled = [label(atoms) for atoms in frames]
        write_frames(output / path.name, [atoms for atoms in labelled if atoms is not None])


def main():
    """Label all files."""
    parser = options(__doc__, samples="samples", output="labelled")
    arguments = parser.parse_args()
    paths = sorted(arguments.samples.glob("*.xyz"))
    for_each(partial(label_file, arguments.output), paths, arguments.workers, "site")


if __name__ == "__main__":
    main()
