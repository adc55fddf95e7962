# SPDX-License-Identifier: LGPL-3.0-or-later
"""The rules of a masked system, for ``dp train`` beforehand and for ``dp-mask check``.

docs/data.md lists them. An error is what training cannot use; a warning is what it can use and
what is probably not meant.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import overload

import numpy as np

from .._kernels import AtomError, AtomFault, RealAtoms, reason_against_box
from .findings import Finding, Report, refuse
from .folders import is_there
from .labels import check_labels
from .systems import Chunk, System, open_system


@dataclass(frozen=True)
class Wanted:
    """What a model and its loss ask of their data.

    Attributes
    ----------
    type_map
        Of the model; None for the systems' own types as they are.
    sel
        Bound on the real atoms of each type; "auto" or "auto:f" for one that the training data
        set; None for no bound.
    required
        Keys of arrays without which training stops.
    used
        Keys of arrays without which a part of the loss is left out.
    with_default
        Keys of arrays whose numbers are 1 where they are missing.
    by_input
        Whether an input says so. If not, the model may still have any type map.
    to_evaluate
        Whether for evaluation only, in which the environment can have boxes ignored.
    """

    type_map: tuple[str, ...] | None = None
    sel: tuple[int, ...] | str | None = None
    required: tuple[str, ...] = ("coord", "aparam")
    used: tuple[str, ...] = ("energy", "force", "atom_pref")
    with_default: tuple[str, ...] = ()
    by_input: bool = False
    to_evaluate: bool = False


@dataclass(frozen=True)
class Scanned:
    """A chunk whose real atoms are in order, frames that are not left out.

    Attributes
    ----------
    chunk
        As read.
    frames
        [n] number within its set of each frame.
    counts
        [n, ntypes] real atoms of each type, as the model numbers them.
    min_distance
        The shortest distance between two real atoms; infinite if no frame has two.
    """

    chunk: Chunk
    frames: np.ndarray
    counts: np.ndarray
    min_distance: float


@dataclass(frozen=True)
class Scan:
    """What is left of a system when its frames have been looked through.

    Attributes
    ----------
    system
        The system.
    min_distance
        The shortest distance between two real atoms; infinite if no frame has two.
    counts
        [nframes, ntypes] real atoms of each type, as the model numbers them.
    places
        Set and number within it of each frame.
    """

    system: System
    min_distance: float
    counts: np.ndarray
    places: list[tuple[str, int]]


@overload
def scan_system(path: str, wanted: Wanted) -> Scan: ...


@overload
def scan_system(
    path: str,
    wanted: Wanted,
    report: Report,
    visit: Callable[[System, Scanned], None] | None = ...,
) -> Scan | None: ...


def scan_system(
    path: str,
    wanted: Wanted,
    report: Report = refuse,
    visit: Callable[[System, Scanned], None] | None = None,
) -> Scan | None:
    """Look through one system, but for sel.

    Parameters
    ----------
    path
        Of the system.
    wanted
        What the model asks of it.
    report
        Is told what is wrong.
    visit
        Is shown the frames that are in order.

    Returns
    -------
    Scan
        None if the system cannot be read.
    """
    system = open_system(path, wanted.required, report=report)
    if system is None:
        return None
    _check_labels_there(system, wanted, report)
    _check_order(system, report)
    if system.periodic:
        _check_box(system, wanted, report)
    numbers = _numbers_in_model(system, wanted.type_map, report)
    if numbers is None:
        return None
    ntypes = len(wanted.type_map or numbers)
    shortest, counts, places = np.inf, [], []
    for chunk in system.chunks():
        for scanned in sound_frames(system, chunk, numbers, ntypes, report):
            check_labels(system, scanned.chunk, report)
            shortest = min(shortest, scanned.min_distance)
            counts.append(scanned.counts)
            places += [(chunk.set_name, frame) for frame in scanned.frames.tolist()]
            if visit:
                visit(system, scanned)
    if not counts:
        counts = [np.zeros((0, ntypes), dtype=int)]
    return Scan(system, shortest, np.concatenate(counts), places)


def _check_box(system: System, wanted: Wanted, report: Report) -> None:
    """Report a box, unless it is to be ignored."""
    message = (
        "is missing, so the system is periodic. se_a_mask knows no periodic images; cut out "
        "the region with whole molecules and add an empty file nopbc"
    )
    if wanted.to_evaluate:
        reason = reason_against_box()
        if not reason:
            return
        message = f"is missing; {reason}"
    report(Finding("error", "periodic", system.path, message, "nopbc"))


def _numbers_in_model(
    system: System, type_map: tuple[str, ...] | None, report: Report
) -> np.ndarray | None:
    """Return the number in the model of each type of the system."""
    if system.names is None:
        message = "is missing; types are taken as the model's own numbers, whatever they mean there"
        report(Finding("warning", "type-map", system.path, message, "type_map.raw"))
        return np.arange(len(type_map) if type_map else int(system.types.max()) + 1)
    if type_map is None:
        return np.arange(len(system.names))
    for name in system.names:
        if name not in type_map:
            message = f"{name} is not in the model's type_map {list(type_map)}; " + (
                "mind capital letters" if name.upper() in map(str.upper, type_map) else
                "add it there, and to sel"
            )  # fmt: skip
            report(Finding("error", "type-map", system.path, message, "type_map.raw"))
            return None
    return np.array([type_map.index(name) for name in system.names])


def sound_frames(
    system: System, chunk: Chunk, numbers: np.ndarray, ntypes: int, report: Report = refuse
) -> Iterator[Scanned]:
    """Yield those frames whose mask, types and coordinates the kernels take.

    Parameters
    ----------
    system
        The system.
    chunk
        Frames of it.
    numbers
        Number in the model of each type of the system.
    ntypes
        Number of types of the model.
    report
        Is told what is wrong with the other frames.

    Raises
    ------
    ValueError
        Naming system, set, frame and atom, if something is wrong and report is the default.
    """
    # -1 and what is outside stay as they are: the kernel complains, if need be.
    outside = (chunk.types < 0) | (chunk.types >= len(numbers))
    types = np.where(outside, chunk.types, numbers[np.where(outside, 0, chunk.types)])
    types = types.astype(np.int32)

    def scanned(part: Chunk, atoms: RealAtoms) -> Scanned:
        counts = np.diff(atoms.first).reshape(ntypes, len(part)).T
        frames = np.arange(part.first, part.first + len(part))
        return Scanned(part, frames, counts, atoms.min_distance)

    try:
        yield scanned(chunk, RealAtoms(chunk.coord, types, chunk.mask, ntypes))
        return
    except AtomError:
        pass  # one frame after the other tells which
    for frame in range(len(chunk)):
        part = chunk.take(slice(frame, frame + 1))
        try:
            atoms = RealAtoms(part.coord, types[frame : frame + 1], part.mask, ntypes)
        except AtomError as error:
            report(_of_kernel(system, part, error.fault))
        else:
            yield scanned(part, atoms)


# Which rule a fault of an atom is against, and whose array is wrong.
_RULES = {
    "mask": ("mask", "aparam"),
    "type": ("types", "real_atom_types"),
    "coordinate": ("coord", "coord"),
    "coincident": ("coincident", "coord"),
}


def _of_kernel(system: System, part: Chunk, fault: AtomFault) -> Finding:
    """Make a finding of what the kernel says of a single frame."""
    code, key = _RULES[fault.code]
    in_set = key in system.set_named(part.set_name).arrays
    file = f"{part.set_name}/{key}.npy" if in_set else "type.raw"
    place = part.set_name, part.first
    return system.finding("error", code, fault.text, file, place, fault.atom)


# ---- What training can do without ----------------------------------------------------------------


def _check_order(system: System, report: Report) -> None:
    for atom in (np.flatnonzero(np.diff(system.types) < 0)[:1] + 1).tolist():
        message = (
            f"type {system.types[atom]} comes after type {system.types[atom - 1]}; by convention "
            "the slots are sorted by type, and programs that cut them into types rely on it"
        )
        report(Finding("warning", "type-order", system.path, message, "type.raw", atom=atom))


# What DeePMD-kit asks the first set alone for: ``dp test`` and the fit of the bias take zeros for
# labels that others lack, and leave out labels that only others have.
_LABELS = ("energy", "force", "virial", "atom_ener", "atom_pref")


def _check_labels_there(system: System, wanted: Wanted, report: Report) -> None:
    for key in dict.fromkeys((*wanted.used, *_LABELS)):
        with_it = [part.name for part in system.sets if is_there(part.folder / f"{key}.npy")]
        for part in system.sets:
            if part.name in with_it:
                continue
            file = f"{part.name}/{key}.npy"
            if with_it and key in wanted.with_default:
                message = f"is missing, and {with_it[0]} has it; here its numbers are 1"
                report(Finding("warning", "missing-file", system.path, message, file))
            elif with_it and not wanted.to_evaluate:
                message = (
                    f"is missing, and {with_it[0]} has it; DeePMD-kit asks the first set alone. "
                    "Write it, or put the frames of this set into a system of their own"
                )
                report(Finding("error", "missing-file", system.path, message, file))
            elif key in wanted.used:
                message = "is missing; without it a loss on it is left out for these frames"
                report(Finding("warning", "missing-file", system.path, message, file))
