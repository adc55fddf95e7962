# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frames on their way from one stage to the next, as extended XYZ."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.frame import Frame
from ..data.packing.preferences import Preference

if TYPE_CHECKING:
    from ase import Atoms


def read_frames(path: Path) -> "list[Atoms]":
    """Read frames; none from a file that is empty or not there.

    Raises
    ------
    ValueError
        Naming the file, if it cannot be read.
    """
    if not path.exists() or not path.stat().st_size:
        return []
    import ase.io  # noqa: PLC0415  takes its time

    try:
        found = ase.io.read(path, index=":", format="extxyz")
    except Exception as error:
        raise ValueError(f"{path} is no extended XYZ: {error}") from error
    return found if isinstance(found, list) else [found]


def write_frames(path: Path, frames: "Sequence[Atoms]") -> None:
    """Write frames; no frames make an empty file."""
    import ase.io  # noqa: PLC0415

    if frames:
        ase.io.write(path, frames, format="extxyz")
    else:
        path.touch()


def preferences(atoms: "Atoms", rule: Preference, place: str) -> np.ndarray:
    """Return the preference of each atom of a frame [natoms], by a rule of `dp-mask pack`.

    Raises
    ------
    ValueError
        As `Preference.weights`.
    """
    names = np.array(atoms.get_chemical_symbols(), dtype=str)
    frame = Frame.without_labels(place, names, atoms.positions, dict(atoms.arrays))
    return rule.weights(frame)
