# SPDX-License-Identifier: LGPL-3.0-or-later
"""Step 1: sample the DP region, by molecular dynamics of the whole box.

Without a model: with the force field, while springs pull zinc to the histidines. Their lengths are
drawn anew before each configuration, and so is zinc's radius, so that fewer or more waters have
room in its shell. With a model: with the corrected force field. Temperatures are raised in both.

Trajectories are files of their own: `NAME_train_00.xyz`, `NAME_validation_00.xyz` and so on.
Their column `index` tells which atoms of the box they are. Files that exist are kept.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np
from ase import Atoms, units
from openmm import OpenMMException
from system import BUILD, EXAMPLE, add_correction, force_field, load, simulation
from tqdm import tqdm

sys.path.append(str(EXAMPLE.parent / "zinc_protein"))
from steps import for_each, write_frames

TEMPERATURES = (300.0, 450.0)  # K
PULLS = (0.18, 0.27)  # nm
WIDER = (0.0, 0.25)  # nm, added to zinc's sigma
TIMESTEP = 0.001  # ps
VALIDATION = 8  # every so many trajectories one of the validation set


def sample(box, model, frames, interval, seed):
    """Sample one trajectory.

    Parameters
    ----------
    box : Box
    model : pathlib.Path or None
        Of the correction; without it zinc is pulled.
    frames, interval : int
        Number of frames, and of steps between them.
    seed : int

    Returns
    -------
    list of ase.Atoms
        Fewer if the simulation explodes, as a model may make it at first.
    """
    rng = np.random.default_rng(seed)
    temperature = rng.uniform(*TEMPERATURES)
    system = force_field(box, pulled=model is None)
    if model:
        add_correction(system, box, model)
    running = simulation(box, system, temperature, TIMESTEP, seed, threads=1)
    running.context.setVelocitiesToTemperature(temperature, seed)
    region, symbols = box.region(), [a.element.symbol for a in box.topology.atoms()]
    sampled = []
    for _ in range(frames):
        if model is None:
            for k in range(len(box.nitrogens())):
                running.context.setParameter(f"pull_{k}", rng.uniform(*PULLS))
            running.context.setParameter("wider", rng.uniform(*WIDER))
        try:
            running.step(interval)
            state = running.context.getState(getPositions=True)
            cut = region.cut(box.topology, state.getPositions(), state.getPeriodicBoxVectors())
        except (OpenMMException, ValueError) as error:
            tqdm.write(f"a trajectory stops after {len(sampled)} frames: {error}")
            break
        atoms = Atoms([symbols[k] for k in cut.atoms], cut.coordinates * units.nm)
        atoms.set_array("index", cut.atoms)
        sampled.append(atoms)
    return sampled


def sample_to_file(arguments, number):
    """Sample a trajectory, unless its file is there."""
    subset = "validation" if number % VALIDATION == VALIDATION - 1 else "train"
    path = arguments.output / f"{arguments.name}_{subset}_{number:02d}.xyz"
    if not path.exists():
        seed = crc32(path.name.encode()) % 2**31
        box = load(arguments.box)
        frames, interval = arguments.frames, arguments.interval
        write_frames(path, sample(box, arguments.model, frames, interval, seed))


def main():
    """Sample all trajectories."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="of a correction to sample with")
    parser.add_argument("--name", default="pulled", help="which the files begin with")
    parser.add_argument("--trajectories", type=int, default=16)
    parser.add_argument("--frames", type=int, default=16, help="of a trajectory")
    parser.add_argument("--interval", type=int, default=400, help="steps between frames")
    parser.add_argument("--box", type=Path, default=BUILD / "box.pdb", help="built if not there")
    parser.add_argument("--output", type=Path, default=BUILD / "samples", help="folder")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    arguments = parser.parse_args()
    load(arguments.box)
    for_each(
        partial(sample_to_file, arguments),
        range(arguments.trajectories),
        arguments.workers,
        "trajectory",
    )


if __name__ == "__main__":
    main()
