# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frames without labels from files that ASE reads, for models to evaluate."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .._kernels import RealAtoms, reason_against_box
from ..elements import types_of_names
from ..reason import reason_of
from .systems import Chunk


@dataclass(frozen=True)
class AtomsFile:
    """A file with frames of any composition, in the place of a System.

    Where a frame has an array "mask", atoms with 0 are virtual; "atom_pref" holds preferences.

    Attributes
    ----------
    path
        Of the file.
    names
        Of the types, as the model has them; capital letters do not matter.
    nframes
        Not known before the file has been read.
    """

    path: str
    names: tuple[str, ...]
    nframes: None = None

    def chunks(self) -> Iterator[Chunk]:
        """Read the frames, one at a time.

        Raises
        ------
        ValueError
            Naming file, frame and atom, if a frame cannot be read, is periodic, has an element
            that is not among the names, or has atoms that no model takes.
        """
        from ase.io import iread  # noqa: PLC0415  takes its time

        frames = iread(self.path, index=":")
        number = 0
        while True:
            try:
                atoms = next(frames, None)
            except Exception as error:  # ASE's readers raise whatever they meet
                raise ValueError(
                    f"{self.path}, frame {number}: ASE cannot read it ({reason_of(error)}); masked "
                    "systems and files of ASE's formats are what is read"
                ) from error
            if atoms is None:
                break
            try:
                yield self._chunk(atoms, number)
            except ValueError as error:
                raise ValueError(f"{self.path}, frame {number}: {error}") from None
            number += 1
        if number == 0:
            message = (
                "there is no frame in it that ASE could read; masked systems and files of ASE's "
                "formats are what is read"
            )
            raise ValueError(f"{self.path}: {message}")

    def _chunk(self, atoms, number: int) -> Chunk:
        reason = reason_against_box() if atoms.pbc.any() else ""
        if reason:
            raise ValueError(reason)
        mask = np.asarray(atoms.arrays.get("mask", np.ones(len(atoms))), float)
        types = self._types(list(atoms.symbols), mask)
        coord = np.asarray(atoms.positions, float)
        try:
            RealAtoms(coord[None], types[None].astype(np.int32), mask[None], len(self.names))
        except ValueError as error:
            raise ValueError(str(error).removeprefix("frame 0, ")) from None
        preference = atoms.arrays.get("atom_pref")
        return Chunk(
            "",
            number,
            types[None],
            mask[None],
            coord[None],
            preference=None if preference is None else np.asarray(preference, float)[None],
        )

    def _types(self, symbols: list[str], mask: np.ndarray) -> np.ndarray:
        """Return the types of elements; 0 for a virtual atom."""
        types, real = np.zeros(len(symbols), int), np.flatnonzero(mask != 0)
        types[real] = types_of_names([symbols[atom] for atom in real], self.names)
        for atom in np.flatnonzero(types < 0)[:1]:
            raise ValueError(
                f"atom {atom}: the models do not know {symbols[atom]}, only {list(self.names)}"
            )
        return types


def is_atoms_file(path: str) -> bool:
    """Tell whether a path is that of a file, and not of a system in HDF5."""
    return os.path.isfile(path) and not path.endswith((".hdf5", ".h5"))
