# SPDX-License-Identifier: LGPL-3.0-or-later
"""An ASE calculator for models of se_a_mask.

DeePMD-kit's own, ``deepmd.calculator.DP``, hands over no mask.
"""

import difflib
import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import chemical_symbols

from .potential import ForceDeviation, Potential
from .shared.boxes import require_no_box
from .shared.elements import (
    ATOM_NAMES,
    Types,
    forms_of_types,
    is_type,
    name_by_rule,
    require_types,
    types_of_names,
)
from .shared.numbers import is_number
from .shared.paths import Paths, paths_of_models

Groups = str | Callable[[Atoms], Any] | None
__all__ = ["MaskedDP"]

MASK = "mask"  # the name of the array in Atoms that tells real atoms (1) from virtual ones (0)
RESIDUES = "residuenumbers"  # that in which ASE keeps what a PDB file calls its residues
_FORMS = forms_of_types("of Atoms that returns the type of each")


class MaskedDP(Calculator):
    """Energy and forces of a molecule from a frozen model of se_a_mask, or from several.

    Atoms come as they are, in any order and number. Where ``atoms.arrays`` has a "mask", atoms with
    0 are virtual: they have no energy, feel no force, and may be of any element. Elements are found
    in the model's type map whatever their case (Zn is ZN).

    With `groups` the mask may lie between, for residues that are there in part.

    The results are energy, free_energy (the same), energies (of each atom), forces and, with
    groups, weight_gradient, dE/dw of each atom by its mask, to be summed over a group. Forces are
    those at fixed masks. There is no stress, since nothing is periodic. Of several models, a
    committee, there are also deviation, how far they differ about the force on each atom, and
    max_devi_f, the largest. A copied or pickled calculator loads the model anew from its path.

    Parameters
    ----------
    model
        The frozen model, a file that ``dp freeze`` or ``dp compress`` wrote; or a list of several,
        of one type map, whose means are energies and forces.
    types
        What the model's type map calls an atom: "element"; "name", as in the atoms' array
        "atomtypes", where ASE keeps the names of PDB files; a dict from these names to types,
        where atoms of other names go by their element; or a function of the Atoms that returns the
        type of each. Atoms whose type is None are virtual.
    energy_unit, length_unit
        The model's units in those of ASE, eV and Å: ``ase.units.kcal / ase.units.mol`` for
        kcal/mol.
    ignore_pbc
        Whether to take atoms in a periodic box for an isolated molecule, as they are, not
        wrapped. Without it they are refused.
    device
        Where the model is evaluated: "cpu"; "cuda", a GPU; or "auto", a GPU where there is one.
    precision
        Of the `Potential`: "mixed", or None for the model's own.
    groups
        The name of an array of the atoms, of integers, such as "residuenumbers", which ASE reads
        from PDB files; or a function of the Atoms that returns them, [natoms]. Atoms of one number
        are a group, have one mask and count whole for each other. None allows 0 and 1 alone.
    kwargs
        Of ASE's calculators.

    Raises
    ------
    FileNotFoundError
        If there is no such model.
    TypeError
        If there is no such argument.
    ValueError
        If it is not a frozen model or has no mask; if a unit is not a positive number, or another
        argument none that can be meant.
    RuntimeError
        If there is no GPU that was asked for.
    """

    # ASE has a list of each class here.
    implemented_properties: list[str] = [  # noqa: RUF012
        *("energy", "free_energy", "energies", "forces", "weight_gradient"),
        *("deviation", "max_devi_f"),
    ]

    def __init__(
        self,
        model: Paths,
        *,
        types: Types = "element",
        energy_unit: float = 1.0,
        length_unit: float = 1.0,
        ignore_pbc: bool = False,
        device: str = "auto",
        precision: str | None = None,
        groups: Groups = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, value in (("energy_unit", energy_unit), ("length_unit", length_unit)):
            if not (is_number(value) and 0 < value < math.inf):
                msg = (
                    f"{name} is {value!r}; give a positive number, the model's unit in those of "
                    "ASE, such as ase.units.kcal / ase.units.mol or ase.units.nm"
                )
                raise ValueError(msg)
        require_types(types, _FORMS)
        if not isinstance(ignore_pbc, bool | np.bool_):
            raise ValueError(f"ignore_pbc is {ignore_pbc!r}; give True or False")
        given = paths_of_models(model)
        if not (groups is None or callable(groups) or (isinstance(groups, str) and groups)):
            msg = (
                f"groups is {groups!r}; give the name of an array of the atoms, such as "
                f'"{RESIDUES}", or a function of Atoms that returns the group of each'
            )
            raise ValueError(msg)
        self.potential = Potential(given, device, precision=precision)
        self.types = types
        self.energy_unit = energy_unit
        self.length_unit = length_unit
        self.ignore_pbc = ignore_pbc
        self.groups = groups
        self._names, self._types = np.empty(0, int), np.empty(0, int)

    def set(self, **kwargs: Any) -> dict[str, Any]:
        """Refuse what ASE would keep as parameters, of which this calculator has none.

        A name that is misspelt would have no effect otherwise. ASE calls this when a calculator
        is made, too.

        Raises
        ------
        TypeError
            If anything is given.
        """
        if not kwargs:
            return {}
        name = next(iter(kwargs))
        known = [n for n in inspect.signature(type(self)).parameters if n != "kwargs"]
        nearest = difflib.get_close_matches(name, known, n=1) or known
        raise TypeError(
            f"MaskedDP has no argument {name} that could be set; when it is made it takes "
            f"{', '.join(nearest)}"
        )

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what has changed since the last evaluation; mask, types and groups count, too.

        Parameters
        ----------
        atoms
            The atoms to evaluate.
        tol
            The largest difference of positions that is none.
        """
        changes = super().check_state(atoms, tol)
        before = self.atoms
        if before is not None and not np.array_equal(_mask(before), _mask(atoms)):
            changes.append(MASK)
        by_name = self.types != "element" and not changes
        if (
            before is not None
            and by_name
            and not np.array_equal(self._names_of(before), self._names_of(atoms))
        ):
            changes.append("types")
        has_groups = self.groups is not None and not changes
        if (
            before is not None
            and has_groups
            and not np.array_equal(self._groups_of(before), self._groups_of(atoms))
        ):
            changes.append("groups")
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
            If the atoms are periodic, a mask value is neither 0 nor 1 or, with groups, not between,
            the model does not know an element or has two types for it, a position is not finite,
            two atoms coincide or two of a group differ in their mask; if groups are none, or the
            model is one of the built-in and cannot have any.
        """
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        if atoms is None:
            raise ValueError("there are no atoms to evaluate; give some")
        if atoms.pbc.any() and not self.ignore_pbc:
            require_no_box("ignore_pbc=True")
        names, real = self._names_of(atoms), _real_atoms(atoms, self.groups is not None)
        if names.dtype == object:
            real = np.array([atom for atom in real if names[atom] is not None], int)
        weights, groups = None, None
        if self.groups is not None:
            weights, groups = _mask(atoms)[real], self._groups_of(atoms)[real]
            if self.groups == RESIDUES:
                _require_runs(groups, real)
        found = self.potential.evaluate(
            self._types_of(names[real], real),
            atoms.positions[real] / self.length_unit,
            weights,
            numbers=real,
            groups=groups,
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
        if found.deviation is not None:
            deviation = np.zeros(len(atoms))
            deviation[real] = found.deviation * (self.energy_unit / self.length_unit)
            largest = float(ForceDeviation.of(deviation[real]).max_devi_f)
            self.results.update(deviation=deviation, max_devi_f=largest)
        if found.weight_gradient is not None:
            gradient = np.zeros(len(atoms))
            gradient[real] = found.weight_gradient * self.energy_unit
            self.results["weight_gradient"] = gradient

    def _types_of(self, names: np.ndarray, real: np.ndarray) -> np.ndarray:
        """Return the types of the real atoms; only names that have changed are looked up."""
        if not np.array_equal(names, self._names):
            symbols = names.tolist()
            if names.dtype.kind == "i":
                symbols = [chemical_symbols[number] for number in symbols]
            types = types_of_names(symbols, self.potential.type_map)
            for k in np.flatnonzero(types < 0)[:1]:
                msg = (
                    f"atom {real[k]}: the model does not know {symbols[k]}, only "
                    f"{self.potential.type_map}"
                )
                raise ValueError(msg)
            self._types, self._names = types, names
        return self._types

    def _names_of(self, atoms: Atoms) -> np.ndarray:
        """Return what the type map calls each atom, [natoms]; atomic numbers for elements.

        None for one that is virtual.
        """
        if self.types == "element":
            return atoms.numbers
        if callable(self.types):
            names = np.array(self.types(atoms), object)
            if names.shape != (len(atoms),) or not all(map(is_type, names)):
                msg = (
                    f"types gave {names!r}; a function of Atoms returns a list of names, one for "
                    f"each of the {len(atoms)} atoms, or None for a virtual one"
                )
                raise ValueError(msg)
            return names
        own = atoms.arrays.get(ATOM_NAMES)
        if own is None or own.shape != (len(atoms),) or own.dtype.kind not in "UO":
            msg = (
                f'atoms.arrays["{ATOM_NAMES}"] must have the name of each atom, since the '
                "calculator was given types by name; set it with atoms.set_array, or give a "
                "function"
            )
            raise ValueError(msg)
        pairs = zip((str(name).strip() for name in own), atoms.symbols, strict=True)
        return np.array([name_by_rule(self.types, *pair) for pair in pairs], object)

    def _groups_of(self, atoms: Atoms) -> np.ndarray:
        """Return the group of each atom, [natoms] int."""
        if isinstance(self.groups, str):
            found, origin = atoms.arrays.get(self.groups), f'atoms.arrays["{self.groups}"]'
        else:
            assert self.groups is not None, "it has been asked for"
            found, origin = np.asarray(self.groups(atoms)), "what the function groups returns"
        if found is None or found.shape != (len(atoms),) or found.dtype.kind not in "iu":
            is_what = "missing" if found is None else f"{found.dtype} of the shape {found.shape}"
            msg = (
                f"{origin} is {is_what}; it must be the number of each atom's group, "
                f"{len(atoms)} integers"
            )
            raise ValueError(msg)
        return found


def _mask(atoms: Atoms) -> np.ndarray:
    """Return the mask, 1 for each atom where none is given."""
    mask = atoms.arrays.get(MASK, np.ones(len(atoms)))
    if mask.dtype.kind not in "biuf":
        raise ValueError(f'atoms.arrays["{MASK}"] is of the type {mask.dtype}, not numbers')
    return mask


def _real_atoms(atoms: Atoms, has_groups: bool) -> np.ndarray:
    """Return the indices of the real atoms, those that are there in part among them."""
    mask = _mask(atoms)
    if mask.ndim != 1:
        raise ValueError(f'atoms.arrays["{MASK}"] has the shape {mask.shape}, not ({len(atoms)},)')
    good = (mask >= 0) & (mask <= 1) if has_groups else (mask == 0) | (mask == 1)
    for atom in np.flatnonzero(~good)[:1]:
        wanted = "it must be 1 for a real atom and 0 for a virtual one"
        if has_groups:
            wanted += ", or between, for one that is there in part"
        elif 0 < mask[atom] < 1:
            wanted += "; for residues that are there in part give the calculator groups"
        raise ValueError(f'atom {atom}: atoms.arrays["{MASK}"] is {mask[atom]}; {wanted}')
    return np.flatnonzero(mask)


def _require_runs(residues: np.ndarray, real: np.ndarray) -> None:
    """Refuse numbers of residues that begin anew: in PDB files each chain has its own."""
    begins = np.flatnonzero(np.diff(residues, prepend=residues[:1] - 1))
    numbers, first, counts = np.unique(residues[begins], return_index=True, return_counts=True)
    for number, begin in zip(numbers[counts > 1], begins[first[counts > 1]], strict=True):
        again = begins[(residues[begins] == number) & (begins > begin)][0]
        msg = (
            f'atom {real[again]}: atoms.arrays["{RESIDUES}"] is {number}, as of atom {real[begin]},'
            " and others lie between; chains may number their residues alike. Set an array of your "
            "own, with a number of its own for each residue, and give its name as groups"
        )
        raise ValueError(msg)
