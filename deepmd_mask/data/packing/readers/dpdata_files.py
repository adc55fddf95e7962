# SPDX-License-Identifier: LGPL-3.0-or-later
"""Files that dpdata reads, and its systems."""

import itertools
import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from ....shared.reason import reason_of, until_error
from ...frame import UNREADABLE, Frame, Incomplete, Keys
from .extxyz import read_headers
from .header_units import factors_of, stated_units
from .naming import split_paths
from .outputs import CUT_OFF, UNCONVERGED, Output
from .programs import TOLD_BY_DPDATA, VASP_XML
from .units import Units

_EXTENDED_XYZ = (
    "extxyz", "quip/gap/xyz", "quip/gap/xyz_file", "gpumd/xyz", "nequip/xyz", "mace/xyz"
)  # fmt: skip
# What dpdata warns of when it leaves frames out: the numbers of these, from where they count, and
# the reason. Without a number it is not known which they are.
_DROPPED: tuple[tuple[re.Pattern[str], int, str], ...] = (
    (re.compile(r"structures were unconverged: \[(.*?)\]; so they are not"), 1, UNCONVERGED),
    (re.compile(r"Structure ([\d ]+)are unconverged and not collected"), 0, UNCONVERGED),
    (re.compile(r"incomplete labels in frame (\d+)"), 1, "incomplete labels"),
    (re.compile(r"no energy found in frame (\d+)"), 1, CUT_OFF),
    (re.compile(r"cannot find labels in the frame()"), 0, "incomplete labels"),
    (re.compile(r"can not find the first line of force()"), 0, "no forces"),
)
_KEPT = "SCF not converged!"  # dpdata warns so, and does not say of which frame


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
    outputs = [output for each in paths for output in Output.all_of(each, file_format)]
    if file_format in VASP_XML:  # dpdata leaves out without a word what has not converged
        options = {"convergence_check": False, **options}
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            systems = _load(paths[0] if len(paths) == 1 else tuple(paths), file_format, options)
    except Exception as error:  # parsers raise whatever they meet
        message = f"dpdata cannot read it as {file_format} ({reason_of(error)})"
        is_output = outputs or file_format in TOLD_BY_DPDATA
        if not is_output or isinstance(error, FileNotFoundError):
            raise ValueError(f"{where}: {message}") from error
        yield Incomplete(where, UNREADABLE, message)
        return
    dropped = _dropped(caught, where)
    yield from dropped.values()
    if any(str(warning.message) == _KEPT for warning in caught):
        message = "dpdata says that an SCF did not converge, and not which one"
        yield Incomplete(where, UNCONVERGED, message)
        return
    counted = itertools.count(int(options.get("begin", 0)), int(options.get("step", 1)))
    numbers = (number for number in counted if number not in dropped)
    for system in systems:
        for frame in of_dpdata(system.data, where, keys, units, numbers):
            for output in outputs:
                frame = output.judge(frame, sliced=False)  # noqa: PLW2901
            yield frame
    for output in outputs:
        yield from output.missing_end(where, sliced=False)


def _dropped(caught: list[warnings.WarningMessage], where: str) -> dict[int | str, Incomplete]:
    """Return the frames that dpdata left out, by number, and pass its other warnings on."""
    found: dict[int | str, Incomplete] = {}
    for warning in caught:
        text = str(warning.message)
        is_known = text == _KEPT
        for pattern, origin, reason in _DROPPED:
            match = pattern.search(text)
            if match is None:
                continue
            is_known = True
            numbers = [int(number) - origin for number in re.findall(r"\d+", match[1])]
            message = f"dpdata leaves it out ({text})"
            for number in numbers:
                found[number] = Incomplete(f"{where}, frame {number}", reason, message)
            if not numbers:
                message = f"dpdata leaves a frame out ({text})"
                found[f"unknown {len(found)}"] = Incomplete(where, reason, message)
        if not is_known:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return found


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
    number = -1
    for item in until_error(read_headers(path)):
        if isinstance(item, Exception):
            message = f"its header cannot be read ({reason_of(item)})"
            raise ValueError(f"{where}, frame {number + 1}: {message}") from item
        number, info = item
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
    data: dict, where: str, keys: Keys, units: Units, numbers: Iterator[int] | None = None
) -> Iterator[Frame | Incomplete]:
    """Yield the frames of a system's data; their numbers in the source are from 0 if not given."""
    numbers = itertools.count() if numbers is None else numbers
    for key in ("energies", "forces"):
        if key not in data and len(data["coords"]):
            message = f"it has no {key}; both energies and forces are needed"
            yield Incomplete(where, f"no {'energy' if key == 'energies' else key}", message)
            return
    names = np.array(data["atom_names"])[data["atom_types"]]
    arrays = {name: data[name] for name in keys.arrays if name in data}
    in_ev, in_ev_per_angstrom = units.factors(where)
    for number, positions in enumerate(data["coords"]):
        yield Frame(
            f"{where}, frame {next(numbers)}",
            names,
            positions,
            float(data["energies"][number]) * in_ev,
            data["forces"][number] * in_ev_per_angstrom,
            not data.get("nopbc", False),
            {name: array[number] for name, array in arrays.items()},
        )
