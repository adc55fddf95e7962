# SPDX-License-Identifier: LGPL-3.0-or-later
"""All the data of a training run, looked through before it begins."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..shared.options import auto_factor, has_term
from .findings import Finding, Level, Report, refuse, refuse_or_log
from .scan import Scan, Scanned, Wanted, scan_system
from .systems import System, systems_in


@dataclass(frozen=True)
class Summary:
    """What training needs to know of its data beforehand.

    Attributes
    ----------
    min_distance
        The shortest distance between two real atoms; infinite if no frame has two.
    max_count
        [ntypes] the largest number of real atoms of each type in any frame.
    """

    min_distance: float
    max_count: np.ndarray


def check_training_data(jdata: dict) -> list[int]:
    """Look through all data of a training run, and log warnings.

    Parameters
    ----------
    jdata
        The normalised input of ``dp train``.

    Returns
    -------
    list of int
        The descriptor's sel, which training data set if it is "auto".

    Raises
    ------
    ValueError
        Naming system, file, frame and atom, if anything is found that training cannot use.
    """
    wanted, systems = wanted_by(jdata), training_systems(jdata)
    require_systems(systems)
    scans = scan_training_data(wanted, systems, refuse_or_log())
    sel = jdata["model"]["descriptor"]["sel"]
    if isinstance(sel, str):
        return auto_sel(sel, summarise(scans[: len(systems["training_data"])]).max_count)
    return list(sel)


def wanted_by(jdata: dict) -> Wanted:
    """Return what the model and the loss of an input ask of the data.

    Parameters
    ----------
    jdata
        The normalised input of ``dp train``.
    """
    model = jdata["model"]
    loss = jdata.get("loss", {})

    has = partial(has_term, loss)
    needs_preference = has("pf") and not loss.get("use_default_pf")
    terms = {"energy": ["e"], "force": ["f", "pf"], "virial": ["v"], "atom_ener": ["ae"]}
    sel = model["descriptor"]["sel"]
    return Wanted(
        type_map=tuple(model.get("type_map") or ()) or None,
        sel=sel if isinstance(sel, str) else tuple(sel),
        required=("coord", "aparam", *(["atom_pref"] if needs_preference else [])),
        used=tuple(key for key, of in terms.items() if any(map(has, of))),
        with_default=("atom_pref",) if loss.get("use_default_pf") else (),
        by_input=True,
    )


def training_systems(jdata: dict, root: Path | None = None) -> dict[str, list[str]]:
    """Return the systems that an input names: of its training and of its validation data.

    Parameters
    ----------
    jdata
        The normalised input of ``dp train``.
    root
        Where its paths begin; None for the working directory.
    """
    systems = {}
    for section in ("training_data", "validation_data"):
        data = jdata["training"].get(section)
        if not data and section != "training_data":
            continue
        given, patterns = (data or {}).get("systems", []), (data or {}).get("rglob_patterns")
        given = [given] if isinstance(given, str) else given
        given = given if root is None else [root / path for path in given]
        systems[section] = [system for path in given for system in systems_in(path, patterns)]
    return systems


def require_systems(systems: Mapping[str, Sequence[str]]) -> None:
    """Refuse sections of an input that name no system.

    Raises
    ------
    ValueError
        Naming the section.
    """
    for section, paths in systems.items():
        if not paths:
            raise ValueError(f"there is no system; name one in training/{section}/systems")


def scan_training_data(
    wanted: Wanted,
    systems: dict[str, list[str]],
    report: Report = refuse,
    visit: Callable[[System, Scanned], None] | None = None,
) -> list[Scan]:
    """Look through systems, section by section; the first one sets an automatic sel.

    Parameters
    ----------
    wanted
        What the model asks of the data.
    systems
        Their paths, by section of the input.
    report
        Is told what is wrong.
    visit
        Is shown the frames that are in order.

    Returns
    -------
    list of Scan
        One for each system that could be read.
    """
    sel: Sequence[int] | str | None = wanted.sel
    all_scans: list[Scan] = []
    for paths in systems.values():
        found = [scan_system(path, wanted, report, visit) for path in paths]
        scans = [scan for scan in found if scan is not None]
        if isinstance(sel, str) and scans:
            sel = auto_sel(sel, summarise(scans).max_count)
        if sel is not None and not isinstance(sel, str):
            for scan in scans:
                _require_within_sel(scan, sel, wanted.type_map, report)
        all_scans += scans
    if wanted.type_map is None:
        _require_same_types(all_scans, "error" if wanted.by_input else "warning", report)
    return all_scans


def scan_systems(
    systems: Sequence[str],
    type_map: Sequence[str] | None,
    sel: Sequence[int] | None = None,
    needs_preference: bool = False,
) -> Summary:
    """Look through systems.

    Parameters
    ----------
    systems
        Their paths.
    type_map
        Of the model; None for the types' numbers as they are.
    sel
        Bound on the real atoms of each type; None for no bound.
    needs_preference
        Whether atom_pref.npy must be there.

    Returns
    -------
    Summary
        Of all systems together.

    Raises
    ------
    ValueError
        Naming system, file, frame and atom, if a system is not a masked one or exceeds sel; if
        there is none.
    """
    if not systems:
        raise ValueError("there is no system to look through")
    wanted = Wanted(
        tuple(type_map) if type_map else None,
        None if sel is None else tuple(sel),
        ("coord", "aparam", *(["atom_pref"] if needs_preference else [])),
    )
    return summarise(scan_training_data(wanted, {"training_data": list(systems)}))


def summarise(scans: Sequence[Scan]) -> Summary:
    """Put together what training needs to know."""
    ntypes = max(scan.counts.shape[1] for scan in scans)
    most = [scan.counts.max(axis=0, initial=0) for scan in scans]
    most = [np.pad(counts, (0, ntypes - len(counts))) for counts in most]
    return Summary(min(scan.min_distance for scan in scans), np.max(most, axis=0))


def auto_sel(sel: str, max_count: np.ndarray) -> list[int]:
    """Turn "auto" or "auto:f" into a list, by DeePMD-kit's rule for other descriptors.

    Parameters
    ----------
    sel
        "auto:f", or "auto" for "auto:1.1".
    max_count
        [ntypes] the largest number of real atoms of each type in any frame.

    Returns
    -------
    list of int
        The whole part of f * max_count, rounded up to a multiple of four.

    Raises
    ------
    ValueError
        If sel is something else.
    """
    factor = auto_factor(sel)
    return [4 * ((int(factor * count) + 3) // 4) for count in max_count]


def _require_same_types(scans: Sequence[Scan], level: Level, report: Report) -> None:
    """Require that a number means the same type everywhere; some may have more types."""
    systems = [scan.system for scan in scans]
    named = [(system, system.names) for system in systems if system.names is not None]
    for system, names in named[1:]:
        first, expected = named[0]
        if any(a != b for a, b in zip(expected, names, strict=False)):
            message = (
                f"has the types {','.join(names)}, but {first.path} has "
                f"{','.join(expected)}; set type_map in the model, with the names of both"
            )
            report(Finding(level, "type-map", system.path, message, "type_map.raw"))


def _require_within_sel(
    scan: Scan, sel: Sequence[int], type_map: Sequence[str] | None, report: Report
) -> None:
    bounds = np.zeros(scan.counts.shape[1], dtype=int)
    bounds[: len(sel)] = sel[: len(bounds)]
    for frame, t in np.argwhere(scan.counts > bounds).tolist():
        place = scan.places[frame]
        name = f"type {t}" + (f" ({type_map[t]})" if type_map else "")
        message = (
            f"{scan.counts[frame, t]} real atoms of {name}, but sel allows {bounds[t]}; "
            "raise sel or take atoms out of the frame"
        )
        report(scan.system.finding("error", "sel", message, f"{place[0]}/aparam.npy", place))
