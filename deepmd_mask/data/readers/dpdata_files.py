# SPDX-License-Identifier: LGPL-3.0-or-later
"""Files that dpdata reads, and its systems."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...reason import reason_of
from ..frame import UNREADABLE, Frame, Incomplete, Keys
from ..units import Units
from .extxyz import read_headers
from .header_units import factors_of, stated_units
from .naming import split_paths
from .outputs import Output

_EXTENDED_XYZ = (
    "extxyz", "quip/gap/xyz", "quip/gap/xyz_file", "gpumd/xyz", "nequip/xyz", "mace/xyz"
)  # fmt: skip


def read_dpdata(
    path: str, file_format: str, options: dict[str, Any], keys: Keys, units: Units, where: str
) -> Iterator[Frame | Incomplete]:
    """Read a file whole, as dpdata does.

    Parameters
    ----------
    path
        Of what the format is made of: a file, several with commas, a folder, a common begin of
        names, or nothing where options name the files.
    file_format
        A name of dpdata's.
    options
        Of the format's reader.
    keys, units
        Names and units of the labels.
    where
        What the user calls it, for messages.
    """
    if file_format in _EXTENDED_XYZ:
        _require_known_units(path, keys, units, where)
    elif not file_format.startswith(("deepmd", "lmdb")):
        units.require_none(where, f"dpdata's reader of {file_format}")
    paths = split_paths(path)
    outputs = [Output.of(each, file_format) for each in paths if os.path.isfile(each)]
    outputs = [output for output in outputs if output is not None]
    try:
        systems = _load(paths[0] if len(paths) == 1 else tuple(paths), file_format, options)
    except Exception as error:  # parsers raise whatever they meet
        message = f"dpdata cannot read it as {file_format} ({reason_of(error)})"
        if not outputs:
            raise ValueError(f"{where}: {message}") from error
        yield Incomplete(where, UNREADABLE, message)
        return
    first = 0
    for system in systems:
        for frame in of_dpdata(system.data, where, keys, units, first):
            for output in outputs:
                frame = output.judge(frame)  # noqa: PLW2901
            yield frame
        first += len(system)


def _load(path: str | tuple[str, ...], file_format: str, options: dict[str, Any]) -> list:
    import dpdata  # noqa: PLC0415
    from dpdata.format import Format  # noqa: PLC0415

    reader = Format.get_formats()[file_format]
    if reader.from_multi_systems is not Format.from_multi_systems:
        found = dpdata.MultiSystems.from_file(path, fmt=file_format, **options)
        systems = list(found.systems.values())
        # Of vasp/outcar only folders are several systems.
        if systems or reader.from_labeled_system is Format.from_labeled_system:
            return systems
    return [dpdata.LabeledSystem(path, fmt=file_format, **options)]


def _require_known_units(path: str, keys: Keys, units: Units, where: str) -> None:
    """Refuse units in headers that dpdata does not convert, or that the user gives, too."""
    converted = ("energy-unit", "energy_unit", "force-unit", "force_unit")
    headers = read_headers(path)
    number = -1
    while True:
        try:
            number, info = next(headers)
        except StopIteration:
            return
        except Exception as error:  # parsers raise whatever they meet
            message = f"its header cannot be read ({reason_of(error)})"
            raise ValueError(f"{where}, frame {number + 1}: {message}") from error
        place = f"{where}, frame {number}"
        factors_of(place, info, keys, units)  # complains of what is said of some only
        for entry in stated_units(place, info, keys).values():
            if entry.factor != 1.0 and entry.text.partition("=")[0] not in converted:
                raise ValueError(
                    f"{place}: it says {entry.text}, which dpdata does not convert; let ASE read "
                    "it, as in extxyz:PATH"
                )
            units.require_none(place, f"dpdata converts {entry.text} itself, so that its reader")


def of_dpdata(
    data: dict, where: str, keys: Keys, units: Units, first: int = 0
) -> Iterator[Frame | Incomplete]:
    """Yield the frames of a system's data; their numbers begin with the first one's."""
    for key in ("energies", "forces"):
        if key not in data and len(data["coords"]):
            message = f"it has no {key}; both energies and forces are needed"
            yield Incomplete(where, f"no {'energy' if key == 'energies' else key}", message)
            return
    names = np.array(data["atom_names"])[data["atom_types"]]
    arrays = {keys.array: data[keys.array]} if keys.array in data else {}
    in_ev, in_ev_per_angstrom = units.factors()
    for number, positions in enumerate(data["coords"]):
        yield Frame(
            f"{where}, frame {first + number}",
            names,
            positions,
            float(data["energies"][number]) * in_ev,
            data["forces"][number] * in_ev_per_angstrom,
            not data.get("nopbc", False),
            {name: array[number] for name, array in arrays.items()},
        )
