# SPDX-License-Identifier: LGPL-3.0-or-later
"""What `dp-mask learn` explores with OpenMM: the DP region of the whole box.

Without a committee: with the force field, while springs pull zinc to the histidines. Their lengths
are drawn anew before each configuration, and so is zinc's radius, so that fewer or more waters have
room in its shell. With a committee: with the corrected force field.

Each configuration is cut twice: as the region of the simulation, and at a radius drawn at random,
without some of the waters beyond zinc's shell. So the data tell what energy a water brings.
"""

import numpy as np
from system import BOX, force_field, integrator, load

from deepmd_mask.learning.openmm import Setup

PULLS = (0.18, 0.27)  # nm
WIDER = (0.0, 0.25)  # nm, added to zinc's sigma
ROOM = 10  # steps of minimisation in which waters make it, lest they are thrown about
RADII = (0.30, 0.45)  # nm, at which configurations are cut
SHELL = 0.26  # nm; waters with an atom nearer than this are never left out
LEFT_OUT = (-0.5, 0.5)  # share of the others; none if it is negative


def build(committee, task, seed):
    """Return what is simulated, as `deepmd_mask.learning.openmm.explore` calls it."""
    box = load(BOX)

    def disturb(running, rng):
        """Draw the lengths of springs and zinc's radius anew."""
        for k in range(len(box.nitrogens())):
            running.context.setParameter(f"pull_{k}", rng.uniform(*PULLS))
        running.context.setParameter("wider", rng.uniform(*WIDER))
        running.minimizeEnergy(maxIterations=ROOM)

    return Setup(
        box.topology,
        force_field(box, pulled=not committee),
        box.positions,
        box.region(),
        cuts=[box.region(max(RADII))],
        thin=lambda atoms, rng: thin(box, atoms, rng),
        integrator=integrator,
        disturb=None if committee else disturb,
    )


def outer_waters(box, atoms):
    """Return which atoms of a frame each water beyond zinc's shell has, nearest waters first.

    Parameters
    ----------
    box : Box
    atoms : ase.Atoms
        With the array `index`.

    Returns
    -------
    rows : numpy.ndarray
        [nwaters, 3] int.
    nearest : numpy.ndarray
        [nwaters], the distance of the nearest of them from zinc, in nm.
    """
    of_box = list(box.topology.atoms())
    residues = [of_box[k].residue for k in atoms.get_array("index")]
    number = np.array([r.index if r.name == "HOH" else -1 for r in residues])
    zinc = atoms.positions[atoms.symbols == "Zn"]
    distances = np.linalg.norm(atoms.positions - zinc, axis=1) / 10
    rows = np.array([np.flatnonzero(number == k) for k in np.unique(number[number >= 0])])
    rows = rows.reshape(-1, 3)
    nearest = distances[rows].min(axis=1)
    order = np.argsort(nearest)
    is_outer = nearest[order] >= SHELL
    return rows[order][is_outer], nearest[order][is_outer]


def thin(box, atoms, rng):
    """Return the frame at a smaller radius, and without some of the waters beyond zinc's shell.

    Parameters
    ----------
    box : Box
    atoms : ase.Atoms
        A region of the largest radius, with the array `index`.
    rng : numpy.random.Generator
        Draws radius and waters.
    """
    waters, nearest = outer_waters(box, atoms)
    kept = rng.permutation(waters[nearest < rng.uniform(*RADII)])
    left_out = round(max(0, rng.uniform(*LEFT_OUT)) * len(kept))
    is_outer = np.zeros(len(atoms), bool)
    is_outer[waters] = True
    is_outer[kept[left_out:]] = False
    return atoms[~is_outer]
