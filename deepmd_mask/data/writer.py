# SPDX-License-Identifier: LGPL-3.0-or-later
"""Writes masked systems, some frames at a time, and puts them in place when they are complete."""

import ctypes
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..shared.reason import NOTHING_LEFT
from .systems import SLOTS_AT_ONCE

# Virtual atoms lie in a line beyond the real ones, further apart than any cutoff, so that
# no other tool takes them for overlapping or for neighbours. Whole numbers: exact in float32, too.
VIRTUAL_DISTANCE = 1000.0  # Å
VIRTUAL_SPACING = 100.0  # Å


@contextmanager
def put_in_place(output: Path, overwrite: bool, folder: bool) -> Iterator[Path]:
    """Give a path beside the output, and rename it to the output when all went well.

    Otherwise it is removed. Whenever a process is killed, the output is there as it was or as it
    is to be. What the process leaves besides has a name that begins with a dot and lacks
    ``type.raw``, which SystemWriter writes when all is there: nobody takes it for a system.

    Parameters
    ----------
    output
        Path of what is to be there in the end.
    overwrite
        Whether what exists may be replaced: a file by a file, a folder by a folder, if it holds
        masked systems and nothing else.
    folder
        Whether it is a folder.

    Raises
    ------
    FileExistsError
        If the output exists and must not be replaced.
    OSError
        If something cannot be written, a full disk for example.
    """
    require_replaceable(output, overwrite, folder)
    part = output.with_name(f".{output.name}.{uuid.uuid4().hex[:8]}.partial")
    old = part.with_suffix(".old")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if not folder:
            part.touch()  # complains early of a folder that cannot be written to
        yield part
        if not (output.is_dir() and _exchange(part, output)):
            if output.is_dir():  # os.replace does this for files alone
                os.replace(output, old)
            os.replace(part, output)
    except BaseException as error:
        if old.exists():
            os.replace(old, output)
        with suppress(OSError):  # the first error is the one to tell
            remove(part)
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, OSError) and not reason.endswith(NOTHING_LEFT):  # of another output
            raise OSError(error.errno, reason + NOTHING_LEFT, str(output)) from error
        raise
    for left in (part, old):
        remove(left)


def _exchange(first: Path, second: Path) -> bool:
    """Let two paths change places at once; return False where the system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    of_cwd, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    paths = [os.fsencode(path) for path in (first, second)]
    return rename is not None and rename(of_cwd, paths[0], of_cwd, paths[1], exchange) == 0


def remove(path: Path) -> None:
    """Remove a file or a folder that need not exist."""
    if path.is_dir() and not path.is_symlink():
        for mark in path.rglob("type.raw"):  # first, so that half of a folder is no system
            mark.unlink()
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def require_replaceable(output: Path, overwrite: bool, folder: bool) -> None:
    """Refuse to lose what exists; parameters and errors as of ``put_in_place``."""
    if not os.path.lexists(output):
        return
    if not overwrite:
        message = f"{output} exists; choose another name, or replace it with `overwrite`"
        raise FileExistsError(message)
    if output.exists() and not (output.is_dir() or stat.S_ISREG(output.stat().st_mode)):
        raise FileExistsError(f"{output} is no file that could be replaced; choose another name")
    if output.is_dir() != folder:
        kind = "a file" if folder else "a folder"
        raise FileExistsError(f"{output} is {kind}; choose another name")
    if not folder:
        if _is_of_system(output.resolve()):
            raise FileExistsError(f"{output} is a file of a system; choose another name")
        return
    foreign = [path for path in output.rglob("*") if not (path.is_dir() or _is_of_system(path))]
    if foreign:
        raise FileExistsError(
            f"{output} holds other things than systems, {foreign[0]} for example; remove it "
            "yourself, or choose another name"
        )


def _is_of_system(path: Path) -> bool:
    """Tell whether a file has a name that files of systems have."""
    in_set = path.suffix == ".npy" and path.parent.name.startswith("set.")
    return in_set or path.name in ("type.raw", "type_map.raw", "nopbc")


class SystemWriter:
    """One masked system, whose number of frames is known beforehand.

    Parameters
    ----------
    folder
        Must not exist.
    type_map
        Names of the types.
    sel
        Slots of each type.
    nframes
        Of the whole system.
    set_size
        Frames of a set.
    dtype
        float32 or float64; energies, which need more digits, are always float64.
    """

    def __init__(
        self,
        folder: Path,
        type_map: Sequence[str],
        sel: Sequence[int],
        nframes: int,
        set_size: int,
        dtype: str,
    ):
        self.folder, self.type_map = folder, type_map
        self.types = np.repeat(np.arange(len(sel)), sel)
        self.first = np.cumsum(sel) - sel
        self.nframes, self.set_size, self.written = nframes, set_size, 0
        nslots = len(self.types)
        rows = max(1, min(nframes, set_size, SLOTS_AT_ONCE // max(1, nslots)))
        self.used = 0
        self.arrays = {
            "coord": np.zeros((rows, nslots, 3), dtype),
            "force": np.zeros((rows, nslots, 3), dtype),
            "energy": np.zeros(rows),
            "aparam": np.zeros((rows, nslots), dtype),
            "atom_pref": np.zeros((rows, nslots), dtype),
        }
        self.files: dict[str, BinaryIO] = {}
        self.stack = ExitStack()
        self.width = max(3, len(str((nframes - 1) // set_size)))
        folder.mkdir(parents=True)

    def __enter__(self) -> "SystemWriter":
        """Return the writer."""
        return self

    def __exit__(self, error: object, *_: object) -> None:
        """Write what is left, if all went well, and close the files."""
        with self.stack:
            if error is None:
                self._flush()

    def complete(self) -> None:
        """Write the files that make it a system; when all others are there."""
        np.savetxt(self.folder / "type_map.raw", self.type_map, fmt="%s", encoding="utf-8")
        (self.folder / "nopbc").touch()
        np.savetxt(self.folder / "type.raw", self.types, fmt="%d")

    def add(
        self,
        types: np.ndarray,
        positions: np.ndarray,
        energy: float,
        forces: np.ndarray,
        preference: np.ndarray,
    ) -> None:
        """Add a frame.

        Parameters
        ----------
        types
            [natoms] indices into the type map, in any order; not more than sel of each.
        positions, forces
            [natoms, 3]
        energy
            One number.
        preference
            [natoms]
        """
        order = np.argsort(types, kind="stable")
        types = types[order]
        counts = np.bincount(types, minlength=len(self.first))
        rank = np.arange(len(types)) - (np.cumsum(counts) - counts)[types]
        slots, row = self.first[types] + rank, self.used
        self.arrays["coord"][row, slots] = positions[order]
        self.arrays["force"][row, slots] = forces[order]
        self.arrays["energy"][row] = energy
        self.arrays["aparam"][row, slots] = 1
        self.arrays["atom_pref"][row, slots] = preference[order]
        self.used += 1
        full = self.used == len(self.arrays["energy"])
        if full or (self.written + self.used) % self.set_size == 0:
            self._flush()

    def _flush(self) -> None:
        if self.used == 0:
            return
        if self.written % self.set_size == 0:
            self._open_set()
        coord, mask = self.arrays["coord"][: self.used], self.arrays["aparam"][: self.used]
        _place_virtual(coord, mask == 0)
        for key, array in self.arrays.items():
            self.files[key].write(array[: self.used].tobytes())
            array[:] = 0
        self.written += self.used
        self.used = 0

    def _open_set(self) -> None:
        self.stack.close()
        nframes = min(self.set_size, self.nframes - self.written)
        folder = self.folder / f"set.{self.written // self.set_size:0{self.width}d}"
        folder.mkdir()
        for key, array in self.arrays.items():
            file = self.stack.enter_context(open(folder / f"{key}.npy", "wb"))
            numbers = array[0].size
            header = {
                "descr": np.lib.format.dtype_to_descr(array.dtype),
                "fortran_order": False,
                "shape": (nframes,) if key == "energy" else (nframes, numbers),
            }
            np.lib.format.write_array_header_1_0(file, header)
            self.files[key] = file


def _place_virtual(coord: np.ndarray, virtual: np.ndarray) -> None:
    """Set the coordinates of virtual atoms; coord is [n, nslots, 3], virtual [n, nslots]."""
    right = np.where(virtual, 0, coord[:, :, 0]).max(axis=1, initial=0)
    line = VIRTUAL_DISTANCE + VIRTUAL_SPACING * np.arange(virtual.shape[1])
    line = np.floor(right)[:, None] + line
    coord[virtual] = 0
    coord[:, :, 0][virtual] = line[virtual]
