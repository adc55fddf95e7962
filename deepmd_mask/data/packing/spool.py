# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frames on disk between reading, which counts atoms, and writing, which needs the counts.

So sources are read once, and memory does not grow with the number of frames.
"""

import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_HEAD = struct.Struct("=qd")  # number of atoms, energy
_ATOM = np.dtype([("type", "i4"), ("position", "f8", 3), ("force", "f8", 3), ("preference", "f8")])


class Spool:
    """A file without a name, which vanishes with the process.

    Parameters
    ----------
    folder
        In which there is room; need not exist.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.file = tempfile.TemporaryFile(dir=folder)
        self.nframes = 0

    def __enter__(self) -> "Spool":
        """Return the spool."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the file."""
        self.file.close()

    def add(
        self,
        types: np.ndarray,
        positions: np.ndarray,
        energy: float,
        forces: np.ndarray,
        preference: np.ndarray,
    ) -> None:
        """Add a frame; arrays are [natoms] or [natoms, 3]."""
        atoms = np.empty(len(types), _ATOM)
        atoms["type"], atoms["position"] = types, positions
        atoms["force"], atoms["preference"] = forces, preference
        self.file.write(_HEAD.pack(len(types), energy) + atoms.tobytes())
        self.nframes += 1

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, float, np.ndarray, np.ndarray]]:
        """Yield all frames, as they were added."""
        self.file.seek(0)
        for _ in range(self.nframes):
            natoms, energy = _HEAD.unpack(self.file.read(_HEAD.size))
            atoms = np.frombuffer(self.file.read(natoms * _ATOM.itemsize), _ATOM)
            yield atoms["type"], atoms["position"], energy, atoms["force"], atoms["preference"]
