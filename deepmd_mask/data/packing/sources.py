# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frames from whatever quantum-chemistry output there is, one after the other.

ASE, dpdata, cclib and this package's own reader of DeePMD-kit's systems do the reading.
"""

import os
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ...shared.reason import reason_of
from ..folders import open_folder
from ..frame import UNREADABLE, Frame, Incomplete, Keys
from ..systems import System, open_system, systems_in
from .readers.naming import parse_source, split_index
from .readers.units import Units

__all__ = ["Frame", "Incomplete", "Keys", "read_frames", "without_frame"]

KEYS, UNITS = Keys(), Units()  # the usual ones


def read_frames(
    source: Any, keys: Keys = KEYS, number: int = 0, units: Units = UNITS
) -> Iterator[Frame | Incomplete]:
    """Read a source.

    Parameters
    ----------
    source
        A file that ASE or cclib reads, or FILE@INDEX for some of its frames; a system of
        DeePMD-kit (plain, masked or mixed; a folder, or a group FILE#/GROUP in HDF5) or a folder
        or group of such; FORMAT:PATH with a format's name of ASE or dpdata, as in
        ``vasp/outcar:run1/OUTCAR``; ase:FORMAT:PATH, dpdata:FORMAT:PATH or cclib:PATH, with
        options of the reader as in ``dpdata:amber/md:BASE?nc_file=run.nc``; or an object:
        ``ase.Atoms``, a system or ``MultiSystems`` of dpdata, or an iterable of these.
    keys
        Names of the labels.
    number
        Of the source among several, to name one that has no path.
    units
        Units of the labels, where the reader does not know them.

    Yields
    ------
    Frame or Incomplete
        In the order of the source.

    Raises
    ------
    ValueError
        Naming source and frame, if something cannot be read.
    """
    from .readers.ase_files import of_atoms  # noqa: PLC0415  ASE takes its time
    from .readers.dpdata_files import of_dpdata  # noqa: PLC0415

    if isinstance(source, (str, os.PathLike)):
        yield from _read_path(os.fspath(source), keys, units)
    elif hasattr(source, "get_chemical_symbols"):
        yield of_atoms(source, f"frame {number} of the given ones", keys, units)
    elif hasattr(source, "systems"):  # dpdata.MultiSystems
        for name, system in source.systems.items():
            yield from of_dpdata(system.data, f"dpdata system {name}", keys, units)
    elif hasattr(source, "get_nframes"):
        yield from of_dpdata(source.data, f"dpdata system {source.formula}", keys, units)
    elif isinstance(source, Iterable):
        for k, item in enumerate(source):
            yield from read_frames(item, keys, k, units)
    else:
        raise ValueError(f"a {type(source).__name__} is no source of frames")


def _read_path(text: str, keys: Keys, units: Units) -> Iterator[Frame | Incomplete]:
    named = parse_source(text)
    where = f"source {text if named.options else named.path}"
    if named.library == "dpdata":
        from .readers.dpdata_files import read_dpdata  # noqa: PLC0415

        yield from read_dpdata(named.path, named.file_format, named.options, keys, units, where)
    elif named.library == "cclib":
        from .readers.cclib_files import read_cclib  # noqa: PLC0415

        yield from read_cclib(named.path, named.options, units, where)
    elif named.library == "ase":
        from .readers.ase_files import read_ase  # noqa: PLC0415

        file, index = split_index(named.path)
        yield from read_ase(file, index, named.file_format, named.options, keys, units, where)
    else:
        systems = systems_in(text)
        if systems == [text] and os.path.isfile(split_index(text)[0]):
            yield from _read_file(text, keys, units)
            return
        left_out: set[str] = set()
        for system in systems:
            yield from _read_system(system, keys, units, left_out)
        if left_out:
            message = (
                f"{where}: {', '.join(sorted(left_out))} left out; only coordinates, energies, "
                "forces, masks and preferences are read"
            )
            warnings.warn(message, stacklevel=2)


# ---- Files without a format's name ---------------------------------------------------------------

# Suffixes that many programs' outputs have, and that ASE takes for one program's.
_COMMON_SUFFIXES = (".out", ".log", ".dat", ".txt", ".output")
_HOW_TO_NAME = (
    "name the format, as in gaussian-out:PATH or, for those of dpdata, vasp/outcar:PATH or "
    "dpdata:dftbplus:PATH,PATH"
)


def _read_file(path: str, keys: Keys, units: Units) -> Iterator[Frame | Incomplete]:
    from .readers.ase_files import read_ase  # noqa: PLC0415  ASE takes its time
    from .readers.cclib_files import program_of, read_cclib  # noqa: PLC0415

    (file, index), where = split_index(path), f"source {path}"
    file_format, is_guess, reason = _format_of(file)
    if not is_guess:
        yield from read_ase(file, index, file_format, {}, keys, units, where)
    elif program_of(file) is not None:
        if index != slice(None):
            raise ValueError(f"{where}: cclib reads it, and takes no @INDEX; give the whole file")
        yield from read_cclib(file, {}, units, where)
    elif not file_format:
        raise ValueError(f"{where}: ASE does not know its format ({reason}); {_HOW_TO_NAME}")
    else:
        frames = read_ase(file, index, file_format, {}, keys, units, where)
        yield from _require_read(frames, where, f"{file_format} of ASE, which its name suggests")


def without_frame(source: Any) -> str:
    """Return what to say of a source in which its reader finds no frame."""
    nothing = "there is no frame in it"
    if not isinstance(source, (str, os.PathLike)):
        return nothing
    named = parse_source(os.fspath(source))
    library, file_format = named.library, named.file_format
    file, index = split_index(named.path)
    if library is None:
        if not os.path.isfile(file):  # a folder of systems
            return nothing
        library, file_format = "ase", _format_of(file)[0]
    chosen = "" if index == slice(None) else ", or none that @ chooses"
    how = f"{file_format} of {'ASE' if library == 'ase' else library}" if file_format else library
    return f"read as {how}, {nothing}{chosen}; if it is in another format, {_HOW_TO_NAME}"


def _format_of(file: str) -> tuple[str, bool, str]:
    """Return ASE's format of a file, whether only its name suggests it, and why there is none."""
    from ase.io.formats import (  # noqa: PLC0415
        PEEK_BYTES,
        UnknownFileTypeError,
        filetype,
        ioformats,
        match_magic,
        open_with_compression,
    )

    try:
        file_format = filetype(file)
        if file_format not in ioformats:  # a mere suffix
            raise UnknownFileTypeError(file_format)
    except (UnknownFileTypeError, UnicodeDecodeError, OSError) as error:
        return "", True, reason_of(error)
    if not file.lower().removesuffix(".gz").endswith(_COMMON_SUFFIXES):
        return file_format, False, ""
    try:
        with open_with_compression(file, "rb") as opened:
            known = match_magic(opened.read(PEEK_BYTES)).name == file_format
    except UnknownFileTypeError:
        known = False
    return file_format, not known, ""


def _require_read(
    frames: Iterator[Frame | Incomplete], where: str, how: str
) -> Iterator[Frame | Incomplete]:
    """Refuse a file that a reader makes nothing of: its format is probably another one."""
    first = next(frames, None)
    if first is None or (isinstance(first, Incomplete) and first.reason == UNREADABLE):
        what = "there is no frame in it" if first is None else first.message
        raise ValueError(f"{where}: read as {how}, {what}; {_HOW_TO_NAME}")
    yield first
    yield from frames


# ---- DeePMD-kit ----------------------------------------------------------------------------------


def _read_system(path: str, keys: Keys, units: Units, left_out: set[str]) -> Iterator[Frame]:
    """Read a system, and add to left_out what files of arrays are not read."""
    from ..scan import sound_frames  # noqa: PLC0415  which needs the kernels

    if not _has_types(path):
        raise ValueError(
            f"source {path}: no system (with a file type.raw) is in this folder or HDF5 group; if "
            "it is in another format, name it, as in vasp/outcar:PATH"
        )
    others = tuple(name for name in keys.arrays if name != "atom_pref")
    system = open_system(path, ("coord", "energy", "force"), others)
    if system.names is None:
        raise ValueError(f"source {path}: there is no type_map.raw, so its types have no names")
    left_out |= _others_of(system)
    names = np.array(system.names)
    in_ev, in_ev_per_angstrom = units.factors(f"source {path}")
    for chunk in system.chunks():
        for part in sound_frames(system, chunk, np.arange(len(names)), len(names)):
            arrays = dict(part.chunk.others)
            if keys.array == "atom_pref" and part.chunk.preference is not None:
                arrays["atom_pref"] = part.chunk.preference
            energy, force = part.chunk.energy, part.chunk.force
            assert energy is not None and force is not None, "open_system requires both"
            for f, number in enumerate(part.frames.tolist()):
                real = np.flatnonzero(part.chunk.mask[f])
                yield Frame(
                    f"source {path}, {chunk.set_name}, frame {number}",
                    names[part.chunk.types[f, real]],
                    part.chunk.coord[f, real],
                    float(energy[f]) * in_ev,
                    force[f, real] * in_ev_per_angstrom,
                    system.periodic,
                    {name: array[f, real] for name, array in arrays.items()},
                )


def _others_of(system: System) -> set[str]:
    """Return the names of files of arrays that are not read."""
    read = {"box.npy", *(f"{key}.npy" for part in system.sets for key in part.arrays)}
    return {path.name for part in system.sets for path in part.folder.glob("*.npy")} - read


def _has_types(path: str) -> bool:
    try:
        return (open_folder(path) / "type.raw").is_file()
    except OSError:  # no HDF5
        return False
