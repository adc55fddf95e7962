# SPDX-License-Identifier: LGPL-3.0-or-later
"""Extended XYZ, frame by frame, also where the last one is cut off.

ASE makes an index of the whole file first, and takes a blank line for the end of the file.
"""

import itertools
from collections.abc import Iterator
from io import StringIO
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import ase


class CutOffError(ValueError):
    """The file ends within a frame."""


def read_extxyz(path: str, index: int | slice) -> "Iterator[tuple[int, ase.Atoms | CutOffError]]":
    """Read some frames.

    Parameters
    ----------
    path
        Of the file, which may be compressed.
    index
        Which frames. One that the file cuts off counts, too.

    Yields
    ------
    int
        Number of the frame in the file.
    ase.Atoms or CutOffError
        The frame, or in what state it is.

    Raises
    ------
    ValueError
        Of what is malformed; the number is that of the frame after the last one that came.
    """
    from ase.io.extxyz import read_extxyz as parse  # noqa: PLC0415  ASE takes its time
    from ase.io.formats import open_with_compression  # noqa: PLC0415

    wanted = _wanted(path, index)
    with open_with_compression(path) as file:
        for number, frame in _some(_split(file), wanted):
            if isinstance(frame, CutOffError):
                yield number, frame
                continue
            try:
                yield number, next(parse(StringIO(frame), slice(None)))
            except Exception as error:  # parsers raise whatever they meet
                if frame.endswith("\n"):
                    raise
                yield number, CutOffError(f"its last line ends too early ({error})")


def read_headers(path: str) -> Iterator[tuple[int, dict]]:
    """Yield the number of each frame and the entries of its header."""
    from ase.io.extxyz import key_val_str_to_dict  # noqa: PLC0415  ASE takes its time
    from ase.io.formats import open_with_compression  # noqa: PLC0415

    with open_with_compression(path) as file:
        for number, frame in enumerate(_split(file)):
            if isinstance(frame, str):
                yield number, key_val_str_to_dict(frame.split("\n", 2)[1])


def _some(
    frames: "Iterator[str | CutOffError]", wanted: range | slice
) -> "Iterator[tuple[int, str | CutOffError]]":
    if isinstance(wanted, slice):
        yield from itertools.islice(enumerate(frames), wanted.start, wanted.stop, wanted.step)
        return
    if wanted.step > 0:
        for number, frame in enumerate(itertools.islice(frames, wanted.stop)):
            if number in wanted:
                yield number, frame
        return
    kept = {number: frame for number, frame in enumerate(frames) if number in wanted}
    yield from ((number, kept[number]) for number in wanted)


def _wanted(path: str, index: int | slice) -> range | slice:
    """Return the numbers wanted; a slice if its end may be that of the file."""
    if isinstance(index, slice):
        ends = (index.start or 0, index.stop or 0, index.step or 1)
        if min(ends) >= 0:
            return index
    from ase.io.formats import open_with_compression  # noqa: PLC0415

    with open_with_compression(path) as file:
        nframes = sum(1 for _ in _split(file))
    if isinstance(index, slice):
        return range(nframes)[index]
    return range(nframes)[index : index + 1 or None]


def _split(file: IO[str]) -> "Iterator[str | CutOffError]":
    """Yield the lines of each frame as one text."""
    for head in file:
        if not head.strip():
            continue
        if not head.strip().isdigit():
            raise ValueError(f"expected a number of atoms, found {head.strip()[:40]!r}")
        natoms = int(head)
        lines = list(itertools.islice(file, natoms + 1))
        atoms = [line for line in lines[1:] if line.strip()]
        if len(atoms) == natoms:
            yield "".join((head, *lines))
            continue
        message = f"it should have {natoms} atoms and has {len(atoms)}"
        if len(lines) == natoms + 1:
            raise ValueError(message)
        yield CutOffError(message)
