# SPDX-License-Identifier: LGPL-3.0-or-later
"""Molecular dynamics with the correction itself, which models should come close to.

GFN2-xTB minus force field on the DP region, computed whenever the correction acts. Writes what
`md.py` writes, and each tenth of a picosecond a labelled frame of the region to `NAME.xyz`, to test
models on: no frame that they were trained with comes from such a simulation.
"""

from itertools import count
from pathlib import Path

import numpy as np
import openmm as mm
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from levels import Correction
from md import TEMPERATURE, options, run
from system import force_field, load, simulation

KJ_MOL = units.kJ / units.mol  # OpenMM's energies in eV
FRAME_INTERVAL = 25  # evaluations between frames


def main():
    """Run."""
    arguments = options(__doc__, output="direct").parse_args()
    box = load(arguments.box)
    region, correction = box.region(), Correction(box.topology, box.positions)
    symbols = [a.element.symbol for a in box.topology.atoms()]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    frames = Path(f"{arguments.output}.xyz")
    frames.unlink(missing_ok=True)
    evaluations = count()

    def evaluate(state):
        positions = state.getPositions(asNumpy=True)
        index, r = region.cut(box.topology, positions, state.getPeriodicBoxVectors())
        atoms = Atoms([symbols[k] for k in index], r * units.nm)
        atoms.set_array("index", index)
        energy, forces = correction.evaluate(atoms)
        if next(evaluations) % FRAME_INTERVAL == 0:
            atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
            write(frames, atoms, append=True)
        everywhere = np.zeros(positions.shape)
        everywhere[index] = forces * (units.nm / KJ_MOL)
        return energy / KJ_MOL, everywhere

    force = mm.PythonForce(evaluate, {}, [])
    force.setUsesPeriodicBoundaryConditions(True)
    system = force_field(box)
    system.addForce(force)
    running = simulation(box, system, TEMPERATURE, arguments.seed)
    run(running, box, arguments.picoseconds, arguments.output)


if __name__ == "__main__":
    main()
