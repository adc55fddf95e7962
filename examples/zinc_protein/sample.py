# SPDX-License-Identifier: LGPL-3.0-or-later
"""Step 1: sample zinc sites.

Draws sites, relaxes each for a few steps and follows it by Langevin dynamics in the gas phase,
with GFN2-xTB. A trajectory gives thermal configurations and distorted ones, in a file of its
own: `train_000.xyz`, `validation_000.xyz`, `test_000.xyz` and so on. Files that exist are kept,
so that an interrupted run goes on where it stopped.

The test set has sites of its own: their residues in this combination, and their chemical
formulas, occur neither in the training nor in the validation set.
"""

import os
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"  # one trajectory for each core, and the same digits everywhere

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import CalculationFailed
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import BFGS
from scipy.spatial.distance import pdist
from sites import Ligand, build, donors, template
from steps import for_each, options, write_frames
from tblite.ase import TBLite

TEST_SITES = [  # of zinc fingers, carbonic anhydrase and thermolysin
    ("Cys", "Cys", "His", "His"),
    ("His", "His", "His", "Wat"),
    ("Glu", "His", "His", "Wat"),
]
RESIDUES = {"His": 0.35, "Cys": 0.25, "Asp": 0.12, "Glu": 0.13, "Wat": 0.15}  # probabilities
NUMBERS = {2: 0.2, 3: 0.3, 4: 0.5}  # probabilities of so many ligands
CAPPED = (0.0, 0.9)  # range of the probability that a residue of a site is capped
NDELTA = 0.3  # probability that a histidine coordinates with N-delta
MOST_WATERS = 6  # that do not coordinate zinc
ATOMS = range(30, 141)

RELAXATION_STEPS = 25
STEPS_BETWEEN_FRAMES = 10
TIMESTEP = 2.0 * units.fs
HYDROGEN = 4.0  # u, so that such steps are no longer than they may be; it changes no average
TEMPERATURES = (300.0, 600.0)  # K
FRICTION = 0.05 / units.fs
DISTORTION = {"molecule": 0.08, "atom": 0.02}  # Å, standard deviation of each component

COORDINATION_CUTOFF = 3.0  # Å, from zinc to the nearest donor of a ligand
CLOSEST_APPROACH = 0.7  # Å, between any two atoms


class Subset(NamedTuple):
    """How many trajectories there are, and what each gives, as far as it is sound."""

    trajectories: int
    thermal: int  # configurations
    distorted: int  # of the last ones of these


SUBSETS = {
    "test": Subset(27, 3, 1),
    "validation": Subset(26, 3, 1),
    "train": Subset(360, 6, 5),
}


class Site(NamedTuple):
    """A site to be sampled."""

    name: str  # of its file
    subset: Subset
    ligands: list
    waters: int
    seed: np.random.SeedSequence


def draw(is_test, number, rng):
    """Draw the residues of a site, their form, and a number of waters.

    Returns
    -------
    names : tuple of str
        Residues, sorted.
    ligands : list of Ligand
    waters : int
    """
    if is_test:
        names = TEST_SITES[number % len(TEST_SITES)]
    else:
        count = rng.choice(list(NUMBERS), p=list(NUMBERS.values()))
        names = rng.choice(list(RESIDUES), size=count, p=list(RESIDUES.values()))
    capped = rng.uniform(*CAPPED)
    ligands = []
    for name in map(str, names):
        residue = "His'" if name == "His" and rng.random() < NDELTA else name
        ligands.append(Ligand(residue, name != "Wat" and rng.random() < capped))
    return tuple(sorted(names)), ligands, int(rng.integers(MOST_WATERS + 1))


def symbols(ligands, waters):
    """Return the symbols of all atoms of a site, sorted."""
    parts = [template(ligand.smiles).symbols for ligand in ligands]
    return sorted(["Zn", *chain(*parts), *"OHH" * waters])


def plan(seed):
    """Draw all sites, the same ones for the same seed.

    Returns
    -------
    list of Site
    """
    names = [
        f"{name}_{k:03d}" for name, subset in SUBSETS.items() for k in range(subset.trajectories)
    ]
    drawing, *seeds = np.random.SeedSequence(seed).spawn(1 + len(names))
    rng = np.random.default_rng(drawing)
    held_out, sites = set(), []
    while len(sites) < len(names):
        name = names[len(sites)]
        subset = name.split("_")[0]
        is_test = subset == "test"
        residues, ligands, waters = draw(is_test, len(sites), rng)
        composition = tuple(symbols(ligands, waters))
        if is_test:
            held_out.add(composition)
        elif composition in held_out or residues in TEST_SITES:
            continue
        if len(composition) in ATOMS:
            sites.append(Site(name, SUBSETS[subset], ligands, waters, seeds[len(sites)]))
    return sites


def has_room(atoms):
    """Tell whether no two atoms have come too close."""
    return pdist(atoms.positions).min() > CLOSEST_APPROACH


def is_sound(atoms, ligands):
    """Tell whether, besides, every ligand coordinates zinc."""
    nearest = [atoms.get_distances(0, group).min() for group in donors(ligands)]
    return has_room(atoms) and max(nearest) < COORDINATION_CUTOFF


def distorted(atoms, rng):
    """Return a copy with its molecules displaced and, less so, its atoms."""
    copy = atoms.copy()
    for tag in np.unique(copy.get_tags()):
        copy.positions[copy.get_tags() == tag] += rng.normal(scale=DISTORTION["molecule"], size=3)
    copy.positions += rng.normal(scale=DISTORTION["atom"], size=copy.positions.shape)
    return copy


def sample(site):
    """Sample a site.

    Returns
    -------
    list of ase.Atoms
        Thermal configurations and distorted ones, as far as they are sound. Fewer of them if the
        self-consistent field fails.
    """
    rng = np.random.default_rng(site.seed)
    atoms = build(site.ligands, site.waters, rng)
    atoms.calc = TBLite(method="GFN2-xTB", charge=atoms.info["charge"], verbosity=0)
    temperature = rng.uniform(*TEMPERATURES)
    frames = []
    with suppress(CalculationFailed):  # frames before that are kept
        BFGS(atoms, logfile=None).run(steps=RELAXATION_STEPS)
        atoms.set_masses(np.where(atoms.symbols == "H", HYDROGEN, atoms.get_masses()))
        MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
        dynamics = Langevin(
            atoms, TIMESTEP, temperature_K=temperature, friction=FRICTION, fixcm=False, rng=rng
        )
        for _ in range(site.subset.thermal):
            dynamics.run(STEPS_BETWEEN_FRAMES)
            if is_sound(atoms, site.ligands):
                frames.append(atoms.copy())
    moved = [distorted(frame, rng) for frame in frames[-site.subset.distorted :]]
    frames += [frame for frame in moved if has_room(frame)]
    residues = "-".join(f"{part.residue}{'*' * part.capped}" for part in site.ligands)
    info = {"charge": atoms.info["charge"], "residues": residues}
    return [Atoms(frame.symbols, frame.positions, info=info) for frame in frames]


def sample_to_file(folder, site):
    """Sample a site, unless its file is there."""
    path = folder / f"{site.name}.xyz"
    if not path.exists():
        write_frames(path, sample(site))


def main():
    """Sample all sites."""
    parser = options(__doc__, output="samples")
    parser.add_argument("--seed", type=int, default=1, help="of all random numbers")
    arguments = parser.parse_args()
    for_each(
        partial(sample_to_file, arguments.output), plan(arguments.seed), arguments.workers, "site"
    )


if __name__ == "__main__":
    main()
