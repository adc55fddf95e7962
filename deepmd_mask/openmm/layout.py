# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a DP region is, in a user's words, and laid out on the atoms of a topology."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import openmm
from openmm import app, unit

from ..shared.elements import Types
from .arguments import box_vectors, indices, is_names, length, names, topology_of, vectors
from .labels import Labels
from .layout_of_edge import lay_out_edge, require_smooth
from .links import LENGTHS
from .region import Cut, Region

# The arguments of a DPRegion that name atoms; `marks` has for each which atoms those are.
ATOM_LISTS = ("centres", "always", "forces_on", "atoms")


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
        model: str | PathLike,
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
            The frozen model.
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
        from .calibration import calibrated  # noqa: PLC0415  it needs this module

        return replace(self, reference=calibrated(self, model, topology, frames, box, options))


def lay_out(region: DPRegion, labels: Labels, candidates: Sequence[int] | None = None) -> Region:
    """Lay out a region on the atoms of a system, and check it.

    Parameters
    ----------
    region
        The region.
    labels
        Of the atoms.
    candidates
        Atoms whose residues can become members; by default all.

    Raises
    ------
    ValueError
        If an argument is none that can be meant, an atom does not exist, one that is named as a
        member cannot be one, or one that may be a member has no element.
    """
    _require_flags(region)
    marks = {what: _marked(region, what, labels) for what in ATOM_LISTS}
    if not marks["centres"].any():
        raise ValueError(f"{region.name}: a region needs at least one centre")
    if region.forces_on is not None and not marks["forces_on"].any():
        msg = f"{region.name}: forces_on has no atom; None lets all members feel the forces"
        raise ValueError(msg)
    fixed = region.atoms is not None
    radius = 0.0 if fixed else length(region.radius, f"{region.name}: the radius")
    natoms = len(labels.residue)
    group = labels.residue if region.whole_residues else np.arange(natoms)
    excluded = names(region.exclude, f"{region.name}: exclude", '["NA", "CL"]')
    eligible = ~np.isin(labels.residue_names, excluded)[labels.residue]
    if candidates is not None:
        chosen = _mask(indices(candidates, natoms, "candidates"), natoms)
        chosen |= marks["centres"] | marks["always"] | marks["atoms"]
        eligible &= np.isin(group, group[chosen])
    _require_known(region, labels, marks, eligible)
    real = np.array([symbol != "" for symbol in labels.symbols])
    eligible &= real
    for what in ("atoms",) if fixed else ("centres", "always"):
        _require_eligible(region, labels, what, marks[what] & ~eligible)
    always = _mask(group[marks["always"]], group.max() + 1)
    edge = None if fixed else lay_out_edge(region, labels, radius)
    if edge is not None:
        always[group[marks["centres"]]] = True
    members = np.flatnonzero(marks["atoms"]) if fixed else None
    if members is not None and len(members) == 0:
        raise ValueError(f"{region.name}: `atoms` has no atom; None finds the members anew")
    telling = eligible
    if not region.hydrogens:
        telling = eligible & ((np.array(labels.elements) != "H") | marks["centres"])
    found = Region(
        region.name,
        group,
        labels.bonds[real[labels.bonds].all(axis=1)],
        eligible,
        telling,
        marks["forces_on"] | (region.forces_on is None),
        always,
        indices(region.centres, natoms, "centres"),
        radius,
        members,
        _link_lengths(region, labels.elements),
        edge,
    )
    require_smooth(found, labels)
    return found


def _marked(region: DPRegion, what: str, labels: Labels) -> np.ndarray:
    """Return which atoms [natoms] a list of the region names."""
    atoms, natoms = getattr(region, what), len(labels.residue)
    if atoms is None:
        return np.full(natoms, False)
    if what != "forces_on" or not is_names(atoms):
        return _mask(indices(atoms, natoms, f"{region.name}: {what}"), natoms)
    atoms = names(atoms, f"{region.name}: forces_on", '["SG", "NE2", "ZN"]')
    for name in atoms:
        if name not in labels.names:
            msg = (
                f'{region.name}: forces_on has atoms named "{name}", but the topology has none; '
                "leave the name out, or spell it as the topology does (OpenMM's own files call the "
                "oxygen of water O)"
            )
            raise ValueError(msg)
    return np.isin(labels.names, atoms)


def _mask(chosen: np.ndarray, length: int) -> np.ndarray:
    return np.isin(np.arange(length), chosen)


def _require_known(
    region: DPRegion, labels: Labels, marks: dict[str, np.ndarray], eligible: np.ndarray
) -> None:
    """Raise a ValueError if an atom that matters may be one that no element is known of."""
    remedy = (
        'give `types`, as in types={"ZN": "Zn"}, or types="name"; or the `system`, whose virtual '
        "sites are left out"
    )
    for what, marked in marks.items():
        for atom in np.flatnonzero(marked & labels.sites)[:1].tolist():
            msg = f"{region.name}: {what} has {labels.atom(atom)} a virtual site without element"
            raise ValueError(f"{msg}; leave it out, or {remedy}")
    for atom, reason in labels.unknown.items():
        for what in (what for what, marked in marks.items() if marked[atom]):
            msg = f"{region.name}: {what} has {labels.atom(atom)} which {reason}"
            raise ValueError(f"{msg}; {remedy}")
        if region.atoms is None and eligible[atom]:
            msg = f"{region.name}: {labels.atom(atom)} may be a member, but {reason}"
            raise ValueError(f"{msg}; {remedy}; or keep its residue out with exclude")


def _require_eligible(region: DPRegion, labels: Labels, what: str, lost: np.ndarray) -> None:
    """Raise a ValueError if atoms [natoms] that a list names can be no members."""
    for atom in np.flatnonzero(lost)[:1].tolist():
        reason = "which exclude keeps out; leave it out of one of the two"
        if labels.symbols[atom] == "":
            reason = "a virtual site by `types`; leave it out, or give its type"
        raise ValueError(f"{region.name}: {what} has {labels.atom(atom)} {reason}")


def _require_flags(region: DPRegion) -> None:
    if not isinstance(region.name, str):
        raise ValueError(f"name is {region.name!r}; a region's name is a string")
    for flag in ("whole_residues", "hydrogens"):
        if not isinstance(value := getattr(region, flag), bool):
            raise ValueError(f"{region.name}: {flag} is {value!r}; give True or False")
    links: Any = region.link_atoms
    if not isinstance(links, bool | Mapping):
        msg = (
            f"{region.name}: link_atoms is {links!r}; give True, False or lengths by "
            'element, as in {"C": 0.109}'
        )
        raise ValueError(msg)


def _link_lengths(region: DPRegion, elements: list[str]) -> np.ndarray | None:
    """Return how far link atoms are from each atom [natoms], as of a Region."""
    if region.link_atoms is False:
        return None
    own = {} if region.link_atoms is True else dict(region.link_atoms)
    for element, value in own.items():
        if not _is_element(element):
            msg = f'{region.name}: link_atoms has {element!r}, which is no element, as "C" is'
            raise ValueError(msg)
        own[element] = length(value, f"{region.name}: link_atoms of {element}")
    lengths = {**LENGTHS, **own}
    return np.array([lengths.get(element, np.nan) for element in elements])


def _is_element(symbol: Any) -> bool:
    try:
        return app.Element.getBySymbol(symbol).symbol == symbol
    except (AttributeError, KeyError):
        return False
