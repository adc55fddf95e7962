# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a DP region is, in a user's words."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import openmm
from openmm import app, unit

from ..shared.elements import Types
from ..shared.paths import Paths
from .arguments import box_vectors, topology_of, vectors
from .calibration import calibrated
from .labels import Labels
from .layout import lay_out
from .region import Cut


class LinkedCut(NamedTuple):
    """The atoms of a region, and the hydrogen atoms that end the bonds that it cuts.

    Attributes
    ----------
    atoms, coordinates
        As in Cut.
    bonds
        [m, 2] int, the bonds that were cut, member and outer atom.
    hydrogens
        [m, 3], where the link atoms are, in the frame of the coordinates.
    """

    atoms: np.ndarray
    coordinates: np.ndarray
    bonds: np.ndarray
    hydrogens: np.ndarray


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
        Atoms that feel the model's forces, indices, or names, as in ("SG", "NE2", "ZN"); by
        default all that the energy depends on.
    atoms
        The members, once and for all; `fix` finds them. By default they are found anew in each
        configuration.
    name
        For messages and reports.
    whole_residues
        Whether residues are members as a whole; otherwise each atom is one by itself.
    hydrogens
        Whether hydrogen atoms, too, make their residue a member when they are near; otherwise only
        other atoms do.
    link_atoms
        Whether bonds that leave the region end in hydrogen atoms, of the model's type H, on the
        bond, at the distance of OpenMM-ML. Or that distance by the member's element,
        {"C": 0.109}, a length, or in nm; others keep theirs.
    buffer
        How wide the smooth edge is, a length, or in nm; at most the radius, inside of which it
        lies. Residues in it are there in part, so that the energy does not jump. None for an abrupt
        edge. Of no effect if the atoms are fixed.
    reference
        What a residue gives on entering, alpha + beta W, W being how many of its kind are there:
        {"HOH": (alpha, beta)}, energies, or in kJ/mol, by names of residues, or, of single atoms,
        by their types. It is for one model; `calibrate` finds it.
    """

    centres: Sequence[int]
    radius: unit.Quantity | float | None = None
    always: Sequence[int] = ()
    exclude: Sequence[str] = ()
    forces_on: Sequence[int] | Sequence[str] | None = None
    atoms: Sequence[int] | None = None
    name: str = "DP region"
    whole_residues: bool = True
    hydrogens: bool = True
    link_atoms: bool | Mapping[str, unit.Quantity | float] = False
    buffer: unit.Quantity | float | None = None
    reference: Mapping[str, Sequence[Any]] | None = None

    def __post_init__(self) -> None:
        """Keep what can be read only once."""
        for field in fields(self):
            if isinstance(value := getattr(self, field.name), Iterator):
                object.__setattr__(self, field.name, tuple(value))

    def cut(
        self,
        topology: app.Topology,
        positions: Any,
        box: Any = None,
        *,
        types: Types = "element",
        system: openmm.System | None = None,
    ) -> Cut | LinkedCut:
        """Cut the region out of a configuration, to label it, say.

        Parameters
        ----------
        topology
            Of the system; it says what the residues are.
        positions
            [natoms, 3], lengths, or numbers in nm.
        box
            Rows are the box vectors; by default the topology's, if it has a box.
        types, system
            As of `dp_force`. Here they tell which atoms are virtual sites.

        Returns
        -------
        Cut or LinkedCut
            Indices of the members [n], ascending, and their coordinates [n, 3] in nm, in one piece
            and relative to the first centre; with link atoms, also the bonds that were cut, and
            coordinates of the hydrogen atoms.

        Raises
        ------
        ValueError
            If the region does not fit the topology or the box, or the positions are not those of
            all atoms.
        """
        topology_of(topology, "topology")
        region = lay_out(self, Labels.of(topology, types, system))
        box = topology.getPeriodicBoxVectors() if box is None else box
        box = box_vectors(box, f"{self.name}: box")
        r = vectors(positions, (topology.getNumAtoms(), 3), f"{self.name}: positions")
        cut = region.cut(r, box)
        if region.link_lengths is None:
            return cut
        links = region.links(cut, r, box)
        bonds = np.stack([cut.atoms[links.row], links.outer], axis=1)
        return LinkedCut(*cut, bonds, links.coordinates)

    def fix(
        self, topology: app.Topology, positions: Any, box: Any = None, **options: Any
    ) -> "DPRegion":
        """Return this region with the members that it has now, for good; arguments as of `cut`."""
        found = self.cut(topology, positions, box, **options)
        return replace(self, atoms=found.atoms.tolist())

    def calibrate(
        self,
        model: Paths,
        topology: app.Topology,
        frames: Iterable,
        box: Any = None,
        **options: Any,
    ) -> "DPRegion":
        """Return this region with a reference for each kind of residue that is in the buffer.

        For each kind alpha + beta W is fitted to dE/dw of its residues in the buffer, in all
        frames, so that entering costs nothing on average.

        Parameters
        ----------
        model
            The frozen model, or several.
        topology
            Of the system.
        frames
            Positions of all atoms, [natoms, 3] each, lengths, or numbers in nm. As many, and as
            different, as the simulation to come will meet.
        box
            Rows are the box vectors, for all frames, or for each its own; by default the
            topology's, if it has a box.
        options
            Of `dp_force`, but for `scale`.

        Raises
        ------
        ValueError
            If no residue is in the buffer in any frame, there are too few different W of a kind to
            fit to, or an argument is none that can be meant.
        """
        return replace(self, reference=calibrated(self, model, topology, frames, box, options))
