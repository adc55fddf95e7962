# SPDX-License-Identifier: LGPL-3.0-or-later
"""Beside the road: molecular dynamics with the exact correction that the model stands for.

GFN2-xTB minus force field on the DP region, computed at every step: what `md.py --model` should
come close to.
"""

import numpy as np
import openmm as mm
from ase import Atoms, units
from label import KJ_MOL, Correction
from md import options, run, start
from system import force_field, load


def main():
    """Run."""
    parser = options(__doc__, output="direct")
    arguments = parser.parse_args()
    box = load(arguments.box)
    region, correction = box.region(), Correction(box)
    symbols = [a.element.symbol for a in box.topology.atoms()]

    def evaluate(state):
        positions = state.getPositions(asNumpy=True)
        index, r = region.cut(box.topology, positions, state.getPeriodicBoxVectors())
        atoms = Atoms([symbols[k] for k in index], r * units.nm)
        energy, forces = correction.evaluate(atoms, index)
        everywhere = np.zeros(positions.shape)
        everywhere[index] = forces * (units.nm / KJ_MOL)
        return energy / KJ_MOL, everywhere

    force = mm.PythonForce(evaluate, {}, [])
    force.setUsesPeriodicBoundaryConditions(True)
    system = force_field(box)
    system.addForce(force)
    run(start(box, system, arguments.seed), box, arguments.picoseconds, f"{arguments.output}.csv")


if __name__ == "__main__":
    main()
