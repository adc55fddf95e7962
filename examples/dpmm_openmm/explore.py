# SPDX-License-Identifier: LGPL-3.0-or-later
"""Explores for `dp-mask learn`: the DP region, by molecular dynamics of the whole box.

Without a committee: with the force field, while springs pull zinc to the histidines. Their lengths
are drawn anew before each configuration, and so is zinc's radius, so that fewer or more waters have
room in its shell. With a committee: with the corrected force field. In both it is warmer than in
the simulations that the models are for.

Each configuration is cut twice: as the region of the simulation, and at a radius drawn at random,
without some of the waters beyond zinc's shell. So the data tell what energy a water brings.
"""

import numpy as np
from ase import Atoms, units
from openmm import OpenMMException
from system import BOX, add_correction, force_field, load, simulation

from deepmd_mask.ase import MaskedDP
from deepmd_mask.learning.frames import write_frames

TEMPERATURES = (300.0, 450.0)  # K
PULLS = (0.18, 0.27)  # nm
WIDER = (0.0, 0.25)  # nm, added to zinc's sigma
RADII = (0.30, 0.45)  # nm, at which configurations are cut
SHELL = 0.26  # nm; waters with an atom nearer than this are never left out
LEFT_OUT = (-0.5, 0.5)  # share of the others; none if it is negative
LIGAND = 2.8  # Å from zinc; deviations count up to here


def explore(committee, folder, task, seed, frames, interval, settle, stop):
    """Explore: write the frames of a trajectory to frames.xyz.

    Parameters
    ----------
    committee : list of str
        Frozen models, none in the beginning.
    folder : pathlib.Path
    task, seed : int
        Of the trajectory.
    frames, interval, settle : int
        Number of configurations, steps between them, and before those of the first one, since all
        trajectories begin in one configuration.
    stop : float
        eV/Å; the trajectory ends where the largest deviation is larger.
    """
    rng = np.random.default_rng(seed)
    box = load(BOX)
    system = force_field(box, pulled=not committee)
    if committee:
        add_correction(system, box, committee)
    temperature = rng.uniform(*TEMPERATURES)
    running = simulation(box, system, temperature, seed, threads=1)
    trusted, written, done = Trust(committee, stop), [], 0
    try:
        running.step(settle)
        while done < frames:
            if not committee:
                pull(running, box, rng)
            running.step(interval)
            written += cuts(box, running.context.getState(getPositions=True), rng)
            done += 1
            if not trusted(written[-2]):
                break
    except (OpenMMException, ValueError) as error:
        print(f"the trajectory ends after {done} configurations: {error}")
        if not done:
            raise
    if done < frames:
        written[-1].info["lost"] = 2 * (frames - done)
    write_frames(folder / "frames.xyz", written)


class Trust:
    """Tells whether a committee agrees about a frame.

    Parameters
    ----------
    committee : list of str
    stop : float
        eV/Å; the largest deviation of the force on zinc or a ligand.
    """

    def __init__(self, committee, stop):
        self.calculator = MaskedDP(committee) if committee else None
        self.stop = stop

    def __call__(self, atoms):
        """Return whether it does, and note in the frame how far the models differ."""
        if self.calculator is None:
            return True
        self.calculator.calculate(atoms)
        deviation = self.calculator.results["deviation"]
        atoms.set_array("deviation", deviation)
        near = np.linalg.norm(atoms.positions, axis=1) < LIGAND  # zinc is the origin
        return deviation[near].max() < self.stop


def cuts(box, state, rng):
    """Cut the DP region out of a configuration, twice.

    Parameters
    ----------
    box : Box
    state : openmm.State
        With positions.
    rng : numpy.random.Generator
        Draws radius and waters of the second cut.

    Returns
    -------
    list of ase.Atoms
        With the array `index`; zinc is at the origin.

    Raises
    ------
    ValueError
        If there is no region, as after an explosion.
    """
    positions, vectors = state.getPositions(asNumpy=True), state.getPeriodicBoxVectors()
    index, r = box.region(max(RADII)).cut(box.topology, positions, vectors)
    all_atoms = list(box.topology.atoms())
    symbols = np.array([all_atoms[k].element.symbol for k in index])
    residue = np.array([all_atoms[k].residue.index for k in index])
    waters = np.unique([r.index for r in {all_atoms[k].residue for k in index} if r.name == "HOH"])
    distances = np.linalg.norm(r, axis=1)
    nearest = np.array([distances[residue == water].min() for water in waters])
    outer = rng.permutation(waters[(nearest >= SHELL) & (nearest < rng.uniform(*RADII))])
    left_out = round(max(0, rng.uniform(*LEFT_OUT)) * len(outer))
    regular, _ = box.region().cut(box.topology, positions, vectors)
    members = np.isin(residue, outer[left_out:]) | ~np.isin(residue, waters[nearest >= SHELL])
    found = []
    for kept in (np.isin(index, regular), members):
        atoms = Atoms(symbols[kept], r[kept] * units.nm)
        atoms.set_array("index", index[kept])
        found.append(atoms)
    return found


def pull(running, box, rng):
    """Draw the lengths of springs and zinc's radius anew."""
    for k in range(len(box.nitrogens())):
        running.context.setParameter(f"pull_{k}", rng.uniform(*PULLS))
    running.context.setParameter("wider", rng.uniform(*WIDER))
