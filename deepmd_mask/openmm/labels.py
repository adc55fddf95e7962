# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a topology says of atoms and residues, and which atoms are real."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import openmm
from openmm import app

from ..shared.elements import (
    Types,
    forms_of_types,
    is_type,
    name_by_rule,
    require_types,
    types_of_names,
)
from .arguments import topology_of
from .masses import mass, require_masses

_FORMS = forms_of_types("of an atom of the topology that returns a type")

# Of the sites of water models besides O, H, H, as force fields of OpenMM, Amber, CHARMM and GROMACS
# call them.
WATER_SITES = {"M", "MW", "OM", "EP", "EPW", "EP1", "EP2", "M1", "M2", "LP1", "LP2", "LPA", "LPB"}


@dataclass(frozen=True, eq=False)
class Labels:
    """What is known of the atoms and residues of a system.

    Attributes
    ----------
    residue
        [natoms] int, the residue of each atom.
    symbols, names
        Of each atom, what the model's type map may call it, and its name; a virtual site has the
        symbol "".
    elements
        Of each atom, "" without one.
    residues, residue_names
        Of each residue, chain:name:number, and its name.
    bonds
        [nbonds, 2] int, atoms; among them those of link atoms, which a system has as virtual sites.
    sites
        [natoms] bool, the atoms that were found to be virtual sites.
    unknown
        For atoms of which it is not known whether they are real, why.
    """

    residue: np.ndarray
    symbols: list[str]
    names: list[str]
    elements: list[str]
    residues: list[str]
    residue_names: list[str]
    bonds: np.ndarray
    sites: np.ndarray
    unknown: dict[int, str]

    @classmethod
    def of(
        cls, topology: app.Topology, types: Types = "element", system: openmm.System | None = None
    ) -> "Labels":
        """Read a topology; arguments are those of `dp_force`.

        Raises
        ------
        ValueError
            If the types are none that can be meant, or the system is not that of the topology.
        """
        atoms = list(topology_of(topology, "topology").atoms())
        residues = list(topology.residues())
        require_types(types, _FORMS)
        if system is not None:
            _require_same(system, atoms)
        found = [_symbol(atom, types) for atom in atoms]
        if isinstance(types, Mapping):
            _require_used(types, {atom.name for atom in atoms})
        symbols, sites, unknown = _decide(atoms, found, types, system)
        if system is not None and types != "name" and not callable(types):  # those are no guess
            require_masses(topology, system, types if isinstance(types, Mapping) else ())
        bonds = [(a.index, b.index) for a, b in topology.bonds()]
        if system is not None:
            bonds += _bonds_of_sites(system, symbols)
        return cls(
            np.array([atom.residue.index for atom in atoms]),
            symbols,
            [atom.name for atom in atoms],
            [atom.element.symbol if atom.element else "" for atom in atoms],
            [f"{residue.chain.id}:{residue.name}:{residue.id}" for residue in residues],
            [residue.name for residue in residues],
            np.array(bonds, int).reshape(-1, 2),
            sites,
            unknown,
        )

    def atom(self, atom: int) -> str:
        """Return what messages call an atom: number, name and residue."""
        return f"atom {atom}, {self.names[atom]} of residue {self.residues[self.residue[atom]]},"

    def element(self, atom: int) -> str:
        """Return an atom's element; where the topology knows none, what the type map calls it."""
        return self.elements[atom] or self.symbols[atom]

    def types(self, type_map: Sequence[str]) -> np.ndarray:
        """Return the type of each atom [natoms]; -1 if the type map lacks it.

        Raises
        ------
        ValueError
            As of `types_of_names`.
        """
        return types_of_names(self.symbols, type_map)


def _symbol(atom: app.topology.Atom, types: Types) -> str | None:
    """Return the symbol of an atom, "" if it has none by the user's word, None if unknown."""
    element = atom.element.symbol if atom.element else None
    if callable(types):
        found = types(atom)
        if not is_type(found):
            msg = f"types gives {found!r} for atom {atom.index}, {atom.name}; {_FORMS}"
            raise ValueError(msg)
        return found or ""
    found = name_by_rule(types, atom.name, element)
    by_user = isinstance(types, Mapping) and atom.name in types
    return "" if found is None and by_user else found


def _require_used(types: Mapping, names: set[str]) -> None:
    for name in types:
        if name not in names:
            msg = f"types has a type for atoms named {name!r}, but the topology has none of them"
            raise ValueError(msg)


def _require_same(system: openmm.System, atoms: list) -> None:
    if not isinstance(system, openmm.System):
        raise ValueError(f"system is a {type(system).__name__}; give an openmm.System")
    if system.getNumParticles() != len(atoms):
        msg = (
            f"the system has {system.getNumParticles()} particles, but the topology has "
            f"{len(atoms)} atoms"
        )
        raise ValueError(msg)


def _decide(
    atoms: list, symbols: list[str | None], types: Types, system: openmm.System | None
) -> tuple[list[str], np.ndarray, dict[int, str]]:
    """Find what atoms are that have no element and that the types do not know.

    Returns
    -------
    list of str
        The symbols, "" for virtual sites and for what is unknown.
    np.ndarray
        [natoms] bool, those that are virtual sites.
    dict
        Why others may be real ones.
    """
    found = [symbol or "" for symbol in symbols]
    sites, unknown = np.full(len(atoms), False), {}
    for k, atom in enumerate(atoms):
        if atom.element is not None or (symbols[k] is not None and types != "name"):
            continue
        reason = _why_real(atom, system)
        if reason is None:
            sites[k], found[k] = True, ""
        elif types != "name":  # a name is enough for a real atom
            unknown[k] = reason
    return found, sites, unknown


def _why_real(atom: app.topology.Atom, system: openmm.System | None) -> str | None:
    """Return why an atom without an element may be a real one; None if it is a virtual site."""
    others = [other for other in atom.residue.atoms() if other.element is not None]
    if not others:
        return "has no element, as all of its residue"
    if system is None:
        water = sorted(other.element.symbol for other in others) == ["H", "H", "O"]
        if water and atom.name.upper() in WATER_SITES:
            return None
        return "has no element"
    if system.isVirtualSite(atom.index):
        return None
    found = mass(system, atom.index)
    return f"has no element, but a mass of {found:g}" if found else "has no element, and is frozen"


def _bonds_of_sites(system: openmm.System, symbols: list[str]) -> list[tuple[int, int]]:
    """Return bonds of virtual sites that are real to the model, such as OpenMM-ML's link atoms."""
    found = []
    for atom in (k for k, symbol in enumerate(symbols) if symbol and system.isVirtualSite(k)):
        site = system.getVirtualSite(atom)
        if site.getNumParticles() > 0:
            found.append((atom, site.getParticle(0)))
    return found
