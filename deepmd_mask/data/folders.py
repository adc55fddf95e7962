# SPDX-License-Identifier: LGPL-3.0-or-later
"""Folders of files, and groups of an HDF5 file in their place.

``dp train`` must find the same systems and sets, so names are compared and matched by its rules.
"""

import os
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import h5py


class HDF5Path:
    """A group or a data set of an HDF5 file, with as much of ``pathlib.Path`` as systems need.

    Groups are folders, data sets are files. Only objects that hard links lead to are there.

    Parameters
    ----------
    text
        FILE#/GROUP, or FILE for the root of the file.

    Raises
    ------
    OSError
        If the file cannot be read, or is none of HDF5.
    """

    def __init__(self, text: str) -> None:
        self._file, *inside = text.split("#")
        self._inside = inside[0] if inside else "/"
        self._objects  # noqa: B018  an error belongs here

    def __str__(self) -> str:
        """Return FILE#/GROUP."""
        return f"{self._file}#{self._inside}"

    def __truediv__(self, name: str) -> "HDF5Path":
        """Return what is in this group under a name."""
        return HDF5Path(f"{self._file}#{self._within(name)}")

    @property
    def name(self) -> str:
        """Return the last part of the path."""
        return self._inside.split("/")[-1]

    def is_file(self) -> bool:
        """Return whether this is a data set."""
        return self._objects.get(self._inside) is True

    def is_dir(self) -> bool:
        """Return whether this is a group."""
        return self._inside == "/" or self._objects.get(self._inside) is False

    def glob(self, pattern: str) -> list["HDF5Path"]:
        """Return what is in this group and has a name of a pattern."""
        from wcmatch.glob import globfilter  # noqa: PLC0415  only HDF5 needs it

        # The way to the group is part of the pattern in DeePMD-kit, too.
        below = [name for name in self._objects if name.startswith(self._inside)]
        matching = globfilter(below, self._within(pattern))
        return [HDF5Path(f"{self._file}#{name}") for name in matching]

    def rglob(self, pattern: str) -> list["HDF5Path"]:
        """Return the same as `glob`: DeePMD-kit looks for systems one level below a group."""
        return self.glob(pattern)

    def open(self) -> "h5py.Dataset":
        """Return the data set, of which nothing has been read yet; it keeps the file open."""
        import h5py  # noqa: PLC0415  which takes its time

        return h5py.File(self._file, "r")[self._inside]

    def _within(self, name: str) -> str:
        return f"{self._inside}{'' if self._inside.endswith('/') else '/'}{name}"

    @property
    def _objects(self) -> dict[str, bool]:
        """Tell, for each object in the file, by its path, whether it is a data set."""
        found = os.stat(self._file)
        return _objects_in(self._file, found.st_ino, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=4)  # each system of a file asks for them
def _objects_in(file: str, *version: int) -> dict[str, bool]:
    """Tell of each object in a file whether it is a data set; a file that changes is read again."""
    import h5py  # noqa: PLC0415

    objects = {}

    def note(name: str, found: "h5py.Group | h5py.Dataset") -> None:
        objects[f"/{name}"] = isinstance(found, h5py.Dataset)

    with h5py.File(file, "r") as opened:
        opened.visititems(note)
    return objects


AnyFolder = Path | HDF5Path  # and what is in it


def open_folder(path: str) -> AnyFolder:
    """Return a folder or, where there is none of this name, a group FILE#/GROUP.

    Raises
    ------
    FileNotFoundError
        If there is neither.
    OSError
        If the file is none of HDF5.
    """
    if os.path.isdir(path):
        return Path(path)
    if os.path.isfile(path.partition("#")[0]):
        return HDF5Path(path)
    raise FileNotFoundError(f"{path} not found")


def folders_with(file: str, path: str, patterns: Sequence[str] | None = None) -> list[str]:
    """Return the paths of a folder, and of those in it, that have a file, in order.

    Parameters
    ----------
    file
        Its name.
    path
        The folder, or a group FILE#/GROUP.
    patterns
        What folders must match, each as in ``pathlib.Path.rglob``, and then not in HDF5; without
        them all folders and the one given.

    Raises
    ------
    OSError
        If there is no such folder.
    """
    if patterns is None:
        root = open_folder(path)
        inside: list[AnyFolder] = [root, *root.rglob("*")]
    else:
        inside = [found for pattern in patterns for found in Path(path).rglob(pattern)]
    return sorted({str(folder) for folder in inside if (folder / file).is_file()})


def is_there(path: AnyFolder) -> bool:
    """Return whether there is something of that name, be it of the wrong kind."""
    return path.is_file() or path.is_dir()


def load_text(path: AnyFolder, dtype: type = float) -> np.ndarray:
    """Return what a file of words holds, or the data set in its place.

    Raises
    ------
    ValueError
        If it holds something else.
    """
    if isinstance(path, HDF5Path):
        return path.open()[:].astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns of an empty file
        return np.loadtxt(path, dtype=dtype, ndmin=1)


def open_array(path: AnyFolder) -> Any:
    """Return an array, or what can be sliced like one, of which nothing has been read yet.

    Raises
    ------
    ValueError
        If the file holds something else; NumPy raises others where it is damaged.
    """
    if isinstance(path, HDF5Path):
        return path.open()
    array = np.load(str(path), mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError("it is an archive of arrays, as numpy.savez writes it")
    return array
