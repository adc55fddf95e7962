# SPDX-License-Identifier: LGPL-3.0-or-later
"""An ASE calculator for models of se_a_mask.

DeePMD-kit's own, ``deepmd.calculator.DP``, hands over no mask.
"""

import math
from numbers import Real
from os import PathLike
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from .evaluator import Evaluator

MASK = "mask"  # the name of the array in Atoms that tells real atoms (1) from virtual ones (0)


class MaskedDP(Calculator):
    """Energy and forces of a molecule from a frozen model of se_a_mask.

    Atoms come as they are, in any order and number. Where ``atoms.arrays`` has a "mask", atoms with
    0 are virtual: they have no energy, feel no force, and may be of any element. Elements are found
    in the model's type map whatever their case (Zn is ZN).

    The results are energy, free_energy (the same), energies (of each atom) and forces; there is no
    stress, since nothing is periodic. A copied or pickled calculator loads the model anew from its
    path.

    Parameters
    ----------
    model
        The frozen model, a file that ``dp freeze`` or ``dp compress`` wrote.
    energy_unit, length_unit
        The model's units in those of ASE, eV and Å: ``ase.units.kcal / ase.units.mol`` for
        kcal/mol.
    ignore_pbc
        Whether to take atoms in a periodic box for an isolated molecule, as they are, not
        wrapped. Without it they are refused.
    kwargs
        Of ASE's calculators.

    Raises
    ------
    FileNotFoundError
        If there is no such model.
    ValueError
        If it is not a frozen model, has no mask, or two of its types differ in case only; if a unit
        is not a positive number.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "energies", "forces"]

    def __init__(
        self,
        model: str | PathLike,
        *,
        energy_unit: float = 1.0,
        length_unit: float = 1.0,
        ignore_pbc: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, value in (("energy_unit", energy_unit), ("length_unit", length_unit)):
            if not (isinstance(value, Real) and 0 < value < math.inf):
                msg = (
                    f"{name} is {value!r}; give a positive number, the model's unit in those of "
                    "ASE, such as ase.units.kcal / ase.units.mol or ase.units.nm"
                )
                raise ValueError(msg)
        self.evaluator = Evaluator(model)
        self.energy_unit = energy_unit
        self.length_unit = length_unit
        self.ignore_pbc = ignore_pbc
        names = [name.capitalize() for name in self.evaluator.type_map]
        if len(set(names)) < len(names):
            raise ValueError(f"{model}: types {self.evaluator.type_map} differ in case only")
        self._type_of = {name: t for t, name in enumerate(names)}
        self._numbers = self._types = np.empty(0, int)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what has changed since the last evaluation; the mask counts, too.

        Parameters
        ----------
        atoms
            The atoms to evaluate.
        tol
            The largest difference of positions that is none.
        """
        changes = super().check_state(atoms, tol)
        if self.atoms is not None and not np.array_equal(_mask(self.atoms), _mask(atoms)):
            changes.append(MASK)
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] = implemented_properties,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Set the results; ASE calls it.

        Parameters
        ----------
        atoms
            By default those of the last call.
        properties, system_changes
            Without effect: all results come from one evaluation.

        Raises
        ------
        ValueError
            If the atoms are periodic, a mask value is neither 0 nor 1, the model does not know
            an element, a position is not finite, or two atoms coincide.
        """
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        if atoms.pbc.any() and not self.ignore_pbc:
            msg = (
                "the atoms are periodic, and se_a_mask knows no periodic images: set atoms.pbc to "
                "False, or pass ignore_pbc=True for one molecule in a box that it does not cross"
            )
            raise ValueError(msg)
        real = _real_atoms(atoms)
        found = self.evaluator.evaluate(
            self._types_of(atoms, real), atoms.positions[real] / self.length_unit, real
        )
        energies, forces = np.zeros(len(atoms)), np.zeros((len(atoms), 3))
        energies[real] = found.energies * self.energy_unit
        forces[real] = found.forces * (self.energy_unit / self.length_unit)
        energy = float(found.energy) * self.energy_unit
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": energies,
            "forces": forces,
        }

    def _types_of(self, atoms: Atoms, real: np.ndarray) -> np.ndarray:
        """Return the types of the real atoms; only new elements are looked up by name."""
        numbers = atoms.numbers[real]
        if not np.array_equal(numbers, self._numbers):
            symbols = [(atom, atoms[int(atom)].symbol) for atom in real]
            for atom, symbol in symbols:
                if symbol not in self._type_of:
                    msg = (
                        f"atom {atom}: the model does not know {symbol}, only "
                        f"{self.evaluator.type_map}"
                    )
                    raise ValueError(msg)
            self._types = np.array([self._type_of[symbol] for _, symbol in symbols], int)
            self._numbers = numbers
        return self._types


def _mask(atoms: Atoms) -> np.ndarray:
    """Return the mask, 1 for each atom where none is given."""
    return atoms.arrays.get(MASK, np.ones(len(atoms)))


def _real_atoms(atoms: Atoms) -> np.ndarray:
    """Return the indices of the real atoms."""
    mask = _mask(atoms)
    if mask.ndim != 1:
        raise ValueError(f'atoms.arrays["{MASK}"] has the shape {mask.shape}, not ({len(atoms)},)')
    wrong = np.flatnonzero((mask != 0) & (mask != 1))
    if len(wrong):
        msg = (
            f'atom {wrong[0]}: atoms.arrays["{MASK}"] is {mask[wrong[0]]}; it must be 1 for a real '
            "atom and 0 for a virtual one"
        )
        raise ValueError(msg)
    return np.flatnonzero(mask)
