# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frames without labels from files that ASE reads, for models to evaluate."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .._kernels import AtomError, RealAtoms, reason_against_box
from ..data.frame import Keys
from ..data.packing.preferences import checked_weights
from ..data.packing.readers.header_units import stated_units
from ..data.packing.readers.naming import split_index
from ..data.systems import Chunk
from ..shared.elements import types_of_names
from ..shared.reason import reason_of, until_error

if TYPE_CHECKING:
    import ase


@dataclass(frozen=True)
class AtomsFile:
    """A file with frames of any composition, in the place of a System.

    Where a frame has an array "mask", atoms with 0 are virtual; "atom_pref" holds preferences. A
    unit of length that a frame states counts.

    Attributes
    ----------
    path
        Of the file, or FILE@INDEX for some of its frames.
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
            that is not among the names, atoms that no model takes, a preference that is none, or
            states a unit that is unknown.
        """
        number = -1
        for item in until_error(self._images()):
            if isinstance(item, Exception):
                raise ValueError(
                    f"{self.path}, frame {number + 1}: ASE cannot read it ({reason_of(item)}); "
                    "masked systems and files of ASE's formats are what is read"
                ) from item
            number, atoms = item
            place = f"{self.path}, frame {number}"
            if isinstance(atoms, Exception):
                raise ValueError(f"{place}: it is cut off ({atoms}); choose others, as in FILE@:-1")
            yield self._chunk(atoms, number, place)
        if number < 0:
            raise ValueError(
                f"{self.path}: there is no frame in it that ASE could read; masked systems and "
                "files of ASE's formats are what is read"
            )

    def _images(self) -> "Iterator[tuple[int, ase.Atoms | Exception]]":
        """Yield frames with their numbers; those are of the choice, unless the file is extxyz."""
        from ase.io import iread  # noqa: PLC0415  takes its time
        from ase.io.formats import filetype  # noqa: PLC0415

        from ..data.packing.readers.extxyz import read_extxyz  # noqa: PLC0415

        file, index = split_index(self.path)
        file_format = filetype(file)
        if file_format == "extxyz":
            yield from read_extxyz(file, index)
        else:
            some = iread(file, index, format=file_format, do_not_split_by_at_sign=True)
            yield from enumerate(some)

    def _chunk(self, atoms: "ase.Atoms", number: int, place: str) -> Chunk:
        reason = reason_against_box() if atoms.pbc.any() else ""
        if reason:
            raise ValueError(f"{place}: {reason}")
        mask = np.asarray(atoms.arrays.get("mask", np.ones(len(atoms))))
        if mask.shape != (len(atoms),) or mask.dtype.kind not in "fiub":
            raise ValueError(
                f"{place}: array mask has the shape {mask.shape} and the dtype {mask.dtype}; it is "
                f"1 or 0 for each of the {len(atoms)} atoms"
            )
        mask = mask.astype(float)
        types = self._types(list(atoms.symbols), mask, place)
        coord = np.asarray(atoms.positions, float)
        unit = stated_units(place, atoms.info, Keys()).get("length")
        if unit is not None:
            coord = coord * unit.factor
        try:
            RealAtoms(coord[None], types[None].astype(np.int32), mask[None], len(self.names))
        except AtomError as error:
            fault = error.fault
            raise ValueError(f"{place}, atom {fault.atom}: {fault.text}") from None
        preference = atoms.arrays.get("atom_pref")
        if preference is not None:
            preference = checked_weights(preference, len(atoms), "atom_pref", place)[None]
        return Chunk("", number, types[None], mask[None], coord[None], preference=preference)

    def _types(self, symbols: list[str], mask: np.ndarray, place: str) -> np.ndarray:
        """Return the types of elements; 0 for a virtual atom."""
        types, real = np.zeros(len(symbols), int), np.flatnonzero(mask != 0)
        try:
            types[real] = types_of_names([symbols[atom] for atom in real], self.names)
        except ValueError as error:  # two types that fit
            raise ValueError(f"{place}: {error}") from None
        for atom in np.flatnonzero(types < 0)[:1]:
            raise ValueError(
                f"{place}, atom {atom}: the models do not know {symbols[atom]}, only "
                f"{list(self.names)}"
            )
        return types


def is_atoms_file(path: str) -> bool:
    """Tell whether a path, or that in FILE@INDEX, is of a file, and not of a system in HDF5."""
    file, _ = split_index(path)
    return os.path.isfile(file) and not file.endswith((".hdf5", ".h5"))
