# SPDX-License-Identifier: LGPL-3.0-or-later
"""From sources to frames that can be packed, and what becomes of the others."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..._kernels import AtomError, RealAtoms
from .readers.units import Units
from .sources import Frame, Incomplete, Keys, read_frames, without_frame


def usable_frames(
    sources: Any, keys: Keys, units: Units, drop_cell: bool, left_out: Counter[str] | None
) -> Iterator[Frame]:
    """Yield the frames of all sources that can be packed.

    Parameters
    ----------
    sources
        One or several.
    keys, units
        Of the labels.
    drop_cell
        Take periodic sources as if they were not.
    left_out
        Counts incomplete frames by reason; without it they are errors.

    Raises
    ------
    ValueError
        Naming source, frame and atom, if one cannot be packed; or if none is left.
    """
    is_one = isinstance(sources, (str, os.PathLike)) or not isinstance(sources, Iterable)
    is_one = is_one or hasattr(sources, "get_chemical_symbols") or hasattr(sources, "get_nframes")
    found_any, used_any = False, False
    first: Incomplete | None = None
    for number, source in enumerate([sources] if is_one else sources):
        found_any, found = True, False
        for item in read_frames(source, keys, number, units):
            found, frame = True, _with_finite_labels(item)
            if isinstance(frame, Frame):
                _require_usable(frame, drop_cell)
                used_any = True
                yield frame
            elif left_out is None:
                raise ValueError(str(frame))
            else:
                left_out[frame.reason] += 1
                first = first or frame
        if not found:
            nothing = _without_frame(source, left_out)
            first = first or nothing
    if not found_any:
        raise ValueError("there is no source; name a file, a folder or an object with frames")
    if first is not None and not used_any:
        raise ValueError(f"no frame is complete: {first.place}: {first.message}")


def _without_frame(source: Any, left_out: Counter[str] | None) -> Incomplete:
    nothing = Incomplete(f"source {source}", "source without a frame", without_frame(source))
    if left_out is None:
        raise ValueError(f"{nothing.place}: {nothing.message}")
    left_out[nothing.reason] += 1
    return nothing


def _with_finite_labels(frame: Frame | Incomplete) -> Frame | Incomplete:
    if isinstance(frame, Incomplete):
        return frame
    if not np.isfinite(frame.energy):
        message = f"the energy is {frame.energy}; take the frame out"
        return Incomplete(frame.place, "labels not finite", message)
    for atom in np.flatnonzero(~np.isfinite(frame.forces).all(axis=1))[:1].tolist():
        message = f"the force is {frame.forces[atom].tolist()}, not finite; take the frame out"
        return Incomplete(f"{frame.place}, atom {atom}", "labels not finite", message)
    return frame


def _require_usable(frame: Frame, drop_cell: bool) -> None:
    if frame.periodic and not drop_cell:
        raise ValueError(
            f"{frame.place}: it is periodic, and se_a_mask knows no periodic images. Cut out the "
            "region with whole molecules; if the frames are that already, drop the cell with "
            "`drop_cell`"
        )
    for atom in np.flatnonzero(~np.isfinite(frame.positions).all(axis=1))[:1].tolist():
        raise ValueError(
            f"{frame.place}, atom {atom}: the position is {frame.positions[atom].tolist()}, not "
            "finite; take the frame out"
        )
    _require_apart(frame)


def _require_apart(frame: Frame) -> None:
    """Refuse atoms at the same point, by the rule of training."""
    natoms = len(frame.names)
    positions = np.ascontiguousarray(frame.positions, dtype=np.float64)
    try:
        RealAtoms(positions[None], np.zeros((1, natoms), np.int32), np.ones((1, natoms)), 1)
    except AtomError as error:
        what = f"{frame.place}, atom {error.fault.atom}: {error.fault.what}"
        raise ValueError(f"{what}; take one of them out of the source") from None
