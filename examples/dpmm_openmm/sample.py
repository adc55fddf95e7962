# SPDX-License-Identifier: LGPL-3.0-or-later
"""Step 1: sample the DP region, by molecular dynamics of the whole box.

Without a model: with the force field, while springs pull zinc to the histidines. Their lengths are
drawn anew before each configuration, and so is zinc's radius, so that fewer or more waters have
room in its shell. With a model: with the corrected force field. Temperatures are raised in both.

Each configuration is cut twice: at a radius drawn at random, with some of the waters beyond zinc's
shell left out, and the same with one of them less. So the data tell what energy a water brings.

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
SETTLE = 300  # steps before those of the first frame, since all begin in one configuration
RADII = (0.30, 0.45)  # nm, at which configurations are cut
SHELL = 0.26  # nm; waters with an atom nearer than this are never left out
LEFT_OUT = (-0.5, 0.5)  # share of the others; none if it is negative
VALIDATION = 8  # every so many trajectories one of the validation set


def cuts(box, state, rng):
    """Cut the DP region out of a configuration, twice.

    Parameters
    ----------
    box : Box
    state : openmm.State
        With positions.
    rng : numpy.random.Generator
        Draws the radius and the waters that are left out.

    Returns
    -------
    list of ase.Atoms
        The second has a water less. There is one frame only if all waters are in zinc's shell.

    Raises
    ------
    ValueError
        If there is no region, as after an explosion.
    """
    largest = box.region(max(RADII))
    index, r = largest.cut(box.topology, state.getPositions(), state.getPeriodicBoxVectors())
    all_atoms = list(box.topology.atoms())
    symbols = [all_atoms[k].element.symbol for k in index]
    distances = np.linalg.norm(r, axis=1)  # zinc is the origin
    residue = np.array([all_atoms[k].residue.index for k in index])
    waters = np.unique([all_atoms[k].residue.index for k in index if is_water(all_atoms[k])])
    nearest = np.array([distances[residue == water].min() for water in waters])
    outer = rng.permutation(waters[(nearest >= SHELL) & (nearest < rng.uniform(*RADII))])
    left = outer[round(max(0, rng.uniform(*LEFT_OUT)) * len(outer)) :]
    found = []
    for kept in (left, left[1:])[: 1 + bool(len(left))]:
        members = np.isin(residue, kept) | ~np.isin(residue, waters[nearest >= SHELL])
        atoms = Atoms([symbols[k] for k in np.flatnonzero(members)], r[members] * units.nm)
        atoms.set_array("index", index[members])
        found.append(atoms)
    return found


def is_water(atom):
    """Return whether an atom of the topology is of a water."""
    return atom.residue.name == "HOH"


def sample(box, model, frames, interval, seed, settle=SETTLE):
    """Sample one trajectory.

    Parameters
    ----------
    box : Box
    model : pathlib.Path or None
        Of the correction; without it zinc is pulled.
    frames, interval : int
        Number of configurations, and of steps between them.
    seed : int
    settle : int
        Steps before those of the first configuration.

    Returns
    -------
    list of ase.Atoms
        Two of each configuration; fewer if the simulation explodes, as a model may make it.
    """
    rng = np.random.default_rng(seed)
    temperature = rng.uniform(*TEMPERATURES)
    system = force_field(box, pulled=model is None)
    if model:
        add_correction(system, box, model)
    running = simulation(box, system, temperature, TIMESTEP, seed, threads=1)
    running.context.setVelocitiesToTemperature(temperature, seed)
    sampled = []
    for k in range(frames):
        if model is None:
            pull(running, box, rng)
        try:
            running.step(interval if k else settle + interval)
            sampled += cuts(box, running.context.getState(getPositions=True), rng)
        except (OpenMMException, ValueError) as error:
            tqdm.write(f"a trajectory stops after {k} configurations: {error}")
            break
    return sampled


def pull(running, box, rng):
    """Draw the lengths of springs and zinc's radius anew."""
    for k in range(len(box.nitrogens())):
        running.context.setParameter(f"pull_{k}", rng.uniform(*PULLS))
    running.context.setParameter("wider", rng.uniform(*WIDER))


def sample_to_file(arguments, number):
    """Sample a trajectory, unless its file is there."""
    subset = "validation" if number % VALIDATION == VALIDATION - 1 else "train"
    path = arguments.output / f"{arguments.name}_{subset}_{number:02d}.xyz"
    if not path.exists():
        seed = crc32(path.name.encode()) % 2**31
        box = load(arguments.box)
        steps = arguments.frames, arguments.interval, seed, arguments.settle
        write_frames(path, sample(box, arguments.model, *steps))


def main():
    """Sample all trajectories."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="of a correction to sample with")
    parser.add_argument("--name", default="pulled", help="which the files begin with")
    parser.add_argument("--trajectories", type=int, default=24)
    parser.add_argument("--frames", type=int, default=20, help="configurations of a trajectory")
    parser.add_argument("--interval", type=int, default=150, help="steps between these")
    parser.add_argument("--settle", type=int, default=SETTLE, help="steps before the first")
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
