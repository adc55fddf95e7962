# SPDX-License-Identifier: LGPL-3.0-or-later
"""Molecular dynamics with the correction itself, which models should come close to.

GFN2-xTB minus force field on the DP region, computed whenever the correction acts.
"""

import numpy as np
import openmm as mm
from ase import Atoms, units
from levels import Correction
from md import TEMPERATURE, options, run
from system import CORRECTION, force_field, load, simulation

KJ_MOL = units.kJ / units.mol  # OpenMM's energies in eV


def main():
    """Run."""
    arguments = options(__doc__, output="direct").parse_args()
    box = load(arguments.box)
    region, correction = box.region(), Correction(box.topology, box.positions)
    symbols = [a.element.symbol for a in box.topology.atoms()]

    def evaluate(state):
        positions = state.getPositions(asNumpy=True)
        index, r = region.cut(box.topology, positions, state.getPeriodicBoxVectors())
        atoms = Atoms([symbols[k] for k in index], r * units.nm)
        atoms.set_array("index", index)
        energy, forces = correction.evaluate(atoms)
        everywhere = np.zeros(positions.shape)
        everywhere[index] = forces * (units.nm / KJ_MOL)
        return energy / KJ_MOL, everywhere

    force = mm.PythonForce(evaluate, {}, [])
    force.setUsesPeriodicBoundaryConditions(True)
    force.setForceGroup(CORRECTION)
    system = force_field(box)
    system.addForce(force)
    running = simulation(box, system, TEMPERATURE, arguments.seed)
    run(running, box, arguments.picoseconds, arguments.output)


if __name__ == "__main__":
    main()
