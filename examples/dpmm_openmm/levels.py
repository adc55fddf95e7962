# SPDX-License-Identifier: LGPL-3.0-or-later
"""What models learn: GFN2-xTB minus force field on regions, both in vacuum and without cutoff.

Bonds to hydrogen are springs here. In the box they are rigid, at the lengths where these springs
are at rest, so that both say the same.
"""

import os
from functools import cache

os.environ["OMP_NUM_THREADS"] = "1"  # one frame for each core

import openmm as mm
from ase.calculators.calculator import CalculationFailed
from system import BOX, FIELD, load
from tblite.ase import TBLite

from deepmd_mask.learning.in_vacuum import InVacuum

ACCURACY = 1.0  # tblite's default threshold: forces to 1e-4 eV/Å


def gfn2(atoms):
    """Return GFN2-xTB for a frame, with the charge that the force field gives it."""
    return made(of_the_box().charge(atoms))


def made(charge):
    """Return GFN2-xTB for so many elementary charges."""
    return TBLite(method="GFN2-xTB", charge=charge, accuracy=ACCURACY, verbosity=0)


def force_field(atoms):
    """Return the force field for a frame, of which `index` tells the atoms of the box."""
    return of_the_box()(atoms)


@cache
def of_the_box():
    """Return what makes force fields for parts of the box."""
    box = load(BOX)
    return InVacuum(box.topology, FIELD, box.positions * mm.unit.nanometer)


class Correction:
    """GFN2-xTB minus force field on parts of a system, for one part after the other.

    Parameters
    ----------
    topology : openmm.app.Topology
    positions : numpy.ndarray
        [natoms, 3] in nm.
    """

    def __init__(self, topology, positions):
        self.force_field = InVacuum(topology, FIELD, positions * mm.unit.nanometer)
        self.xtb = {}  # by number of atoms; each begins with its last electron density

    def evaluate(self, atoms):
        """Evaluate a frame with the array `index`.

        Parameters
        ----------
        atoms : ase.Atoms

        Returns
        -------
        energy : float
            In eV.
        forces : numpy.ndarray
            [natoms, 3] in eV/Å.

        Raises
        ------
        ase.calculators.calculator.CalculationFailed
            If there is no self-consistent field.
        """
        subtracted = self.force_field(atoms)
        if len(atoms) not in self.xtb:
            self.xtb[len(atoms)] = made(subtracted.charge)
        xtb = self.xtb[len(atoms)]
        try:
            found = xtb.get_potential_energy(atoms), xtb.get_forces(atoms)
        except CalculationFailed:  # from that density; once more from that of atoms
            xtb = self.xtb[len(atoms)] = made(subtracted.charge)
            found = xtb.get_potential_energy(atoms), xtb.get_forces(atoms)
        of_field = subtracted.get_potential_energy(atoms), subtracted.get_forces(atoms)
        return found[0] - of_field[0], found[1] - of_field[1]
