# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a DP region is, in a user's words, and laid out on the atoms of a topology."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from openmm import app, unit

from .region import Cut, Region


@dataclass(frozen=True)
class DPRegion:
    """What a model describes: whole residues near centres.

    Parameters
    ----------
    centres
        Indices of atoms.
    radius
        A residue is a member if the nearest image of any of its atoms is nearer than this to any
        centre. A length, or a number in nm; at most half of the box's smallest width.
    always
        Atoms whose residues are members wherever they are, those of a peptide, say.
    exclude
        Names of residues that are never members, ("NA", "CL"), say.
    forces_on
        Atoms that feel the model's forces; by default all members.
    atoms
        The members, once and for all; `fix` finds them. By default they are found anew in each
        configuration.
    name
        For messages and reports.
    """

    centres: Sequence[int]
    radius: unit.Quantity | float | None = None
    always: Sequence[int] = ()
    exclude: Sequence[str] = ()
    forces_on: Sequence[int] | None = None
    atoms: Sequence[int] | None = None
    name: str = "DP region"

    def cut(self, topology: app.Topology, positions: Any, box: Any = None) -> Cut:
        """Cut the region out of a configuration, to label it, say.

        Parameters
        ----------
        topology
            Of the system; it says what the residues are.
        positions
            [natoms, 3], lengths, or numbers in nm.
        box
            Rows are the box vectors; by default the topology's, if it has a box.

        Returns
        -------
        Cut
            Indices of the members [n], ascending, and their coordinates [n, 3] in nm, in one piece
            and relative to the first centre.

        Raises
        ------
        ValueError
            If the region does not fit the topology or the box, or the positions are not those of
            all atoms.
        """
        box = topology.getPeriodicBoxVectors() if box is None else box
        region = Labels.of(topology).region(self)
        r = np.array(plain(positions), float)
        if r.shape != (topology.getNumAtoms(), 3) or not np.isfinite(r).all():
            raise ValueError(
                f"{self.name}: positions must be finite, of the shape "
                f"{(topology.getNumAtoms(), 3)}, not {r.shape}"
            )
        return region.cut(r, None if box is None else np.array(plain(box), float))

    def fix(self, topology: app.Topology, positions: Any, box: Any = None) -> "DPRegion":
        """Return this region with the members that it has now, for good; arguments as of `cut`."""
        return replace(self, atoms=self.cut(topology, positions, box).atoms.tolist())


@dataclass(frozen=True, eq=False)
class Labels:
    """What a topology says of atoms and residues.

    Attributes
    ----------
    residue
        [natoms] int, the residue of each atom.
    symbols, names
        Of each atom, its element and its name; a virtual site has no element, but "".
    residues, residue_names
        Of each residue, chain:name:number, and its name.
    bonds
        [nbonds, 2] int, atoms.
    """

    residue: np.ndarray
    symbols: list[str]
    names: list[str]
    residues: list[str]
    residue_names: list[str]
    bonds: np.ndarray

    @classmethod
    def of(cls, topology: app.Topology) -> "Labels":
        """Read a topology."""
        atoms, residues = list(topology.atoms()), list(topology.residues())
        return cls(
            np.array([atom.residue.index for atom in atoms]),
            [atom.element.symbol if atom.element else "" for atom in atoms],
            [atom.name for atom in atoms],
            [f"{residue.chain.id}:{residue.name}:{residue.id}" for residue in residues],
            [residue.name for residue in residues],
            np.array([(a.index, b.index) for a, b in topology.bonds()], int).reshape(-1, 2),
        )

    def region(self, region: DPRegion, candidates: Sequence[int] | None = None) -> Region:
        """Lay out a region on the atoms, and check it.

        Parameters
        ----------
        region
            The region.
        candidates
            Atoms whose residues can become members; by default all.

        Raises
        ------
        ValueError
            If an atom does not exist or is no index, or there is no centre, no radius or no member.
        """
        atoms = {
            what: self._marked(getattr(region, what), f"{region.name}: {what}")
            for what in ("centres", "always", "forces_on", "atoms")
        }
        if not atoms["centres"].any():
            raise ValueError(f"{region.name}: a region needs at least one centre")
        radius = plain(region.radius or 0.0)
        if region.atoms is None and not radius > 0:
            raise ValueError(f"{region.name}: the radius is {region.radius}; it must be above 0")
        if isinstance(region.exclude, str):
            raise ValueError(f'{region.name}: exclude takes a list, as in ["{region.exclude}"]')
        excluded = np.isin(self.residue_names, list(region.exclude))[self.residue]
        eligible = np.array([symbol != "" for symbol in self.symbols]) & ~excluded
        if candidates is not None:
            chosen = self._marked(candidates, "candidates") | atoms["centres"] | atoms["always"]
            eligible &= self._residues_of(chosen)[self.residue]
        fixed = None if region.atoms is None else np.flatnonzero(atoms["atoms"] & eligible)
        if fixed is not None and len(fixed) == 0:
            raise ValueError(f"{region.name}: no atom of `atoms` can be a member")
        return Region(
            region.name,
            self.residue,
            self.bonds,
            eligible,
            atoms["forces_on"] | (region.forces_on is None),
            self._residues_of(atoms["always"]),
            np.array(region.centres, int),
            radius,
            fixed,
        )

    def _marked(self, atoms: Sequence[int] | None, what: str) -> np.ndarray:
        """Return which atoms [natoms] a list names."""
        natoms, atoms = len(self.residue), () if atoms is None else atoms
        indices = np.array(list(atoms) if np.iterable(atoms) else atoms)
        if indices.ndim != 1 or (len(indices) > 0 and indices.dtype.kind not in "iu"):
            raise ValueError(f"{what} takes a list of indices of atoms; of a mask, np.flatnonzero")
        wrong = indices[(indices < 0) | (indices >= natoms)]
        if len(wrong):
            raise ValueError(f"{what} has the atom {wrong[0]}; the last one is {natoms - 1}")
        return np.isin(np.arange(natoms), indices)

    def _residues_of(self, marked: np.ndarray) -> np.ndarray:
        """Return which residues [nresidues] have a marked atom."""
        return np.isin(np.arange(len(self.residues)), self.residue[marked])

    def types(self, type_map: Sequence[str]) -> np.ndarray:
        """Return the type of each atom [natoms] by its element; -1 if the type map lacks it."""
        type_of = {name.upper(): t for t, name in enumerate(type_map)}
        return np.array([type_of.get(symbol.upper(), -1) for symbol in self.symbols])


def plain(length: Any) -> Any:
    """Return lengths, quantities or numbers in nm, as numbers."""
    return length.value_in_unit(unit.nanometer) if unit.is_quantity(length) else length
