# SPDX-License-Identifier: LGPL-3.0-or-later
"""Molecular dynamics of the box, with or without the correction.

Writes the distances of zinc's ligands to `NAME.csv`, where the nearest nitrogens and oxygens are to
`NAME.npz`, and with the correction what is in the DP region to `NAME_region.csv`.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from system import BOX, EXAMPLE, TIMESTEP, add_correction, force_field, load, simulation
from tqdm import tqdm

from deepmd_mask.openmm import RegionReporter

TEMPERATURE = 300.0  # K
INTERVAL = 10  # steps between lines
REGION_INTERVAL = 100  # steps between lines of the region's report
BOUND = 2.8  # Å, to an atom that coordinates zinc
NEAREST = 60  # nitrogens and oxygens that are kept of each line
COLUMNS = ("time_ps", "zn_n1", "zn_n2", "zn_o", "waters", "coordination")


class Donors:
    """Finds where nitrogens and oxygens are from zinc.

    Parameters
    ----------
    box : Box
    """

    def __init__(self, box):
        atoms = list(box.topology.atoms())
        self.zinc, self.nitrogens = box.zinc(), box.nitrogens()
        self.donors = np.array([a.index for a in atoms if a.element.symbol in ("N", "O")])
        self.is_water = np.array([atoms[k].residue.name == "HOH" for k in self.donors])

    def nearest(self, state):
        """Return the `NEAREST`.

        Parameters
        ----------
        state : openmm.State
            With positions.

        Returns
        -------
        atoms : numpy.ndarray
            [NEAREST] int, in order of distance.
        r : numpy.ndarray
            [NEAREST, 3], from zinc, in Å.
        is_water : numpy.ndarray
            [NEAREST] bool.
        """
        positions = state.getPositions(asNumpy=True)._value
        lengths = np.diag(state.getPeriodicBoxVectors(asNumpy=True)._value)
        r = positions[self.donors] - positions[self.zinc]
        r = 10 * (r - lengths * np.rint(r / lengths))
        order = np.argsort(np.linalg.norm(r, axis=1))[:NEAREST]
        return self.donors[order], r[order], self.is_water[order]

    def line(self, atoms, r, is_water):
        """Return both Zn-N, the mean Zn-O of bound waters (Å), their number, and that of all."""
        distances = np.linalg.norm(r, axis=1)
        of = dict(zip(atoms.tolist(), distances.tolist(), strict=True))
        bound = distances < BOUND
        waters = distances[bound & is_water]
        lengths = [of.get(k, np.nan) for k in self.nitrogens]
        mean = waters.mean() if len(waters) else np.nan
        return [*lengths, mean], len(waters), np.count_nonzero(bound)


def run(running, box, picoseconds, name):
    """Run, and write where zinc's ligands are.

    Parameters
    ----------
    running : openmm.app.Simulation
    box : Box
    picoseconds : float
    name : pathlib.Path
        Of the files, without their suffixes.
    """
    donors, places, waters = Donors(box), [], []
    name.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{name}.npz").unlink(missing_ok=True)  # of another simulation
    with open(f"{name}.csv", "w", newline="", buffering=1) as file:  # lines appear at once
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for k in tqdm(range(round(picoseconds / TIMESTEP / INTERVAL)), unit="line"):
            running.step(INTERVAL)
            nearest = donors.nearest(running.context.getState(getPositions=True))
            lengths, bound, coordination = donors.line(*nearest)
            shown = [f"{length:.4f}" for length in lengths]
            time = (k + 1) * INTERVAL * TIMESTEP
            writer.writerow((f"{time:.3f}", *shown, bound, coordination))
            places.append(nearest[1])
            waters.append(nearest[2])
    volume = running.context.getState().getPeriodicBoxVolume()._value * 1e3
    density = (donors.is_water.sum() / volume).item()  # per Å³
    np.savez_compressed(f"{name}.npz", r=np.float32(places), is_water=waters, density=density)


def options(description, output=None):
    """Return a parser with the options of all simulations."""
    parser = argparse.ArgumentParser(
        description=description.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    default = output and EXAMPLE / "run" / output
    parser.add_argument("--output", type=Path, default=default, help="NAME")
    parser.add_argument("--picoseconds", type=float, default=20.0)
    parser.add_argument("--box", type=Path, default=BOX, help="built if not there")
    parser.add_argument("--seed", type=int, default=1)
    return parser


def main():
    """Run with or without a correction."""
    parser = options(__doc__)
    parser.add_argument("--models", type=Path, nargs="+", help="of the correction, if any")
    arguments = parser.parse_args()
    box = load(arguments.box)
    name = arguments.output or EXAMPLE / "run" / ("corrected" if arguments.models else "mm")
    system = force_field(box)
    if arguments.models:
        add_correction(system, box, arguments.models)
    running = simulation(box, system, TEMPERATURE, arguments.seed)
    if arguments.models:
        name.parent.mkdir(parents=True, exist_ok=True)
        reporter = RegionReporter(f"{name}_region.csv", REGION_INTERVAL, preference="within:2.8:Zn")
        running.reporters.append(reporter)
    run(running, box, arguments.picoseconds, name)


if __name__ == "__main__":
    main()
