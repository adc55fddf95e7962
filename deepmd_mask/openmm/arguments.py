# SPDX-License-Identifier: LGPL-3.0-or-later
"""What users hand over, as numbers and arrays; what cannot be meant is an error that says so."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from openmm import app, unit
from openmm.app.internal.unitcell import reducePeriodicBoxVectors

from ..shared.numbers import is_number


def plain(length: Any) -> Any:
    """Return lengths, quantities or numbers in nm, as numbers."""
    return length.value_in_unit(unit.nanometer) if unit.is_quantity(length) else length


def length(value: Any, what: str) -> float:
    """Return a length in nm.

    Raises
    ------
    ValueError
        If the value is no length and no number, or not above 0.
    """
    number = value
    if unit.is_quantity(value):
        number = plain(value) if value.unit.is_compatible(unit.nanometer) else None
    if not is_number(number) or not number > 0:
        msg = (
            f"{what} is {value!r}; it must be above 0, a number in nm or a length, as in 0.35 or "
            "3.5 * unit.angstrom"
        )
        raise ValueError(msg)
    return float(number)


def whole_interval(value: Any, what: str) -> int:
    """Return steps between reports.

    Raises
    ------
    ValueError
        If the value is no positive whole number.
    """
    if not is_number(value) or value % 1 != 0 or value < 1:
        raise ValueError(f"{what}: the interval is {value!r}; give steps, 1 or more")
    return int(value)


def unit_in(value: Any, wanted: unit.Unit, what: str) -> float:
    """Return a unit of a model in another one, that of one particle as that of a mole.

    Raises
    ------
    ValueError
        If the value is no unit and no quantity, of another dimension or not positive.
    """
    if isinstance(value, unit.Unit):
        value = 1.0 * value
    quantity = value
    if unit.is_quantity(value) and not value.unit.is_compatible(wanted):
        quantity = value * unit.AVOGADRO_CONSTANT_NA
    if unit.is_quantity(quantity) and quantity.unit.is_compatible(wanted):
        number = quantity.value_in_unit(wanted)
        if is_number(number) and 0 < number < math.inf:
            return float(number)
    msg = f"{what} is {value!r}; give a unit of OpenMM, as in unit.angstrom or unit.hartree"
    raise ValueError(msg)


def indices(atoms: Any, natoms: int, what: str) -> np.ndarray:
    """Return a list of atoms as an array [n] int.

    Raises
    ------
    ValueError
        If it is no list of whole numbers, or an atom does not exist.
    """
    try:
        found = np.array(list(atoms) if np.iterable(atoms) else atoms)
    except ValueError:  # lists of several lengths
        found = np.array(None)
    if found.ndim != 1 or (len(found) > 0 and found.dtype.kind not in "iu"):
        msg = (
            f"{what} takes a list of indices of atoms, as in [0, 5]; of a mask, np.flatnonzero, "
            "and of atoms of a topology, their index"
        )
        raise ValueError(msg)
    wrong = found[(found < 0) | (found >= natoms)]
    if len(wrong):
        raise ValueError(f"{what} has the atom {wrong[0]}; the last one is {natoms - 1}")
    return found.astype(int)


def names(values: Any, what: str, example: str) -> list[str]:
    """Return a list of names.

    Raises
    ------
    ValueError
        If it is no list, or something in it is no string.
    """
    if isinstance(values, str):
        raise ValueError(f'{what} takes a list, as in ["{values}"]')
    if not np.iterable(values) or not all(isinstance(name, str) for name in values):
        raise ValueError(f"{what} is {values!r}; it takes a list of names, as in {example}")
    return [str(name) for name in values]


def is_names(values: Any) -> bool:
    """Tell whether a list is one of names."""
    return isinstance(values, Sequence | np.ndarray | set | frozenset) and any(
        isinstance(value, str) for value in values
    )


def topology_of(value: Any, what: str) -> app.Topology:
    """Return a topology.

    Raises
    ------
    ValueError
        If the value is none, or has no atoms.
    """
    if not isinstance(value, app.Topology):
        msg = (
            f"{what} is a {type(value).__name__}; give an openmm.app.Topology, as in "
            "PDBFile('x.pdb').topology"
        )
        raise ValueError(msg)
    if value.getNumAtoms() == 0:
        raise ValueError(f"{what} has no atoms")
    return value


def vectors(values: Any, shape: tuple[int, int], what: str) -> np.ndarray:
    """Return lengths, quantities or numbers in nm, as an array of floats.

    Raises
    ------
    ValueError
        If they are no lengths, not finite, or of another shape.
    """
    try:
        if np.iterable(values) and not unit.is_quantity(values):
            values = [plain(value) for value in values]
        found = np.array(plain(values), float)
    except (TypeError, ValueError) as error:
        msg = f"{what} must be lengths, or numbers in nm, of the shape {shape}: {error}"
        raise ValueError(msg) from error
    if found.shape != shape or not np.isfinite(found).all():
        msg = f"{what} must be finite, of the shape {shape}, not {found.shape}"
        raise ValueError(msg)
    return found


def box_vectors(values: Any, what: str) -> np.ndarray | None:
    """Return box vectors as rows [3, 3] in nm, in OpenMM's reduced form; None as None.

    Raises
    ------
    ValueError
        If they are no box vectors, or not of the form (x, 0, 0), (x, y, 0), (x, y, z).
    """
    if values is None:
        return None
    box = vectors(values, (3, 3), what)
    if np.triu(box, 1).any() or not (box.diagonal() > 0).all():
        msg = (
            f"{what} must have the form (x, 0, 0), (x, y, 0), (x, y, z) with a positive diagonal, "
            f"as OpenMM wants it, not {box.tolist()}; rotate box and positions"
        )
        raise ValueError(msg)
    return np.array(plain(reducePeriodicBoxVectors(box)), float)
