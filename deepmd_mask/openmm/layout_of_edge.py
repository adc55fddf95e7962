# SPDX-License-Identifier: LGPL-3.0-or-later
"""The smooth edge of a DP region, in a user's words, laid out on the residues of a topology."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from openmm import unit

from ..shared.numbers import is_number
from .arguments import length
from .edge import Edge, Reference
from .labels import Labels
from .region import Region

if TYPE_CHECKING:
    from .dp_region import DPRegion


def lay_out_edge(region: "DPRegion", labels: Labels, radius: float) -> Edge | None:
    """Lay out the edge of a region that is not fixed, and check it; None if it is abrupt.

    Parameters
    ----------
    region
        The region.
    labels
        Of the atoms of the system.
    radius
        Of the region, in nm.

    Raises
    ------
    ValueError
        If the buffer or the reference is none that can be meant, or `forces_on` comes with it.
    """
    name = region.name
    if region.buffer is None:
        if region.reference is not None:
            msg = (
                f"{name}: a reference is for residues that enter by degrees; give a buffer, too, "
                "as in buffer=0.1, or leave the reference out"
            )
            raise ValueError(msg)
        return None
    buffer = length(region.buffer, f"{name}: the buffer")
    if buffer > radius:
        msg = (
            f"{name}: the buffer, {buffer:g} nm, is wider than the radius, {radius:g} nm, inside "
            "of which it lies; take a narrower one"
        )
        raise ValueError(msg)
    if region.forces_on is not None:
        msg = (
            f"{name}: with a buffer the energy is conserved, which forces on some atoms only would "
            "undo; leave out forces_on, or the buffer"
        )
        raise ValueError(msg)
    of_residues = labels.residue_names if region.whole_residues else labels.symbols
    kinds, kind = np.unique(of_residues, return_inverse=True)
    references = np.zeros((len(kinds), 4))
    given = _references(region)
    for what, reference in given.items():
        references[kinds == what] = reference
    return Edge(buffer, kinds.tolist(), kind, references, np.isin(kinds, list(given)))


def _references(region: "DPRegion") -> dict[str, Reference]:
    given: Any = {} if region.reference is None else region.reference
    example = 'it takes energies by names of residues, as in {"HOH": (alpha, beta)}'
    if not isinstance(given, Mapping):
        raise ValueError(f"{region.name}: reference is {given!r}; {example}")
    found = {}
    for kind, values in given.items():
        numbers = [_energy(value) for value in values] if np.iterable(values) else []
        if not isinstance(kind, str) or len(numbers) not in (2, 4) or None in numbers[:2]:
            msg = f"{region.name}: reference has {values!r} for {kind!r}; {example}, in kJ/mol"
            raise ValueError(msg)
        found[kind] = Reference(*(np.nan if one is None else one for one in numbers))
    return found


def _energy(value: Any) -> float | None:
    """Return an energy in kJ/mol, that of one particle as that of a mole; None if it is none."""
    if unit.is_quantity(value):
        if value.unit.is_compatible(unit.joule):
            value = value * unit.AVOGADRO_CONSTANT_NA
        if not value.unit.is_compatible(unit.kilojoule_per_mole):
            return None
        value = value.value_in_unit(unit.kilojoule_per_mole)
    return float(value) if is_number(value) and np.isfinite(value) else None


def require_reference(region: Region) -> None:
    """Raise a ValueError if a region has a smooth edge, and no reference."""
    if region.edge is not None and not region.edge.known.any():
        msg = (
            f"{region.name}: a buffer needs a reference, what a residue gives on entering, or the "
            "energy would draw all residues in, or push them out; take region.calibrate(model, "
            'topology, frames), or give reference={"HOH": (alpha, beta)}, with the names of '
            "residues of this topology"
        )
        raise ValueError(msg)


def require_smooth(region: Region, labels: Labels) -> None:
    """Raise a ValueError if something of a region with a smooth edge cannot be smooth.

    That is a kind of residues with a reference of which some have other atoms, for which the
    energy of entering is another one; or a link atom that would come or go.
    """
    edge = region.edge
    if edge is None:
        return
    atoms = np.flatnonzero(region.eligible & ~region.always[region.residue])
    symbols, symbol = np.unique(np.array(labels.symbols)[atoms], return_inverse=True)
    counts = np.zeros((len(region.always), len(symbols)), int)
    np.add.at(counts, (region.residue[atoms], symbol), 1)
    for kind in np.flatnonzero(edge.known):
        residues = np.flatnonzero((edge.kind == kind) & (counts.sum(axis=1) > 0))
        for other in residues[(counts[residues] != counts[residues[:1]]).any(axis=1)][:1]:
            first, second = (labels.residues[one] for one in (residues[0], other))
            msg = (
                f"{region.name}: residues {first} and {second} have the name {edge.kinds[kind]}, "
                "and one reference, but not the same atoms; give one of them another name in the "
                "topology, or keep it out with exclude or candidates, or in with always"
            )
            raise ValueError(msg)
    if region.link_lengths is None:
        return
    one, other = region.bonds.T
    changes = ~(region.always[region.residue[one]] & region.always[region.residue[other]])
    changes &= region.eligible[one] & region.eligible[other]
    changes &= region.residue[one] != region.residue[other]
    for i, j in region.bonds[changes][:1].tolist():
        msg = (
            f"{region.name}: where the bond between {labels.atom(i)} and {labels.atom(j)} is cut, "
            "the hydrogen atom that ends it comes and goes at once when the residue beyond enters "
            "and leaves, which no buffer makes smooth; make both residues members with always, "
            "keep one out with exclude or candidates, or leave out link_atoms or the buffer"
        )
        raise ValueError(msg)
