# SPDX-License-Identifier: LGPL-3.0-or-later
"""Step 5: molecular dynamics of the box, with or without the correction.

Writes the distances of zinc's ligands to `NAME.csv`, and with the correction what is in the DP
region to `NAME_region.csv`.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from openmm import unit
from system import BUILD, EXAMPLE, add_correction, force_field, hold, load, simulation
from tqdm import tqdm

from deepmd_mask.openmm import RegionReporter

TEMPERATURE = 300.0  # K
TIMESTEP = 0.001  # ps
INTERVAL = 20  # steps between lines
REGION_INTERVAL = 100  # steps between lines of the region's report
BOUND = 2.8  # Å, to an atom that coordinates zinc
COLUMNS = ("time_ps", "zn_n1", "zn_n2", "zn_o", "waters", "coordination")


class Ligands:
    """Measures zinc's ligands.

    Parameters
    ----------
    box : Box
    """

    def __init__(self, box):
        atoms = list(box.topology.atoms())
        self.topology, self.region = box.topology, box.region()
        self.nitrogens = box.nitrogens()
        self.water = np.array([a.name == "O" and a.residue.name == "HOH" for a in atoms])
        self.donor = np.array([a.element.symbol in ("N", "O") for a in atoms])

    def measure(self, simulation):
        """Return both Zn-N, the mean Zn-O of bound waters (Å), their number, and that of all."""
        state = simulation.context.getState(getPositions=True)
        atoms, r = self.region.cut(
            self.topology, state.getPositions(asNumpy=True), state.getPeriodicBoxVectors()
        )
        distances = np.full(len(self.donor), np.inf)
        distances[atoms] = 10 * np.linalg.norm(r, axis=1)  # zinc is the origin
        bound = distances < BOUND
        waters = distances[bound & self.water]
        mean = waters.mean() if len(waters) else np.nan
        return *distances[self.nitrogens], mean, len(waters), np.count_nonzero(bound & self.donor)


def start(box, system, seed):
    """Return a Simulation with velocities, in which zinc keeps its histidines."""
    hold(system, box)
    running = simulation(box, system, TEMPERATURE, TIMESTEP, seed)
    running.context.setVelocitiesToTemperature(TEMPERATURE, seed)
    return running


def run(running, box, picoseconds, path):
    """Run, and write the distances of zinc's ligands.

    Parameters
    ----------
    running : openmm.app.Simulation
    box : Box
    picoseconds : float
    path : str or pathlib.Path
        Of the CSV file.
    """
    ligands = Ligands(box)
    with open(path, "w", newline="", buffering=1) as file:  # lines appear at once
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for _ in tqdm(range(round(picoseconds / TIMESTEP / INTERVAL)), unit="line"):
            running.step(INTERVAL)
            time = running.context.getTime().value_in_unit(unit.picosecond)
            *lengths, waters, coordination = ligands.measure(running)
            shown = [f"{length:.4f}" for length in lengths]
            writer.writerow((f"{time:.3f}", *shown, waters, coordination))


def options(description, output):
    """Return a parser with the options of all simulations."""
    parser = argparse.ArgumentParser(
        description=description.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output", type=Path, default=EXAMPLE / "run" / output, help="NAME")
    parser.add_argument("--picoseconds", type=float, default=20.0)
    parser.add_argument("--box", type=Path, default=BUILD / "box.pdb", help="built if not there")
    parser.add_argument("--seed", type=int, default=1)
    return parser


def main():
    """Run with or without a model."""
    parser = options(__doc__, output="md")
    parser.add_argument("--model", type=Path, help="of the correction; without it there is none")
    arguments = parser.parse_args()
    box, name = load(arguments.box), str(arguments.output)
    system = force_field(box)
    if arguments.model:
        add_correction(system, box, arguments.model)
    running = start(box, system, arguments.seed)
    if arguments.model:
        running.reporters.append(RegionReporter(f"{name}_region.csv", REGION_INTERVAL))
    run(running, box, arguments.picoseconds, f"{name}.csv")


if __name__ == "__main__":
    main()
