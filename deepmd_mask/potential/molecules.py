# SPDX-License-Identifier: LGPL-3.0-or-later
"""Molecules as callers give them, and in words what is wrong with one of their atoms."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._kernels import AtomFault

INT32 = np.iinfo(np.int32)


class Molecules(NamedTuple):
    """Molecules of one number of atoms each.

    Attributes
    ----------
    types
        [nframes, natoms] int
    positions
        [nframes, natoms, 3]
    weights
        [nframes, natoms], the mask; None if all atoms are real.
    numbers
        [natoms], what messages call the atoms; None for 0, 1, …
    is_one
        Whether the caller gave one molecule, without an axis of frames.
    """

    types: np.ndarray
    positions: np.ndarray
    weights: np.ndarray | None
    numbers: Sequence[int] | np.ndarray | None
    is_one: bool

    def types_for_kernels(self) -> np.ndarray:
        """[nframes, natoms] int32; those out of its range stay out of any type map."""
        return np.clip(self.types, INT32.min, INT32.max).astype(np.int32, copy=False)

    def counts(self, ntypes: int) -> np.ndarray:
        """[ntypes], the most real atoms of each type in any frame."""
        real = np.ones(self.types.shape, bool) if self.weights is None else self.weights != 0
        frame, atom = np.nonzero(real)
        index = frame * ntypes + self.types[frame, atom]
        counts = np.bincount(index, minlength=len(self.types) * ntypes)
        return counts.reshape(-1, ntypes).max(axis=0, initial=0)

    def words_for(self, fault: AtomFault, type_map: list[str]) -> str:
        """Say what is wrong with an atom, and with which, as the caller calls it."""
        frame, atom = fault.frame, fault.atom
        text = fault.text
        if fault.code == "type":
            text = f"type {self.types[frame, atom]} is outside the type map, {type_map}"
        elif fault.code == "coordinate":
            position = self.positions[frame, atom]
            axis = int(np.argmin(np.isfinite(position)))
            text = f"coordinate {'xyz'[axis]} is {position[axis]}, not a finite number"
        elif self.numbers is not None:
            text = fault.renumbered(dict(enumerate(map(int, self.numbers)))).text
        number = atom if self.numbers is None else self.numbers[atom]
        where = "" if self.is_one else f"frame {frame}, "
        return f"{where}atom {number}: {text}"


def molecules_of(types: Any, positions: Any, weights: Any, numbers: Any) -> Molecules:
    """Return what a caller gives as `Molecules`; Potential.evaluate describes it.

    Raises
    ------
    ValueError
        Naming the argument, if it is none of numbers or has another shape than it must have.
    """
    positions = _array(positions, float, "positions")
    if positions.ndim not in (2, 3) or positions.shape[-1] != 3:
        raise ValueError(
            f"positions have the shape {positions.shape}, not (natoms, 3) or (nframes, natoms, 3)"
        )
    is_one = positions.ndim == 2
    if is_one:
        positions = positions[np.newaxis]
    shape = positions.shape[:2]
    types = _of_atoms(_array(types, int, "types"), shape, is_one, "types")
    if weights is not None:
        weights = _of_atoms(_array(weights, float, "weights"), shape, is_one, "weights")
    if numbers is not None and np.shape(numbers) != shape[1:]:
        raise ValueError(f"numbers have the shape {np.shape(numbers)}, not {shape[1:]}")
    return Molecules(types, positions, weights, numbers, is_one)


def _array(values: Any, kind: type, name: str) -> np.ndarray:
    """Return an array of float64, or of integers as they are."""
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of unequal lengths
        raise ValueError(f"{name} are no array of numbers ({error})") from error
    if array.size and array.dtype.kind not in {int: "iu", float: "iufb"}[kind]:
        wanted = {int: "integers", float: "numbers"}[kind]
        raise ValueError(f"{name} are of the type {array.dtype}, not {wanted}")
    return array.astype({int: np.int64, float: np.float64}[kind], copy=False)


def _of_atoms(array: np.ndarray, shape: tuple[int, ...], is_one: bool, name: str) -> np.ndarray:
    """Return values [natoms], those of all frames, or [nframes, natoms] in the latter shape."""
    if array.shape == shape[1:]:
        return np.broadcast_to(array, shape)
    if is_one or array.shape != shape:
        wanted = f"{shape[1:]}" if is_one else f"{shape[1:]} or {shape}"
        raise ValueError(f"{name} have the shape {array.shape}, not {wanted}, as positions have")
    return array
