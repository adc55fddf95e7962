# SPDX-License-Identifier: LGPL-3.0-or-later
"""Finds in masked systems, and in an input, what will go wrong in training."""

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from tqdm import tqdm

from ...shared.paths import AnyPath, Paths, listed
from ..findings import Finding, Report
from ..scan import Scan, Scanned, Wanted
from ..systems import System, systems_in
from ..training import scan_training_data
from .input_file import check_input
from .statistics import Statistics, Sums, as_text
from .suspicions import (
    Repeats,
    check_balance,
    check_compositions,
    check_distances,
    check_energies,
)
from .units import Hydrogens, Slopes, check_digits

Look = Callable[[System, Scanned, Report], None]


@dataclass(frozen=True)
class Checked:
    """What a check has found.

    Attributes
    ----------
    findings
        In the order in which systems and frames come.
    systems
        Numbers of each system that could be read.
    """

    findings: list[Finding]
    systems: list[Statistics]

    @property
    def errors(self) -> int:
        """Return the number of findings with which training cannot go on."""
        return sum(finding.level == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """Return the number of the other findings."""
        return len(self.findings) - self.errors

    def as_json(self) -> str:
        """Return everything as JSON."""
        everything = {
            "errors": self.errors,
            "warnings": self.warnings,
            "findings": [asdict(finding) for finding in self.findings],
            "systems": [asdict(numbers) for numbers in self.systems],
        }
        return json.dumps(everything, indent=2, allow_nan=False)

    def as_text(self, most: int | None = None) -> str:
        """Return everything as text, with at most so many findings of a kind in each system."""
        lines = [as_text(numbers) for numbers in self.systems]
        told: Counter[tuple[str, str, str]] = Counter()
        for finding in self.findings:
            kind = finding.level, finding.code, finding.system
            told[kind] += 1
            if most is None or told[kind] <= most:
                lines.append(finding.in_full())
        for (level, code, system), count in told.items():
            if most is not None and count > most:
                lines.append(f"{level} [{code}] system {system}: {count - most} more of this kind")
        lines.append(f"{self.errors} errors, {self.warnings} warnings")
        return "\n".join(lines)


def check(
    systems: Paths = (),
    input_file: AnyPath | None = None,
    *,
    external_field: bool = False,
    progress: bool = False,
) -> Checked:
    """Look for everything that will go wrong in training.

    The errors are what ``dp train`` refuses, by the same rules; docs/data.md lists all findings.

    Parameters
    ----------
    systems
        Path of a masked system or of several; each may be a folder of systems.
    input_file
        An input of ``dp train``. Its options are checked, too, by DeePMD-kit's rules as well if it
        is installed, and its systems as well as those given; its model says which types there are
        and how many atoms of each may be real. Paths in it are relative to the working directory,
        as for ``dp train``.
    external_field
        Do not warn of net forces and torques, as a field, embedding charges or other atoms act.
    progress
        Show a progress bar if the standard error is a terminal.

    Returns
    -------
    Checked
        Findings and numbers.

    Raises
    ------
    ValueError
        If there is neither a system nor an input.
    """
    given = listed(systems)
    if not given and input_file is None:
        raise ValueError("there is nothing to check; name a system or an input")
    findings: list[Finding] = []
    wanted = Wanted()
    sections: dict[str, list[str]] = {}
    if input_file is not None:
        wanted, sections = check_input(os.fspath(input_file), findings.append)
    known = _once(sections, findings.append)
    more = [path for each in given for path in systems_in(each) if path not in known]
    if more:
        sections["systems"] = list(dict.fromkeys(more))
    looks: list[Look] = [] if external_field else [check_balance]
    return Checked(findings, _check_systems(wanted, sections, looks, findings.append, progress))


def _once(sections: dict[str, list[str]], report: Report) -> set[str]:
    """Leave each system of an input where it comes first; return all of them."""
    first: dict[str, str] = {}
    for section, paths in list(sections.items()):
        sections[section] = []
        for path in paths:
            if path in first:
                message = f"is in {section} and was in {first[path]} before; take it out of one"
                report(Finding("warning", "repeated", path, message))
            else:
                first[path] = section
                sections[section].append(path)
        if not sections[section]:
            del sections[section]
    return set(first)


def _check_systems(
    wanted: Wanted,
    sections: dict[str, list[str]],
    looks: list[Look],
    report: Report,
    progress: bool,
) -> list[Statistics]:
    repeats, hydrogens, slopes = Repeats(), Hydrogens(), Slopes()
    sums: dict[str, Sums] = {}
    with tqdm(desc="checking", unit=" frames", disable=None if progress else True) as bar:

        def visit(system: System, scanned: Scanned) -> None:
            check_distances(system, scanned, report, hydrogens)
            for look in (*looks, repeats.check, slopes.check):
                look(system, scanned, report)
            sums.setdefault(system.path, Sums()).add(scanned)
            bar.update(len(scanned.chunk))

        scans = scan_training_data(wanted, sections, report, visit)
    hydrogens.finish(report)
    slopes.finish(report)
    _check_energies(scans, wanted, sums, report)
    return [sums.get(scan.system.path, Sums()).of(scan, _names(scan, wanted)) for scan in scans]


def _names(scan: Scan, wanted: Wanted) -> list[str]:
    """Return the names of the columns of a scan's counts."""
    numbers = [f"type {t}" for t in range(scan.counts.shape[1])]
    return list(wanted.type_map or scan.system.names or numbers)


def _check_energies(
    scans: list[Scan], wanted: Wanted, sums: dict[str, Sums], report: Report
) -> None:
    """Fit the energies of all systems at once, as they come from one method."""
    all_names = list(dict.fromkeys(name for scan in scans for name in _names(scan, wanted)))
    places, counts, energies = [], [], []
    for scan in scans:
        if not len(scan.counts):
            continue
        columns = [all_names.index(name) for name in _names(scan, wanted)]
        wide = np.zeros((len(scan.counts), len(all_names)), dtype=int)
        wide[:, columns] = scan.counts
        counts.append(wide)
        energies.append(np.concatenate(sums[scan.system.path].energies))
        check_digits(scan.system, energies[-1], report)
        places += [(scan.system, place) for place in scan.places]
    if not places:
        return
    n, E = np.concatenate(counts), np.concatenate(energies)
    check_compositions(places[0][0].path, n, report)
    usable = np.flatnonzero(np.isfinite(E) & n.any(axis=1))
    if len(usable):
        check_energies([places[k] for k in usable], n[usable], E[usable], report)
