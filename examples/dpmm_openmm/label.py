# SPDX-License-Identifier: LGPL-3.0-or-later
"""Step 2: label the sampled regions with GFN2-xTB minus force field, both in vacuum.

Every file of step 1 gives one of the same name, with energies (eV) and forces (eV/Å). Files that
exist are kept.
"""

import argparse
import os
import sys
from functools import partial
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


class ForceField:
    """The force field on some atoms of a box, whole residues, in vacuum and without cutoff.

    Bonds to hydrogen are springs here. In the box they are rigid, at the lengths where these
    springs are at rest, so that both say the same.

    Parameters
    ----------
    box : Box
    index : numpy.ndarray
        [n] int, the atoms.
    """

    def __init__(self, box, index):
        kept = set(index.tolist())
        modeller = app.Modeller(box.topology, box.positions * unit.nanometer)
        modeller.delete([a for a in box.topology.atoms() if a.index not in kept])
        system = FIELD.createSystem(modeller.topology, constraints=None, rigidWater=False)
        (nonbonded,) = [f for f in system.getForces() if isinstance(f, mm.NonbondedForce)]
        charges = [nonbonded.getParticleParameters(k)[0]._value for k in range(len(index))]
        self.charge = round(sum(charges))
        self.context = mm.Context(
            system, mm.VerletIntegrator(0.001), mm.Platform.getPlatform("Reference")
        )

    def evaluate(self, positions):
        """Return energy (eV) and forces (eV/Å) at positions (Å)."""
        self.context.setPositions(positions * unit.angstrom)
        state = self.context.getState(getEnergy=True, getForces=True)
        energy, forces = state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value
        return energy * KJ_MOL, forces * (KJ_MOL / units.nm)


def label(atoms, box):
    """Return a copy with energy and forces, or None if there are none that one would want."""
    field = ForceField(box, atoms.get_array("index"))
    calculator = TBLite(method="GFN2-xTB", charge=field.charge, accuracy=ACCURACY, verbosity=0)
    try:
        calculator.calculate(atoms, ["energy", "forces"])
    except CalculationFailed:  # no self-consistent field
        return None
    energy, forces = field.evaluate(atoms.positions)
    energy = calculator.results["energy"] - energy
    forces = calculator.results["forces"] - forces
    if not np.linalg.norm(forces, axis=1).max() < LARGEST_FORCE:
        return None
    atoms.info["charge"] = field.charge
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


def label_file(arguments, path):
    """Label the frames of a file, unless that has been done."""
    output = arguments.output / path.name
    if not output.exists():
        box = load(arguments.box)
        frames = ase.io.read(path, index=":") if path.stat().st_size else []
        labelled = [label(atoms, box) for atoms in frames]
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
