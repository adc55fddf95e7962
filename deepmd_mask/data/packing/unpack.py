# SPDX-License-Identifier: LGPL-3.0-or-later
"""Unpacks masked systems to extended XYZ: real atoms only, with their labels."""

from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np
from tqdm import tqdm

from ...shared.paths import AnyPath, Paths, listed, require_suffix, require_unlike_files
from ..scan import sound_frames
from ..systems import Chunk, System, open_system, systems_in
from ..writer import put_in_place, require_replaceable

SUFFIXES = (".xyz", ".extxyz")  # other readers would take it for something else


def unpack(
    systems: Paths,
    output: AnyPath,
    *,
    overwrite: bool = False,
    progress: bool = False,
) -> int:
    """Write the real atoms of masked systems to an extended XYZ file.

    Columns are species, pos, forces and atom_pref; energy is in the comment line. Numbers have
    all their digits, so that packing gives the same arrays again.

    Parameters
    ----------
    systems
        Path of one system or of several; each may be a folder of systems.
    output
        The file.
    overwrite
        Replace a file that exists.
    progress
        Show a progress bar if the standard error is a terminal.

    Returns
    -------
    int
        Number of frames.

    Raises
    ------
    ValueError
        Naming system, file, frame and atom, if a system is not a masked one; if the output has the
        suffix of another format.
    OSError
        If the output exists or cannot be written. Nothing is left of it then.
    """
    given = listed(systems)
    require_unlike_files({"systems": given}, {"output": output})
    require_replaceable(Path(output), overwrite, folder=False)
    require_suffix("output", output, SUFFIXES)
    opened = [_open(path) for each in given for path in systems_in(each)]
    if not opened:
        raise ValueError("there is no system; name one")
    total = sum(system.nframes for system, _ in opened)
    hidden = None if progress else True
    with (
        put_in_place(Path(output), overwrite, folder=False) as part,
        open(part, "w", encoding="utf-8") as file,
        tqdm(desc="unpacking", total=total, unit=" frames", disable=hidden) as bar,
    ):
        for system, names in opened:
            for chunk in _sound_chunks(system, len(names)):
                _write(file, names, chunk)
                bar.update(len(chunk))
    return total


def _open(path: str) -> tuple[System, tuple[str, ...]]:
    """Return a system and the names of its types."""
    from ase.data import atomic_numbers  # noqa: PLC0415  ASE takes its time

    system = open_system(path)
    if system.names is None:
        raise ValueError(f"system {path}: there is no type_map.raw, so its types have no names")
    for name in system.names:
        if name.capitalize() not in atomic_numbers:
            raise ValueError(
                f"system {path}, type_map.raw: {name} is no element, and extended XYZ has nothing "
                "else; name the element there"
            )
    return system, system.names


def _sound_chunks(system: System, ntypes: int) -> Iterator[Chunk]:
    numbers = np.arange(ntypes)
    for chunk in system.chunks():
        for part in sound_frames(system, chunk, numbers, ntypes):
            yield part.chunk


def _write(file: TextIO, names: tuple[str, ...], chunk: Chunk) -> None:
    columns = {"pos:R:3": chunk.coord}
    if chunk.force is not None:
        columns["forces:R:3"] = chunk.force
    if chunk.preference is not None:
        columns["atom_pref:R:1"] = chunk.preference[:, :, None]
    properties = ":".join(["species:S:1", *columns])
    table = np.concatenate(list(columns.values()), axis=2)
    for f in range(len(chunk)):
        real = np.flatnonzero(chunk.mask[f])
        energy = "" if chunk.energy is None else f" energy={chunk.energy[f].item()!r}"
        file.write(f'{len(real)}\nProperties={properties}{energy} pbc="F F F"\n')
        for slot, values in zip(real, table[f, real].tolist(), strict=True):
            # repr is the shortest text that gives the same number.
            file.write(
                f"{names[chunk.types[f, slot]].capitalize()} {' '.join(map(repr, values))}\n"
            )
