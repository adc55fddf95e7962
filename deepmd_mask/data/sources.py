# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frames from whatever quantum-chemistry output there is, one after the other.

ASE, dpdata and this package's own reader of DeePMD-kit's systems do the reading.
"""

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from glob import escape, glob
from io import StringIO
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from deepmd.utils.path import DPPath

from ..reason import reason_of
from .systems import open_system, systems_in

if TYPE_CHECKING:
    import ase


@dataclass(frozen=True)
class Frame:
    """One configuration with its labels.

    Attributes
    ----------
    place
        Source and number of the frame within it, for messages.
    names
        [natoms] elements or names of types, as the source spells them.
    positions
        [natoms, 3] in Å.
    energy
        In the source's unit.
    forces
        [natoms, 3] in the source's unit.
    periodic
        Whether the source has periodic boundaries.
    arrays
        Per-atom arrays that were asked for and that the source has.
    """

    place: str
    names: np.ndarray
    positions: np.ndarray
    energy: float
    forces: np.ndarray
    periodic: bool
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True)
class Keys:
    """Under which names sources keep what is wanted of them.

    Attributes
    ----------
    energy, forces
        In files that ASE reads. "energy" and "forces" stand for ASE's own results.
    array
        A further per-atom array; None for none.
    """

    energy: str = "energy"
    forces: str = "forces"
    array: str | None = None


def read_frames(source: Any, keys: Keys = Keys(), number: int = 0) -> Iterator[Frame]:
    """Read a source.

    Parameters
    ----------
    source
        A file that ASE reads, or FILE@INDEX for some of its frames; a system of DeePMD-kit (plain,
        masked or mixed; a folder, or a group FILE#/GROUP in HDF5) or a folder or group of such;
        FORMAT:PATH with a format's name of ASE or dpdata, as in
        ``vasp/outcar:run1/OUTCAR``; or an object: ``ase.Atoms``, a system or ``MultiSystems`` of
        dpdata, or an iterable of these.
    keys
        Names of the labels.
    number
        Of the source among several, to name one that has no path.

    Yields
    ------
    Frame
        In the order of the source.

    Raises
    ------
    ValueError
        Naming source and frame, if something cannot be read or lacks a label.
    """
    if isinstance(source, (str, os.PathLike)):
        yield from _read_path(os.fspath(source), keys)
    elif hasattr(source, "get_chemical_symbols"):
        yield _of_atoms(source, f"frame {number} of the given ones", keys)
    elif hasattr(source, "systems"):  # dpdata.MultiSystems
        for name, system in source.systems.items():
            yield from _of_dpdata(system.data, f"dpdata system {name}", keys)
    elif hasattr(source, "get_nframes"):
        yield from _of_dpdata(source.data, f"dpdata system {source.formula}", keys)
    elif isinstance(source, Iterable):
        for k, item in enumerate(source):
            yield from read_frames(item, keys, k)
    else:
        raise ValueError(f"a {type(source).__name__} is no source of frames")


def _read_path(path: str, keys: Keys) -> Iterator[Frame]:
    file_format, path = _split_format(path)
    if file_format and "/" in file_format:
        yield from _read_dpdata(path, file_format, keys)
        return
    systems = [] if file_format else systems_in(path)
    if file_format or (systems == [path] and os.path.isfile(_split_index(path)[0])):
        yield from _read_ase(path, file_format, keys)
        return
    for system in systems:
        yield from _read_system(system, keys)


def _split_format(path: str) -> tuple[str | None, str]:
    """Split FORMAT:PATH; a path that exists is a path.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if _is_path(path):
        return None, path
    file_format, colon, rest = path.partition(":")
    if not colon or not file_format:
        raise ValueError(f"source {path}: not found; check the path")
    if "/" in file_format:
        from dpdata.format import Format  # noqa: PLC0415

        whose, known = (
            "dpdata, with a slash",
            [name for name in Format.get_formats() if "/" in name],
        )
    else:
        from ase.io.formats import ioformats  # noqa: PLC0415

        whose, known = "ASE, without a slash", [n for n, f in ioformats.items() if f.can_read]
    if file_format not in known:
        raise ValueError(
            f"source {path}: not found; if {file_format} is meant as a format, it is none of "
            f"{whose}: {', '.join(sorted(known))}"
        )
    # Of dpdata's formats some take the common begin of the names of several files.
    if not rest or not (_is_path(rest) or glob(f"{escape(rest)}*")):
        raise ValueError(f'source {path}: there is no file "{rest}"; check the path')
    return file_format, rest


def _is_path(path: str) -> bool:
    """Tell whether a path, or the file of FILE#/GROUP or FILE@INDEX, exists."""
    files = path.partition("#")[0], _split_index(path)[0]
    return os.path.exists(path) or any(map(os.path.isfile, files))


def _split_index(path: str) -> tuple[str, int | slice]:
    """Split FILE@INDEX, with ASE's indices as in "@-1" and "@::10"; a path that exists is a path.

    Raises
    ------
    ValueError
        If the file exists, and the index is none.
    """
    if "@" not in path or os.path.exists(path):
        return path, slice(None)
    from ase.io.formats import parse_filename  # noqa: PLC0415

    file, index = parse_filename(path)
    if not os.path.isfile(file):
        return path, slice(None)
    if not isinstance(index, (int, slice)):
        raise ValueError(f'source {path}: "{index}" is no index; write @-1 or @::10, for example')
    return file, index


# ---- DeePMD-kit ----------------------------------------------------------------------------------


def _read_system(path: str, keys: Keys) -> Iterator[Frame]:
    from .scan import sound_frames  # noqa: PLC0415  which needs the kernels

    if not _has_types(path):
        raise ValueError(
            f"source {path}: no system (with a file type.raw) is in this folder or HDF5 group; if "
            "it is in another format, name it, as in vasp/outcar:PATH"
        )
    others = () if keys.array in (None, "atom_pref") else (keys.array,)
    system = open_system(path, ("coord", "energy", "force"), others)
    if system.names is None:
        raise ValueError(f"source {path}: there is no type_map.raw, so its types have no names")
    names = np.array(system.names)
    for chunk in system.chunks():
        for part in sound_frames(system, chunk, np.arange(len(names)), len(names)):
            arrays = dict(part.chunk.others)
            if keys.array == "atom_pref" and part.chunk.preference is not None:
                arrays["atom_pref"] = part.chunk.preference
            for f, number in enumerate(part.frames.tolist()):
                real = np.flatnonzero(part.chunk.mask[f])
                yield Frame(
                    f"source {path}, {chunk.set_name}, frame {number}",
                    names[part.chunk.types[f, real]],
                    part.chunk.coord[f, real],
                    float(part.chunk.energy[f]),
                    part.chunk.force[f, real],
                    system.periodic,
                    {name: array[f, real] for name, array in arrays.items()},
                )


def _has_types(path: str) -> bool:
    try:
        return (DPPath(path) / "type.raw").is_file()
    except OSError:  # no HDF5
        return False


# ---- dpdata --------------------------------------------------------------------------------------


def _read_dpdata(path: str, file_format: str, keys: Keys) -> Iterator[Frame]:
    """Read a file whole, as dpdata does."""
    import dpdata  # noqa: PLC0415
    from dpdata.format import Format  # noqa: PLC0415

    many = Format.get_formats()[file_format].from_multi_systems is not Format.from_multi_systems
    try:
        if many:
            source = dpdata.MultiSystems.from_file(path, fmt=file_format)
            systems = list(source.systems.values())
        else:
            systems = [dpdata.LabeledSystem(path, fmt=file_format)]
    except Exception as error:  # parsers raise whatever they meet
        raise ValueError(
            f"source {path}: dpdata cannot read it as {file_format} ({reason_of(error)})"
        ) from error
    first = 0
    for system in systems:
        yield from _of_dpdata(system.data, f"source {path}", keys, first)
        first += len(system)


def _of_dpdata(data: dict, where: str, keys: Keys, first: int = 0) -> Iterator[Frame]:
    """Yield the frames of a system's data; their numbers begin with the first one's."""
    for key in ("energies", "forces"):
        if key not in data and len(data["coords"]):
            raise ValueError(f"{where}: it has no {key}; both energies and forces are needed")
    names = np.array(data["atom_names"])[data["atom_types"]]
    arrays = {keys.array: data[keys.array]} if keys.array in data else {}
    for number, positions in enumerate(data["coords"]):
        yield Frame(
            f"{where}, frame {first + number}",
            names,
            positions,
            float(data["energies"][number]),
            data["forces"][number],
            not data.get("nopbc", False),
            {name: array[number] for name, array in arrays.items()},
        )


# ---- ASE -----------------------------------------------------------------------------------------


def _read_ase(path: str, file_format: str | None, keys: Keys) -> Iterator[Frame]:
    import ase.io  # noqa: PLC0415
    from ase.io.formats import UnknownFileTypeError, filetype, ioformats  # noqa: PLC0415

    file, index = _split_index(path)
    try:
        file_format = file_format or filetype(file)
        if file_format not in ioformats:  # a mere suffix
            raise UnknownFileTypeError(file_format)
    except (UnknownFileTypeError, UnicodeDecodeError, OSError) as error:
        raise ValueError(
            f"source {path}: ASE does not know its format ({reason_of(error)}); name it, as in "
            "gaussian-out:PATH or, for formats of dpdata, vasp/outcar:PATH"
        ) from error
    if file_format == "extxyz" and index == slice(None):
        images = _read_extxyz(file)
    else:
        images = ase.io.iread(file, index, format=file_format, do_not_split_by_at_sign=True)
    for number in itertools.count():
        try:
            atoms = next(images)
        except StopIteration:
            return
        except Exception as error:  # parsers raise whatever they meet
            raise ValueError(
                f"source {path}, frame {number}: ASE cannot read it as {file_format} "
                f"({reason_of(error)}); mend the file or take the frame out"
            ) from error
        yield _of_atoms(atoms, f"source {path}, frame {number}", keys)


def _read_extxyz(path: str) -> "Iterator[ase.Atoms]":
    """Read extended XYZ in one pass.

    ASE makes an index of the whole file first, and takes a blank line for the end of the file.
    """
    from ase.io.extxyz import read_extxyz  # noqa: PLC0415
    from ase.io.formats import open_with_compression  # noqa: PLC0415

    with open_with_compression(path) as file:
        for frame in _split_extxyz(file):
            yield from read_extxyz(StringIO(frame), slice(None))


def _split_extxyz(file: TextIO) -> Iterator[str]:
    for head in file:
        if not head.strip():
            continue
        if not head.strip().isdigit():
            raise ValueError(f"expected a number of atoms, found {head.strip()[:40]!r}")
        natoms = int(head)
        lines = list(itertools.islice(file, natoms + 1))
        if len(lines) != natoms + 1 or not all(map(str.strip, lines[1:])):
            have = sum(1 for line in lines[1:] if line.strip())
            raise ValueError(f"it should have {natoms} atoms and has {have}")
        yield "".join((head, *lines))


def _of_atoms(atoms: "ase.Atoms", place: str, keys: Keys) -> Frame:
    # Not get_forces(): that sets the forces of constrained atoms to zero.
    results = dict(atoms.calc.results) if atoms.calc is not None else {}
    if "free_energy" in results:
        results.setdefault("energy", results["free_energy"])
    energy = results.get(keys.energy, atoms.info.get(keys.energy))
    forces = results.get(keys.forces, atoms.arrays.get(keys.forces))
    if energy is None or np.ndim(energy) > 0 or isinstance(energy, str):
        raise ValueError(_missing(place, "energy", keys.energy, {**atoms.info, **results}))
    if forces is None or np.shape(forces) != (len(atoms), 3):
        raise ValueError(_missing(place, "forces", keys.forces, {**atoms.arrays, **results}))
    array = results.get(keys.array, atoms.arrays.get(keys.array))
    for atom in np.flatnonzero(atoms.numbers == 0)[:1].tolist():
        raise ValueError(
            f"{place}, atom {atom}: X, with atomic number 0, is no element; take this atom out of "
            "the source, or name its element"
        )
    return Frame(
        place,
        np.array(atoms.get_chemical_symbols(), dtype=str),
        atoms.positions,
        float(energy),
        np.asarray(forces, dtype=np.float64),
        bool(atoms.pbc.any()),
        {} if array is None else {keys.array: array},
    )


def _missing(place: str, label: str, key: str, there: dict) -> str:
    others = sorted(name for name in there if name not in ("numbers", "positions", key))
    found = f"; it has {', '.join(others)}" if others else ""
    return (
        f"{place}: there is no {label} under the name {key}{found}; name another with `{label}_key`"
    )
