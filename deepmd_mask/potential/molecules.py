# SPDX-License-Identifier: LGPL-3.0-or-later
"""Molecules as callers give them, and in words what is wrong with one of their atoms."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._kernels import AtomFault

INT64 = np.iinfo(np.int64)


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
    groups
        [nframes, natoms] int, the group of each atom; None if there are none.
    numbers
        [natoms], what messages call the atoms; None for 0, 1, …
    is_one
        Whether the caller gave one molecule, without an axis of frames.
    """

    types: np.ndarray
    positions: np.ndarray
    weights: np.ndarray | None
    groups: np.ndarray | None
    numbers: Sequence[int] | np.ndarray | None
    is_one: bool

    def words_for(self, fault: AtomFault) -> str:
        """Say what is wrong with an atom, and with which, as the caller calls it."""
        if self.numbers is not None:
            fault = fault.renumbered(dict(enumerate(map(int, self.numbers))))
        return fault.message(names_frame=len(self.types) > 1)


def molecules_of(types: Any, positions: Any, weights: Any, groups: Any, numbers: Any) -> Molecules:
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
    if groups is not None:
        groups = _of_atoms(_array(groups, int, "groups"), shape, is_one, "groups")
    if numbers is not None and np.shape(numbers) != shape[1:]:
        raise ValueError(f"numbers have the shape {np.shape(numbers)}, not {shape[1:]}")
    return Molecules(types, positions, weights, groups, numbers, is_one)


def _array(values: Any, kind: type, name: str) -> np.ndarray:
    """Return an array of float64, or of integers as they are."""
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of unequal lengths
        raise ValueError(f"{name} are no array of numbers ({error})") from error
    if array.size and array.dtype.kind not in {int: "iu", float: "iufb"}[kind]:
        wanted = {int: "integers", float: "numbers"}[kind]
        raise ValueError(f"{name} are of the type {array.dtype}, not {wanted}")
    if kind is int and array.size and array.dtype.kind == "u" and array.max() > INT64.max:
        raise ValueError(f"{name} are as large as {array.max()}; number them from 0")
    return array.astype({int: np.int64, float: np.float64}[kind], copy=False)


def _of_atoms(array: np.ndarray, shape: tuple[int, ...], is_one: bool, name: str) -> np.ndarray:
    """Return values [natoms], those of all frames, or [nframes, natoms] in the latter shape."""
    if array.shape == shape[1:]:
        return np.broadcast_to(array, shape)
    if is_one or array.shape != shape:
        wanted = f"{shape[1:]}" if is_one else f"{shape[1:]} or {shape}"
        raise ValueError(f"{name} have the shape {array.shape}, not {wanted}, as positions have")
    return array
