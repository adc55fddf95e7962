# SPDX-License-Identifier: LGPL-3.0-or-later
"""Files that ASE reads, and its atoms."""

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ....shared.reason import reason_of, until_error
from ...frame import UNREADABLE, Frame, Incomplete, Keys
from .extxyz import CutOffError, read_extxyz
from .header_units import factors_of
from .outputs import CUT_OFF, Output
from .units import Units

if TYPE_CHECKING:
    import ase

# Formats whose numbers ASE takes as they are. The others' readers know the unit and convert.
_UNITS_OF_THE_USER = (
    "extxyz", "xyz", "traj", "json", "db", "mysql", "postgresql", "bundletrajectory",
    "netcdftrajectory", "lammps-dump-text", "lammps-dump-binary",
)  # fmt: skip


def read_ase(
    file: str,
    index: int | slice,
    file_format: str,
    options: dict[str, Any],
    keys: Keys,
    units: Units,
    where: str,
) -> Iterator[Frame | Incomplete]:
    """Read a file.

    Parameters
    ----------
    file, index
        Path, and which frames.
    file_format
        A name of ASE's.
    options
        Of the format's reader.
    keys, units
        Names and units of the labels.
    where
        What the user calls the file, for messages.
    """
    if file_format not in _UNITS_OF_THE_USER:
        units.require_none(where, f"ASE's reader of {file_format}")
    output = Output.of(file, file_format)
    sliced = _has_frames(file_format)
    start, step = _start_and_step(index)
    last = start - step
    for item in until_error(_images(file, index, file_format, options)):
        if isinstance(item, Exception):
            number, is_first = last + step, last == start - step
            place = f"{where}, frame {number}"
            message = f"ASE cannot read it as {file_format} ({reason_of(item)})"
            if output is None and not _may_be_cut_off(file_format, options, is_first, item):
                raise ValueError(f"{place}: {message}; mend the file or take the frame out") from (
                    item
                )
            reason = UNREADABLE
            if not is_first:
                reason = f"the file from frame {number} on"
                message += ", and so none behind it"
            yield Incomplete(place, reason, message, sliced)
            return
        last, atoms = item
        place = f"{where}, frame {last}"
        if isinstance(atoms, CutOffError):
            message = f"ASE cannot read it as {file_format} ({atoms})"
            yield Incomplete(place, CUT_OFF, message, sliced=True)
            continue
        frame = of_atoms(atoms, place, keys, units, sliced)
        yield frame if output is None else output.judge(frame, sliced)
    if output is not None and isinstance(index, slice) and index.stop is None:
        yield from output.missing_end(where, sliced)


def _has_frames(file_format: str) -> bool:
    """Return whether ASE reads several frames of a format, which ``@`` then chooses from."""
    from ase.io.formats import ioformats  # noqa: PLC0415  ASE takes its time

    return not ioformats[file_format].single


def _may_be_cut_off(
    file_format: str, options: dict[str, Any], is_first: bool, error: Exception
) -> bool:
    """Return whether a file that ends too early may be why it cannot be read.

    Of extended XYZ that is known, and what is left is malformed. Of others it is not if the
    options or the file's name are wrong.
    """
    if not _has_frames(file_format) or (file_format == "extxyz" and not options):
        return False
    return not is_first or not (options or isinstance(error, (FileNotFoundError, PermissionError)))


def _start_and_step(index: int | slice) -> tuple[int, int]:
    """Return the first frame wanted, and how far the next one is; 0 and 1 if not known."""
    if isinstance(index, int) and index >= 0:
        return index, 1
    if isinstance(index, slice) and (index.start or 0) >= 0 and (index.step or 1) > 0:
        return index.start or 0, index.step or 1
    return 0, 1


def _images(
    file: str, index: int | slice, file_format: str, options: dict[str, Any]
) -> "Iterator[tuple[int, ase.Atoms | CutOffError]]":
    """Yield the images and their numbers in the file, or within the slice if that is not known."""
    import ase.io  # noqa: PLC0415  which takes its time

    if file_format == "extxyz" and not options:
        yield from read_extxyz(file, index)
        return
    images = ase.io.iread(file, index, format=file_format, do_not_split_by_at_sign=True, **options)
    numbers = itertools.count(*_start_and_step(index))
    # zip() would take a number too many.
    for atoms in images:
        yield next(numbers), atoms


def of_atoms(
    atoms: "ase.Atoms", place: str, keys: Keys, units: Units, sliced: bool = False
) -> Frame | Incomplete:
    """Return the frame that an image of ASE is."""
    # Not get_forces(): that sets the forces of constrained atoms to zero.
    results = dict(atoms.calc.results) if atoms.calc is not None else {}
    if "free_energy" in results:
        results.setdefault("energy", results["free_energy"])
    energy = results.get(keys.energy, atoms.info.get(keys.energy))
    if energy is None and keys.energy != "energy":
        energy = _sum(atoms.arrays.get(keys.energy))
    forces = results.get(keys.forces, atoms.arrays.get(keys.forces))
    if energy is None or np.ndim(energy) > 0 or isinstance(energy, str):
        message = _missing("energy", keys.energy, {**atoms.info, **results})
        return Incomplete(place, "no energy", message, sliced)
    if forces is None or np.shape(forces) != (len(atoms), 3):
        message = _missing("forces", keys.forces, {**atoms.arrays, **results})
        return Incomplete(place, "no forces", message, sliced)
    found = {name: results.get(name, atoms.arrays.get(name)) for name in keys.arrays}
    arrays = {name: array for name, array in found.items() if array is not None}
    for atom in np.flatnonzero(atoms.numbers == 0)[:1].tolist():
        raise ValueError(
            f"{place}, atom {atom}: X, with atomic number 0, is no element; take this atom out of "
            "the source, or name its element"
        )
    in_ev, in_ev_per_angstrom, in_angstrom = factors_of(place, atoms.info, keys, units)
    return Frame(
        place,
        np.array(atoms.get_chemical_symbols(), dtype=str),
        atoms.positions * in_angstrom,
        float(energy) * in_ev,
        np.asarray(forces, dtype=np.float64) * in_ev_per_angstrom,
        bool(atoms.pbc.any()),
        arrays,
    )


def _sum(energies: np.ndarray | None) -> float | None:
    """Return the sum of the atoms' energies, as LAMMPS dumps have them."""
    if energies is None or energies.dtype.kind not in "fiu" or energies.size != len(energies):
        return None
    return float(energies.sum())


def _missing(label: str, key: str, there: dict) -> str:
    others = sorted(name for name in there if name not in ("numbers", "positions", key))
    found = f"; it has {', '.join(others)}" if others else ""
    return f"there is no {label} under the name {key}{found}; name another with `{label}_key`"
