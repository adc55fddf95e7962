# SPDX-License-Identifier: LGPL-3.0-or-later
"""Step 2: label the sampled regions with GFN2-xTB minus force field, both in vacuum.

Every file of step 1 gives one of the same name, with energies (eV) and forces (eV/Å). Files that
exist are kept.
"""

import argparse
import os
import sys
from functools import cache, partial
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # one file for each core

import ase.io
import numpy as np
import openmm as mm
from ase import units
from ase.calculators.calculator import CalculationFailed
from ase.calculators.singlepoint import SinglePointCalculator
from openmm import app, unit
from system import BUILD, EXAMPLE, FIELD, load
from tblite.ase import TBLite

sys.path.append(str(EXAMPLE.parent / "zinc_protein"))
from steps import for_each, write_frames

ACCURACY = 0.1  # of tblite's default threshold
KJ_MOL = units.kJ / units.mol  # OpenMM's energies in eV
LARGEST_FORCE = 15.0  # eV/Å; frames with larger ones are left out


class Correction:
    """GFN2-xTB minus force field on regions of a box, in vacuum and without cutoff.

    Bonds to hydrogen are springs here. In the box they are rigid, at the lengths where these
    springs are at rest, so that both say the same.

    Parameters
    ----------
    box : Box
    """

    def __init__(self, box):
        self.box = box
        self.calculators = {}  # by number of atoms, as regions differ in waters only

    def evaluate(self, atoms, index):
        """Evaluate a region.

        Parameters
        ----------
        atoms : ase.Atoms
        index : numpy.ndarray
            [n] int, where its atoms are in the box.

        Returns
        -------
        energy : float
            In eV.
        forces : numpy.ndarray
            [n, 3] in eV/Å.

        Raises
        ------
        ase.calculators.calculator.CalculationFailed
            If there is no self-consistent field.
        """
        if len(atoms) not in self.calculators:
            self.calculators[len(atoms)] = self.prepare(index)
        xtb, context = self.calculators[len(atoms)]
        xtb.calculate(atoms, ["energy", "forces"])
        context.setPositions(atoms.positions / units.nm)
        state = context.getState(getEnergy=True, getForces=True)
        energy, forces = state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value
        return (
            xtb.results["energy"] - energy * KJ_MOL,
            xtb.results["forces"] - forces * (KJ_MOL / units.nm),
        )

    def prepare(self, index):
        """Return GFN2-xTB and force field of atoms of the box, whole residues.

        The charge is that of the force field, where residues have whole numbers.
        """
        kept = set(index.tolist())
        part = app.Modeller(self.box.topology, self.box.positions * unit.nanometer)
        part.delete([a for a in self.box.topology.atoms() if a.index not in kept])
        system = FIELD.createSystem(part.topology, constraints=None, rigidWater=False)
        (nonbonded,) = [f for f in system.getForces() if isinstance(f, mm.NonbondedForce)]
        charges = [nonbonded.getParticleParameters(k)[0]._value for k in range(len(index))]
        xtb = TBLite(method="GFN2-xTB", charge=round(sum(charges)), accuracy=ACCURACY, verbosity=0)
        integrator, platform = mm.VerletIntegrator(0.001), mm.Platform.getPlatform("Reference")
        return xtb, mm.Context(system, integrator, platform)


def label(atoms, correction):
    """Return a copy with energy and forces, or None if there are none that one would want."""
    try:
        energy, forces = correction.evaluate(atoms, atoms.get_array("index"))
    except CalculationFailed:
        return None
    if not np.linalg.norm(forces, axis=1).max() < LARGEST_FORCE:
        return None
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


@cache
def correction_of(path):
    """Return the Correction of the box in a file: one for all files that a process labels."""
    return Correction(load(path))


def label_file(arguments, path):
    """Label the frames of a file, unless that has been done."""
    output = arguments.output / path.name
    if not output.exists():
        correction = correction_of(arguments.box)
        frames = ase.io.read(path, index=":") if path.stat().st_size else []
        labelled = [label(atoms, correction) for atoms in frames]
        write_frames(output, [atoms for atoms in labelled if atoms is not None])


def main():
    """Label all files."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--box", type=Path, default=BUILD / "box.pdb", help="of step 1")
    parser.add_argument("--samples", type=Path, default=BUILD / "samples", help="folder")
    parser.add_argument("--output", type=Path, default=BUILD / "labelled", help="folder")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    arguments = parser.parse_args()
    paths = sorted(arguments.samples.glob("*.xyz"))
    for_each(partial(label_file, arguments), paths, arguments.workers, "file")


if __name__ == "__main__":
    main()
