# SPDX-License-Identifier: LGPL-3.0-or-later
"""Make the data set of this example: zinc with ligands that occur in proteins.

Each trajectory holds Zn(2+) with three to five ligands drawn at random from imidazole (as in
histidine), methylthiolate (cysteine), acetate (aspartate, glutamate) and water, relaxed for a
few steps and sampled by Langevin dynamics in the gas phase. GFN2-xTB gives energies and forces,
through tblite. The frames of all trajectories, shuffled and padded with virtual atoms, make up
two masked systems, `train` and `validation`, which share no trajectory. Units are eV and Å.

Needs `pip install tblite ase tqdm` and some ten minutes of one core. A seed gives the same
frames for any number of workers.
"""

import argparse
import multiprocessing
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import CalculationFailed
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import BFGS
from tblite.ase import TBLite
from tqdm import tqdm

# Slots per type: `sel` of input.json, which leaves room for larger DP regions than these.
SEL = {"C": 36, "O": 16, "N": 24, "H": 64, "S": 6, "Zn": 1}

TRAJECTORIES = {"train": 88, "validation": 22}
FRAMES_PER_TRAJECTORY = 3
STEPS_BETWEEN_FRAMES = 80
RELAXATION_STEPS = 20
TIMESTEP = 1.0 * units.fs
TEMPERATURE = 400.0  # K
FRICTION = 0.05 / units.fs
SCF_ACCURACY = 0.01  # of tblite's default threshold: forces are then exact to 1e-6 eV/Å

LOWEST_CHARGE = -2  # e, of the complex; the gas phase does not hold more than four anions
COORDINATION_CUTOFF = 2.8  # Å, from zinc to a donor atom
CLOSEST_APPROACH = 0.7  # Å, between any two real atoms


class Ligand(NamedTuple):
    """A ligand as it stands when zinc is at the origin and the first donor atom on +z."""

    charge: int  # e
    donors: int  # so many atoms, the first ones, can coordinate zinc
    geometry: str  # symbol, x, y, z of each atom, Å


# Free ligands relaxed with GFN2-xTB, turned so that a lone pair of the donor points to zinc.
LIGANDS = {
    "imidazole": Ligand(
        charge=0,
        donors=1,
        geometry="""
            N  0.00 0.00 2.00   C  1.04 0.00 2.78   N  0.68 0.00 4.09   C -0.69 0.00 4.12
            C -1.08 0.00 2.82   H  2.06 0.00 2.46   H  1.29 0.00 4.89   H -1.24 0.00 5.04
            H -2.08 0.00 2.42""",
    ),
    "methylthiolate": Ligand(
        charge=-1,
        donors=1,
        geometry="""
            S  0.00 0.00 2.30   C  1.74 0.00 2.77
            H  2.38 0.00 1.87   H  1.98 0.89 3.36   H  1.98 -0.89 3.36""",
    ),
    "acetate": Ligand(
        charge=-1,
        donors=2,
        geometry="""
            O  0.00 0.00 2.00   O  2.24 0.00 1.98   C  1.12 0.00 2.52   C  1.15 0.00 4.11
            H  0.13 0.00 4.50   H  1.68 0.88 4.46   H  1.68 -0.88 4.46""",
    ),
    "water": Ligand(
        charge=0,
        donors=1,
        geometry="O 0.00 0.00 2.00   H 0.77 0.00 2.57   H -0.77 0.00 2.57",
    ),
}

# Directions from zinc to the donor atoms: triangle, tetrahedron, trigonal bipyramid.
TRIANGLE = [(1, 0, 0), (-0.5, 0.75**0.5, 0), (-0.5, -(0.75**0.5), 0)]
DIRECTIONS = {
    3: TRIANGLE,
    4: [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)],
    5: [*TRIANGLE, (0, 0, 1), (0, 0, -1)],
}


def draw_ligands(rng):
    """Draw three to five ligands, most often four, and give them with the complex's charge in e."""
    while True:
        number = rng.choice([3, 4, 5], p=[0.25, 0.5, 0.25])
        ligands = [LIGANDS[name] for name in rng.choice(list(LIGANDS), size=number)]
        charge = 2 + sum(ligand.charge for ligand in ligands)
        if charge >= LOWEST_CHARGE:
            return ligands, charge


def place(ligand, direction, angle):
    """Turn a ligand by an angle in degrees about the z axis, then the z axis to a direction."""
    table = np.reshape(ligand.geometry.split(), (-1, 4))
    placed = Atoms(table[:, 0], positions=table[:, 1:].astype(float))
    placed.rotate(angle, "z")
    placed.rotate("z", direction)
    return placed


def build_complex(ligands, rng):
    """Put ligands round a zinc ion, each at a random angle about its zinc-donor axis.

    Parameters
    ----------
    ligands : list of Ligand
    rng : numpy.random.Generator

    Returns
    -------
    ase.Atoms
        Zinc comes first. The tag of a donor atom is its ligand's number, from 1; the tag of any
        other atom is 0.
    """
    cluster = Atoms("Zn")

    def clearance(placed):
        return np.linalg.norm(placed.positions[:, None] - cluster.positions, axis=-1).min()

    for number, ligand in enumerate(ligands, start=1):
        direction = DIRECTIONS[len(ligands)][number - 1]
        angles = rng.uniform(0, 360, size=20)
        roomiest = max((place(ligand, direction, angle) for angle in angles), key=clearance)
        roomiest.set_tags(np.where(np.arange(len(roomiest)) < ligand.donors, number, 0))
        cluster += roomiest
    return cluster


def coordinating(cluster):
    """Mark the donor atoms that coordinate zinc, in a bool array [natoms]."""
    distance = cluster.get_distances(0, np.arange(len(cluster)))
    return (cluster.get_tags() > 0) & (distance < COORDINATION_CUTOFF)


def is_sound(cluster):
    """Tell whether every ligand still coordinates zinc and no two atoms have come too close."""
    tags = cluster.get_tags()
    bound = np.unique(tags[coordinating(cluster)])
    distances = cluster.get_all_distances()[np.triu_indices(len(cluster), k=1)]
    return len(bound) == tags.max() and distances.min() > CLOSEST_APPROACH


def label(cluster):
    """Label a configuration and put its atoms into slots.

    Parameters
    ----------
    cluster : ase.Atoms
        As `build_complex` returns it, with a calculator.

    Returns
    -------
    dict of str to numpy.ndarray
        Arrays of one frame of a masked system by file name: `coord` (Å) and `force` (eV/Å)
        [3 * nslots], `energy` (eV) [], `aparam` and `atom_pref` [nslots].
    """
    symbols = np.array(cluster.get_chemical_symbols())
    slots, first = np.empty(len(cluster), dtype=int), 0
    for symbol, bound in SEL.items():
        atoms = np.flatnonzero(symbols == symbol)
        slots[atoms] = first + np.arange(len(atoms))
        first += bound

    # The model never reads virtual atoms, but viewers do: a line of them, off the complex.
    coord = np.zeros((first, 3))
    coord[:, 0] = 100 + 2 * np.arange(first)
    coord[slots] = cluster.get_positions()
    force, mask, pref = np.zeros((first, 3)), np.zeros(first), np.zeros(first)
    force[slots] = cluster.get_forces()
    mask[slots] = 1
    pref[slots] = (symbols == "Zn") | coordinating(cluster)
    return {
        "coord": coord.ravel(),
        "force": force.ravel(),
        "energy": np.array(cluster.get_potential_energy()),
        "aparam": mask,
        "atom_pref": pref,
    }


def sample(seed):
    """Relax a random complex a little and sample it by Langevin dynamics.

    Parameters
    ----------
    seed : numpy.random.SeedSequence

    Returns
    -------
    list of dict
        What `label` gives for each of `FRAMES_PER_TRAJECTORY` configurations that is sound.
    """
    rng = np.random.default_rng(seed)
    ligands, charge = draw_ligands(rng)
    cluster = build_complex(ligands, rng)
    cluster.calc = TBLite(method="GFN2-xTB", charge=charge, accuracy=SCF_ACCURACY, verbosity=0)
    frames = []
    with suppress(CalculationFailed):  # no self-consistent field: the trajectory ends here
        BFGS(cluster, logfile=None).run(steps=RELAXATION_STEPS)
        MaxwellBoltzmannDistribution(cluster, temperature_K=TEMPERATURE, rng=rng)
        dynamics = Langevin(
            cluster, TIMESTEP, temperature_K=TEMPERATURE, friction=FRICTION, fixcm=False, rng=rng
        )
        for _ in range(FRAMES_PER_TRAJECTORY):
            dynamics.run(STEPS_BETWEEN_FRAMES)
            if is_sound(cluster):
                frames.append(label(cluster))
    return frames


def write_system(frames, folder):
    """Write frames, each as `label` gives it, to a folder in the `deepmd/npy` format."""
    (folder / "set.000").mkdir(parents=True, exist_ok=True)
    types = np.repeat(np.arange(len(SEL)), list(SEL.values()))
    np.savetxt(folder / "type.raw", types, fmt="%d")
    (folder / "type_map.raw").write_text("".join(f"{symbol.upper()}\n" for symbol in SEL))
    (folder / "nopbc").touch()
    for name in frames[0]:
        np.save(folder / "set.000" / name, np.stack([frame[name] for frame in frames]))


def main():
    """Sample all trajectories and write both systems."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    data = Path(__file__).parent / "data"
    parser.add_argument("--output", type=Path, default=data, help="folder for both systems")
    parser.add_argument("--seed", type=int, default=1, help="seed of all random numbers")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    arguments = parser.parse_args()

    # tblite reads this when a spawned worker loads it: one thread per trajectory is fastest,
    # and sums over threads would make the last digits depend on the machine's core count.
    os.environ["OMP_NUM_THREADS"] = "1"
    shuffling, *seeds = np.random.SeedSequence(arguments.seed).spawn(1 + sum(TRAJECTORIES.values()))
    with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
        sampled = tqdm(pool.imap(sample, seeds), total=len(seeds), unit="trajectory")
        trajectories = list(sampled)

    rng = np.random.default_rng(shuffling)
    for name, number in TRAJECTORIES.items():
        frames = [frame for trajectory in trajectories[:number] for frame in trajectory]
        del trajectories[:number]
        rng.shuffle(frames)
        write_system(frames, arguments.output / name)
        print(f"{arguments.output / name}: {len(frames)} frames")


if __name__ == "__main__":
    main()
