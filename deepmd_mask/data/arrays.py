# SPDX-License-Identifier: LGPL-3.0-or-later
"""One array of a set: opened, looked at, read some frames at a time."""

from dataclasses import dataclass

import numpy as np

from ..shared.reason import reason_of
from .findings import Finding, Level, Report
from .folders import AnyFolder, is_there, open_array

# What to say if one is missing.
_MEANING = {"aparam": "1 for real atoms, 0 for virtual ones", "atom_pref": "weights of forces"}


@dataclass(frozen=True)
class ArrayFile:
    """One array of a set, of which only the frames asked for are read.

    Attributes
    ----------
    path
        Of the file or of the HDF5 data set.
    shape
        Number of frames, numbers of each frame.
    dtype
        As in the file.
    """

    path: AnyFolder
    shape: tuple[int, int]
    dtype: np.dtype

    def read(self, frames: slice) -> np.ndarray:
        """Return frames in float64, [nframes, numbers of each frame]."""
        # Opened each time: the pages of a map that stays open would add up to the whole file.
        array = open_array(self.path)
        if array.shape != self.shape:
            array = np.asarray(array).reshape(self.shape)
        return np.array(array[frames], dtype=np.float64)


def require_array(
    path: str, folder: AnyFolder, key: str, nframes: int | None, width: int, report: Report
) -> ArrayFile | None:
    """Open an array that must be there.

    Parameters
    ----------
    path
        Of the system.
    folder
        The set.
    key
        Name of the file without its suffix.
    nframes
        Number of frames; without it the array tells that itself.
    width
        Numbers of each frame.
    report
        Is told what is wrong.

    Returns
    -------
    ArrayFile
        None if something is wrong.
    """
    file = f"{folder.name}/{key}.npy"

    def bad(code: str, message: str, level: Level = "error") -> None:
        report(Finding(level, code, path, message, file))

    if not is_there(folder / f"{key}.npy"):
        shape = f"(nframes, {width})" if nframes is None else f"({nframes}, {width})"
        meaning = f", {_MEANING[key]}" if key in _MEANING else ""
        bad("missing-file", f"is missing; its shape must be {shape}{meaning}")
        return None
    if (folder / f"{key}.npy").is_dir():
        bad("unreadable", "is a folder, not an array; write it anew, or remove it")
        return None
    try:
        array = open_array(folder / f"{key}.npy")
    except Exception as error:  # a damaged header makes NumPy raise whatever it meets
        bad("unreadable", f"cannot be read ({reason_of(error)}); write it anew")
        return None
    if array.dtype.kind not in "fiub":
        bad("dtype", f"has the dtype {array.dtype}; save it as float64 or float32")
        return None
    if array.dtype.newbyteorder("=") not in (np.float64, np.float32) and key in (
        "coord",
        "energy",
        "force",
    ):
        message = f"has the dtype {array.dtype}, which rounds; save it as float64 or float32"
        bad("dtype", message, "warning")
    if nframes is None:
        nframes = 1 if array.ndim < 2 else array.shape[0]
    # DeePMD-kit takes any shape of as many numbers that begins with the frames.
    wanted = (nframes, width)
    if array.size != nframes * width or (array.ndim > 1 and array.shape[0] != nframes):
        bad("shape", f"found shape {array.shape}, expected {wanted}")
        return None
    return ArrayFile(folder / f"{key}.npy", wanted, array.dtype)
