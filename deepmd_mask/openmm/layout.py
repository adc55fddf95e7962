# SPDX-License-Identifier: LGPL-3.0-or-later
"""A DP region laid out on the atoms of a topology."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from openmm import app

from .arguments import indices, is_names, length, names
from .labels import Labels
from .layout_of_edge import lay_out_edge, require_smooth
from .links import LENGTHS
from .region import Region

if TYPE_CHECKING:
    from .dp_region import DPRegion

# The arguments of a DPRegion that name atoms; `marks` has for each which atoms those are.
ATOM_LISTS = ("centres", "always", "forces_on", "atoms")


def lay_out(region: "DPRegion", labels: Labels, candidates: Sequence[int] | None = None) -> Region:
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


def _marked(region: "DPRegion", what: str, labels: Labels) -> np.ndarray:
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
    region: "DPRegion", labels: Labels, marks: dict[str, np.ndarray], eligible: np.ndarray
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


def _require_eligible(region: "DPRegion", labels: Labels, what: str, lost: np.ndarray) -> None:
    """Raise a ValueError if atoms [natoms] that a list names can be no members."""
    for atom in np.flatnonzero(lost)[:1].tolist():
        reason = "which exclude keeps out; leave it out of one of the two"
        if labels.symbols[atom] == "":
            reason = "a virtual site by `types`; leave it out, or give its type"
        raise ValueError(f"{region.name}: {what} has {labels.atom(atom)} {reason}")


def _require_flags(region: "DPRegion") -> None:
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


def _link_lengths(region: "DPRegion", elements: list[str]) -> np.ndarray | None:
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
