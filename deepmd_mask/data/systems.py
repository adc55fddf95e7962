# SPDX-License-Identifier: LGPL-3.0-or-later
"""Reads systems of DeePMD-kit, some frames at a time: masked, plain and mixed ones.

docs/data.md describes the files.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np

from ..shared.paths import AnyPath
from ..shared.reason import reason_of
from .arrays import ArrayFile, require_array
from .findings import Finding, Level, Report, refuse
from .folders import AnyFolder, folders_with, is_there, load_text, open_folder

SLOTS_AT_ONCE = 1 << 16  # some 8 MB for all arrays of a chunk

# Numbers of each slot, or of each frame, in the files of a set.
_PER_SLOT = {"coord": 3, "force": 3, "aparam": 1, "atom_pref": 1, "real_atom_types": 1}
_PER_FRAME = {"energy": 1}


@dataclass(frozen=True)
class Chunk:
    """Some frames of a set. What the system has no file of is None.

    Attributes
    ----------
    set_name
        Name of the set, as ``set.000``.
    first
        Number of the first frame within its set.
    types
        [nframes, nslots] index into the system's names; -1 for no type, which mixed systems have.
    mask
        [nframes, nslots] 1 for a real atom, 0 for a virtual one; in a system without mask
        whatever has a type is real.
    coord
        [nframes, nslots, 3]
    energy
        [nframes]
    force
        [nframes, nslots, 3]
    preference
        [nframes, nslots]
    others
        Further arrays [nframes, nslots], by name.
    """

    set_name: str
    first: int
    types: np.ndarray
    mask: np.ndarray
    coord: np.ndarray
    energy: np.ndarray | None = None
    force: np.ndarray | None = None
    preference: np.ndarray | None = None
    others: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.mask)

    def take(self, frames: slice) -> "Chunk":
        """Return some of the frames; the first one's number counts from this chunk's."""
        parts: dict[str, Any] = {
            name: array[frames]
            for name, array in self.__dict__.items()
            if isinstance(array, np.ndarray)
        }
        others = {name: array[frames] for name, array in self.others.items()}
        first = self.first + frames.indices(len(self))[0]
        return replace(self, first=first, others=others, **parts)


@dataclass(frozen=True)
class FrameSet:
    """A folder ``set.*``.

    Attributes
    ----------
    folder, name
        Where it is.
    nframes
        Number of frames.
    arrays
        The sound ones, by key.
    first
        Number of its first frame within the system; None if a set before cannot be read.
    """

    folder: AnyFolder
    name: str
    nframes: int
    arrays: dict[str, ArrayFile]
    first: int | None = None


@dataclass(frozen=True)
class System:
    """A system whose files are there and have the right shapes.

    Attributes
    ----------
    path
        As the user gave it.
    types
        [nslots] of type.raw.
    names
        Of the types; None if there is no type_map.raw.
    periodic
        Whether the file nopbc is missing.
    sets
        In the order of their names.
    others
        Keys of further arrays that chunks shall have.
    """

    path: str
    types: np.ndarray
    names: tuple[str, ...] | None
    periodic: bool
    sets: tuple[FrameSet, ...]
    others: tuple[str, ...] = ()

    @property
    def nslots(self) -> int:
        """Return the number of slots."""
        return len(self.types)

    @property
    def nframes(self) -> int:
        """Return the number of frames of all sets."""
        return sum(part.nframes for part in self.sets)

    def finding(
        self,
        level: Level,
        code: str,
        message: str,
        file: str,
        place: tuple[str, int],
        atom: int | None = None,
    ) -> Finding:
        """Return what is wrong with a frame.

        Parameters
        ----------
        level, code, message, file, atom
            Of the finding.
        place
            Set and number within it of the frame.
        """
        set_name, frame = place
        first = self.set_named(set_name).first
        number = None if first is None else first + frame
        return Finding(level, code, self.path, message, file, frame, atom, number)

    def set_named(self, name: str) -> FrameSet:
        """Return a set."""
        return next(part for part in self.sets if part.name == name)

    def chunks(self) -> Iterator[Chunk]:
        """Read all frames, a bounded number of atoms at a time."""
        step = max(1, SLOTS_AT_ONCE // max(1, self.nslots))
        for part in self.sets:
            for first in range(0, part.nframes, step):
                yield self._read(part, slice(first, min(first + step, part.nframes)))

    def _read(self, part: FrameSet, frames: slice) -> Chunk:
        def read_required(key: str, *shape: int) -> np.ndarray:
            return part.arrays[key].read(frames).reshape(-1, *shape)

        def read(key: str, *shape: int) -> np.ndarray | None:
            return read_required(key, *shape) if key in part.arrays else None

        n, nslots = frames.stop - frames.start, self.nslots
        # deepmd/npy/mixed keeps types frame by frame.
        types = read("real_atom_types", nslots)
        types = np.broadcast_to(self.types, (n, nslots)) if types is None else types
        mask = read("aparam", nslots)
        energy = read("energy", 1)
        return Chunk(
            part.name,
            frames.start,
            types=types.astype(np.int32),
            mask=(types >= 0).astype(np.float64) if mask is None else mask,
            coord=read_required("coord", nslots, 3),
            energy=None if energy is None else energy[:, 0],
            force=read("force", nslots, 3),
            preference=read("atom_pref", nslots),
            others={key: read_required(key, nslots) for key in self.others},
        )


@overload
def open_system(
    path: AnyPath, required: Sequence[str] = ..., others: Sequence[str] = ...
) -> System: ...


@overload
def open_system(
    path: AnyPath, required: Sequence[str] = ..., others: Sequence[str] = ..., *, report: Report
) -> System | None: ...


def open_system(
    path: AnyPath,
    required: Sequence[str] = ("coord", "aparam"),
    others: Sequence[str] = (),
    report: Report = refuse,
) -> System | None:
    """Look at a system's files and at the shapes of its arrays, without reading the frames.

    Parameters
    ----------
    path
        A folder, or FILE#/GROUP in HDF5.
    required
        Keys of the arrays that each set must have. A plain system, all of whose atoms are real,
        has no "aparam".
    others
        Keys of further arrays with one number for each slot, which must be there, too.
    report
        Is told what is wrong.

    Returns
    -------
    System
        Without the sets that cannot be read; None if nothing can.

    Raises
    ------
    ValueError
        Naming the file, if something is wrong and report is the default.
    """
    path = str(path)
    try:
        root = open_folder(path)
        sets: list[AnyFolder] = sorted(root.glob("set.*"), key=str)
        types = _read_types(path, root, report)
        names = _read_names(path, root, report)
    except FileNotFoundError:
        report(Finding("error", "no-system", path, f"not found; {_where_to_look(path)}"))
        return None
    except OSError as error:
        reason = reason_of(error)
        message = f"cannot be read ({reason}); a system is a folder, or FILE#/GROUP in HDF5"
        if os.path.isfile(path):
            message += ", and `dp-mask pack` makes one of a file of frames"
        report(Finding("error", "no-system", path, message))
        return None
    if types is None or names == () or (names and not _within(path, types, names, report)):
        return None
    if not sets:
        report(Finding("error", "no-set", path, "there is no set.*; its frames belong there"))
        return None
    required = (*required, *others)
    opened = [_open_set(path, folder, len(types), required, report) for folder in sets]
    periodic = not (root / "nopbc").is_file()
    good = tuple(_numbered(opened))
    return System(path, types, names, periodic, good, tuple(others)) if good else None


def _where_to_look(path: str) -> str:
    if os.path.isabs(path):
        return "check the path"
    return (
        f"relative paths, those in an input, too, begin in the folder in which the command runs, "
        f"now {os.getcwd()}; run it in the folder that is meant, or check the path"
    )


def _numbered(opened: Sequence[FrameSet | None]) -> Iterator[FrameSet]:
    """Yield the sets that can be read, with the number of their first frame."""
    first: int | None = 0
    for part in opened:
        if part is None:
            first = None
            continue
        yield replace(part, first=first)
        first = None if first is None else first + part.nframes


def systems_in(path: AnyPath, patterns: Sequence[str] | None = None) -> list[str]:
    """Return the systems in a folder and its folders, in order; a system's path as it is.

    A path that leads to none is returned, too: opening it says what is wrong.

    Parameters
    ----------
    path
        The folder, or a group FILE#/GROUP.
    patterns
        What a system's folder must match, one of several, as in ``rglob_patterns`` of an input;
        then only what matches is returned.
    """
    path = os.fspath(path)
    if patterns:
        return folders_with("type.raw", path, patterns)
    try:
        return folders_with("type.raw", path) or [path]
    except OSError:
        return [path]


def _read_types(path: str, root: AnyFolder, report: Report) -> np.ndarray | None:
    def bad(message: str) -> None:
        report(Finding("error", "types", path, message, "type.raw"))

    if not (root / "type.raw").is_file():
        bad("missing; it names the type of each slot by a number from 0")
        return None
    try:
        values = load_text(root / "type.raw")
    except ValueError as error:
        bad(f"is not a list of numbers ({error}); write one number for each slot")
        return None
    whole = np.array_equal(values, np.rint(values)) and np.all(np.abs(values) < 2**31)
    if values.ndim != 1 or not whole:
        bad("holds other things than whole numbers; write one for each slot")
        return None
    if len(values) == 0:
        bad("is empty; write one number for each slot")
        return None
    return values.astype(np.int32)


def _read_names(path: str, root: AnyFolder, report: Report) -> tuple[str, ...] | None:
    """Return the names of the types; None if there is no file of them, () if it is bad."""

    def bad(message: str) -> tuple[()]:
        report(Finding("error", "type-map", path, message, "type_map.raw"))
        return ()

    if not is_there(root / "type_map.raw"):
        return None
    try:
        names = load_text(root / "type_map.raw", dtype=str)
    except (ValueError, OSError) as error:
        return bad(f"is not a list of names ({reason_of(error)}); write one in each line")
    if names.ndim != 1 or len(names) == 0:
        return bad("is empty, or has lines of several names; write one in each line")
    return tuple(names.tolist())


def _within(path: str, types: np.ndarray, names: Sequence[str], report: Report) -> bool:
    """Tell whether each type has a name, and each name is there once."""
    for name in names:
        if names.count(name) > 1:
            message = f"{name} is there twice; give each type a name of its own"
            report(Finding("error", "type-map", path, message, "type_map.raw"))
            return False
    outside = np.flatnonzero((types < 0) | (types >= len(names)))
    for atom in outside[:1].tolist():
        message = (
            f"type {types[atom]} is outside the type map, which has {len(names)} types in "
            "type_map.raw; number them from 0"
        )
        report(Finding("error", "types", path, message, "type.raw", atom=atom))
    return len(outside) == 0


def _open_set(
    path: str, folder: AnyFolder, nslots: int, required: Sequence[str], report: Report
) -> FrameSet | None:
    """Return the set; None if something is wrong that leaves no frames to look at."""
    coord = require_array(path, folder, "coord", None, 3 * nslots, report)
    if coord is None:
        return None
    nframes = coord.shape[0]
    if nframes == 0:
        file = f"{folder.name}/coord.npy"
        report(Finding("error", "no-frame", path, "has no frame; remove the set", file))
        return None
    arrays = {"coord": coord}
    for key in dict.fromkeys((*required, *_PER_SLOT, *_PER_FRAME)):
        if key in arrays or (key not in required and not is_there(folder / f"{key}.npy")):
            continue
        width = _PER_FRAME.get(key) or nslots * _PER_SLOT.get(key, 1)
        array = require_array(path, folder, key, nframes, width, report)
        if array is not None:
            arrays[key] = array
    return FrameSet(folder, folder.name, nframes, arrays) if set(required) <= set(arrays) else None
