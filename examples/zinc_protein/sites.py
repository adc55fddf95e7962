# SPDX-License-Identifier: LGPL-3.0-or-later
"""Build zinc sites: a zinc ion, residues that coordinate it, and water around them."""

from functools import cache
from typing import NamedTuple

import numpy as np
from ase import Atoms
from rdkit import Chem, rdBase
from rdkit.Chem import AllChem

# Side chains, from the beta carbon on. Atoms numbered in the SMILES coordinate zinc. His has its
# proton on N-delta and coordinates with N-epsilon, His' the other way round.
SIDE_CHAINS = {
    "His": "Cc1[nH]c[n:1]c1",
    "His'": "Cc1[n:1]c[nH]c1",
    "Cys": "C[S-:1]",
    "Asp": "CC([O-:1])=[O:2]",
    "Glu": "CCC([O-:1])=[O:2]",
}
CAPPED = "CC(=O)N[C@@H]({})C(=O)NC"  # ACE, the residue, NME
WATER = "[OH2:1]"
CHARGE = {"Cys": -1, "Asp": -1, "Glu": -1}  # e

ZINC_TO_DONOR = {"N": 2.05, "S": 2.30, "O": 2.00}  # Å
ZINC_TO_CHELATE = 2.15  # Å, to both oxygen atoms of a carboxylate
BEND = {"S": 105.0, "O": 120.0}  # degrees, zinc-donor-carbon
DIRECTIONS = {  # from zinc to its ligands
    2: [(0, 0, 1), (0, 0, -1)],
    3: [(1, 0, 0), (-0.5, 0.75**0.5, 0), (-0.5, -(0.75**0.5), 0)],
    4: [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)],
}
SPREAD = 0.15  # of the components of a unit vector: how far directions are off these
CONFORMERS = 12
TRIALS = 40  # placements of which the roomiest is taken
HYDROGEN_BOND = 2.8  # Å, from the oxygen of a water molecule to a heavy atom


class Ligand(NamedTuple):
    """What coordinates zinc."""

    residue: str  # a key of SIDE_CHAINS, or "Wat"
    capped: bool  # between ACE and NME, or cut off at the beta carbon

    @property
    def smiles(self):
        """Its structure; the numbered atoms are the donors."""
        if self.residue == "Wat":
            return WATER
        side = SIDE_CHAINS[self.residue]
        return CAPPED.format(side) if self.capped else side


class Template(NamedTuple):
    """A free ligand."""

    symbols: list
    conformers: np.ndarray  # [CONFORMERS, natoms, 3], Å
    donors: list  # indices of atoms
    bonded: list  # of each donor, the indices of its neighbours


@cache
def template(smiles):
    """Return conformers of a free ligand."""
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    with rdBase.BlockLogs():  # force field types of ions are missing, and not needed
        AllChem.EmbedMultipleConfs(molecule, CONFORMERS, randomSeed=1)
    donors = [atom for atom in molecule.GetAtoms() if atom.GetAtomMapNum()]
    return Template(
        [atom.GetSymbol() for atom in molecule.GetAtoms()],
        np.array([conformer.GetPositions() for conformer in molecule.GetConformers()]),
        [atom.GetIdx() for atom in donors],
        [[other.GetIdx() for other in atom.GetNeighbors()] for atom in donors],
    )


def unit(vector):
    """Return a vector of length 1."""
    return vector / np.linalg.norm(vector)


def zinc_beside(ligand, positions, chelating, rng):
    """Return a point at which a ligand would like zinc, [3], Å."""
    donor = positions[ligand.donors[0]]
    if chelating:
        other, carbon = positions[ligand.donors[1]], positions[ligand.bonded[0][0]]
        middle = (donor + other) / 2
        reach = np.sqrt(ZINC_TO_CHELATE**2 - np.sum((donor - middle) ** 2))
        return middle + reach * unit(middle - carbon)
    symbol = ligand.symbols[ligand.donors[0]]
    bonds = [unit(positions[atom] - donor) for atom in ligand.bonded[0]]
    if len(bonds) == 1:
        sideways = unit(np.cross(bonds[0], rng.normal(size=3)))
        angle = np.radians(BEND[symbol])
        away = np.cos(angle) * bonds[0] + np.sin(angle) * sideways
    else:
        away = -unit(sum(bonds))
    return donor + ZINC_TO_DONOR[symbol] * away


def place(ligand, direction, chelating, rng):
    """Return atoms of a ligand in a direction from zinc, which is at the origin."""
    free = template(ligand.smiles)
    positions = free.conformers[rng.integers(len(free.conformers))]
    zinc = zinc_beside(free, positions, chelating, rng)
    donors = free.donors[: 1 + chelating]
    placed = Atoms(free.symbols, positions - zinc)
    placed.rotate(placed.positions[donors].mean(axis=0), direction)
    placed.rotate(rng.uniform(0, 360), direction)
    return placed


def clearance(placed, others):
    """Return the shortest distance from one group of atoms to another, Å."""
    return np.linalg.norm(placed.positions[:, None] - others.positions, axis=-1).min()


def build(ligands, waters, rng):
    """Build a site.

    Parameters
    ----------
    ligands : list of Ligand
        Two to four of them.
    waters : int
        Number of water molecules that do not coordinate zinc.
    rng : numpy.random.Generator

    Returns
    -------
    ase.Atoms
        Zinc comes first, at the origin. `tags` number the molecules: zinc 0, ligands from 1 on,
        then waters, as negative numbers. `info["charge"]` is the charge in e.
    """
    charge = 2 + sum(CHARGE.get(ligand.residue, 0) for ligand in ligands)
    site = Atoms("Zn", info={"charge": charge})
    for number, ligand in enumerate(ligands, start=1):
        direction = unit(np.array(DIRECTIONS[len(ligands)][number - 1], dtype=float))
        chelating = len(template(ligand.smiles).donors) > 1 and rng.random() < 0.5
        trials = [
            place(ligand, direction + SPREAD * rng.normal(size=3), chelating, rng)
            for _ in range(TRIALS)
        ]
        roomiest = max(trials, key=lambda placed: clearance(placed, site))
        roomiest.set_tags(number)
        site += roomiest
    for number in range(1, waters + 1):
        water = add_water(site, rng)
        water.set_tags(-number)
        site += water
    return site


def add_water(site, rng):
    """Return a water molecule that may form a hydrogen bond with a site, where there is room."""
    heavy = np.flatnonzero(np.isin(site.get_chemical_symbols(), ["N", "O", "S"]))
    water = template(WATER)
    trials = []
    for _ in range(TRIALS):
        placed = Atoms(water.symbols, water.conformers[0] - water.conformers[0][0])
        placed.rotate(rng.uniform(0, 360), unit(rng.normal(size=3)))
        placed.translate(site.positions[rng.choice(heavy)])
        placed.translate(HYDROGEN_BOND * unit(rng.normal(size=3)))
        trials.append(placed)
    return max(trials, key=lambda placed: clearance(placed, site))


def donors(ligands):
    """Return the donor atoms of a site as `build` orders it, a list of indices for each ligand."""
    first, found = 1, []
    for ligand in ligands:
        free = template(ligand.smiles)
        found.append([first + atom for atom in free.donors])
        first += len(free.symbols)
    return found
