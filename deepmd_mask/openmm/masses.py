# SPDX-License-Identifier: LGPL-3.0-or-later
"""Whether the masses in a system are those of the elements in its topology."""

from collections.abc import Iterable
from functools import cache

import numpy as np
import openmm
from openmm import app, unit

HYDROGEN = {"H", "D"}
OTHER = 5.0  # Da; united atoms and repartitioning make atoms of one element differ by less
MASS_ROUNDING = 0.1  # Da, of masses in force fields


def mass(system: openmm.System, atom: int) -> float:
    """Return the mass of an atom in Da."""
    return system.getParticleMass(atom).value_in_unit(unit.dalton)


@cache
def mass_of(element: app.Element) -> float:
    """Return the mass of an element in Da."""
    return element.mass.value_in_unit(unit.dalton)


def require_masses(
    topology: app.Topology, system: openmm.System, known: Iterable[str] = ()
) -> None:
    """Raise a ValueError if an atom has the mass of another element than its own.

    Readers guess elements from names: iron, FE, is then fluorine, and a nitrogen atom NA is sodium.
    If atoms of several elements have one mass, it says nothing of them.

    Parameters
    ----------
    topology, system
        Of the same atoms.
    known
        Names of atoms of which the user has given the type.
    """
    elements = {atom.element for atom in topology.atoms() if atom.element is not None}
    masses = {mass(system, atom.index) for atom in topology.atoms()} - {0.0}
    if len(elements) > 1 and len(masses) == 1:
        return
    lent = _lent_to_hydrogens(topology, system)
    for atom in topology.atoms():
        found = mass(system, atom.index)
        if atom.element is None or atom.name in known or found == 0:  # sites, and frozen atoms
            continue
        other = _other(atom.element, found + lent[atom.index])
        if other is not None:
            msg = (
                f"atom {atom.index}, {atom.name} of residue {atom.residue.name}, is "
                f"{atom.element.symbol} in the topology, but has the mass of {other.symbol} in the "
                f'system; set its element, or give types={{"{atom.name}": "{other.symbol}"}}'
            )
            raise ValueError(msg)


def _other(element: app.Element, mass: float) -> app.Element | None:
    """Return the element that has this mass, if another one certainly has it."""
    if abs(mass - mass_of(element)) < OTHER:
        return None
    if mass < mass_of(app.element.hydrogen) + OTHER:  # repartitioned or not
        return app.element.hydrogen
    other = app.Element.getByMass(mass)
    return other if abs(mass - mass_of(other)) < MASS_ROUNDING else None


def _lent_to_hydrogens(topology: app.Topology, system: openmm.System) -> np.ndarray:
    """Return what hydrogen atoms have of each atom's mass [natoms], by repartitioning.

    Of hydrogen atoms without bonds, any atom of their residue may have lent it.
    """
    excess = np.zeros(topology.getNumAtoms())
    for atom in topology.atoms():
        if atom.element is not None and atom.element.symbol in HYDROGEN:
            excess[atom.index] = max(0.0, mass(system, atom.index) - mass_of(atom.element))
    lent, alone = np.zeros(len(excess)), excess.copy()
    for bond in topology.bonds():
        one, other = bond[0].index, bond[1].index
        lent[one] += excess[other]
        lent[other] += excess[one]
        alone[[one, other]] = 0
    for residue in topology.residues() if alone.any() else ():
        atoms = [atom.index for atom in residue.atoms()]
        lent[atoms] += alone[atoms].sum()
    return lent
