# SPDX-License-Identifier: LGPL-3.0-or-later
"""Signs, units and digits of labels, as far as their numbers tell, for ``dp-mask check``."""

from collections.abc import Sequence

import numpy as np

from ..findings import Finding, Report
from ..scan import Scanned
from ..systems import System

MOVED = 0.5  # Å; so far the mean of two frames' forces tells by how much energies differ
PAIRS = 10  # of frames, from which on a slope is believed
CORRELATION = 0.9  # of these, too; 0.97 and more in the examples' data
SLOPES = 0.7, 1.4  # 0.95 to 1.01 in the examples' data
BOHR = 1.6  # Å; hydrogen is 0.7 to 1.1 Å from what it is bound to, and 1.4 to 2.1 bohr
DIGITS = 1e-3  # eV

# What a slope of energies over forces tells.
_REASONS = {
    51.4221: "forces are in hartree/bohr, and energies in eV",
    0.0367493: "energies are in hartree, and forces in eV/Å",
    1.88973: "forces are per bohr, and positions in Å",
    0.529177: "positions are in bohr, and forces per Å",
    23.0605: "energies are in kcal/mol, and forces in eV/Å",
    0.0433641: "forces are in kcal/mol/Å, and energies in eV",
    96.4853: "energies are in kJ/mol, and forces in eV/Å",
    0.0103643: "forces are in kJ/mol/Å, and energies in eV",
    0.1: "forces are per nm, and positions in Å",
}


class Slopes:
    """Compares changes of energies with forces, over neighbouring frames that are nearly alike."""

    def __init__(self) -> None:
        self.pairs: dict[str, list[np.ndarray]] = {}  # [2, npairs], by system

    def check(self, system: System, scanned: Scanned, report: Report) -> None:
        """Take up frames; report is for ``finish``."""
        chunk = scanned.chunk
        if chunk.energy is None or chunk.force is None:
            return
        real = (chunk.mask[1:] == 1)[:, :, None]
        same = (chunk.mask[1:] == chunk.mask[:-1]) & (chunk.types[1:] == chunk.types[:-1])
        with np.errstate(invalid="ignore", over="ignore"):
            steps = np.where(real, np.diff(chunk.coord, axis=0), 0)
            moved = np.sqrt(np.square(steps).sum(axis=2)).max(axis=1)
            forces = np.where(real, chunk.force[1:] + chunk.force[:-1], 0) / 2
            both = np.stack([-(forces * steps).sum(axis=(1, 2)), np.diff(chunk.energy)])
        near = same.all(axis=1) & (moved > 0) & (moved < MOVED) & np.isfinite(both).all(axis=0)
        self.pairs.setdefault(system.path, []).append(both[:, near])

    def finish(self, report: Report) -> None:
        """Warn of systems whose energies and forces do not belong together."""
        for path, parts in self.pairs.items():
            work, change = np.concatenate(parts, axis=1)
            if len(work) < PAIRS or not (work.std() > 0 and change.std() > 0):
                continue
            slope, correlation = work @ change / (work @ work), np.corrcoef(work, change)[0, 1]
            if abs(correlation) > CORRELATION and not SLOPES[0] < slope < SLOPES[1]:
                message = (
                    f"energies change by {slope:.3g} times what forces tell ({len(work)} pairs of "
                    f"neighbouring frames, correlation {correlation:.2f}): {_reason(slope)}; "
                    "convert the numbers, or pack the sources again with the right options"
                )
                report(Finding("warning", "energy-force", path, message))


def _reason(slope: float) -> str:
    reasons = ["forces have the sign of gradients"] if slope < 0 else []
    of_size = [text for size, text in _REASONS.items() if abs(np.log(abs(slope) / size)) < 0.15]
    if of_size or not SLOPES[0] < abs(slope) < SLOPES[1]:
        reasons += of_size or ["energies, forces and positions are not in units of one system"]
    return f"probably {', and '.join(reasons)}"


class Hydrogens:
    """Looks how far hydrogen is from its neighbours, which tells the unit of length."""

    def __init__(self) -> None:
        self.medians: dict[str, list[float]] = {}  # over some frames, by system

    def add(self, system: System, distances: Sequence[np.ndarray]) -> None:
        """Take up how far the neighbours of a frame's hydrogen atoms are, for some frames."""
        if any(map(len, distances)):
            median = float(np.median(np.concatenate(distances)))
            self.medians.setdefault(system.path, []).append(median)

    def finish(self, report: Report) -> None:
        """Warn of systems that are probably in bohr."""
        for path, medians in self.medians.items():
            median = float(np.median(medians))
            if median > BOHR:
                message = (
                    f"the nearest neighbour of a hydrogen atom is {median:.3g} off, in the median, "
                    "which would be 0.7 to 1.1 in Å; positions are probably in bohr: convert them, "
                    "or leave it if all numbers are meant to be in such units"
                )
                report(Finding("warning", "length-unit", path, message))


def check_digits(system: System, energies: np.ndarray, report: Report) -> None:
    """Warn of energies [nframes] in float32 that have too few digits."""
    largest = np.abs(energies[np.isfinite(energies)]).max(initial=0)
    spacing = float(np.spacing(np.float32(min(largest, 1e38))))
    for part in system.sets:
        energy = part.arrays.get("energy")
        if energy is not None and energy.dtype.itemsize == 4 and spacing > DIGITS:
            message = (
                f"is float32, in which energies as large as {largest:.6g} are {spacing:.2g} apart; "
                "write them anew as float64, from where they have all digits"
            )
            file = f"{part.name}/energy.npy"
            report(Finding("warning", "dtype", system.path, message, file))
