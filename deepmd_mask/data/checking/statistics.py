# SPDX-License-Identifier: LGPL-3.0-or-later
"""What is in masked systems: atoms by type, distances, forces, energies."""

from dataclasses import dataclass, field

import numpy as np

from ..scan import Scan, Scanned


@dataclass
class Statistics:
    """Numbers of one system; a field is None if there is nothing to count.

    Attributes
    ----------
    system
        Its path.
    frames, slots
        Their numbers.
    atoms
        Smallest, mean and largest number of real atoms in a frame: by type, and in "all".
    shortest_distance
        Between two real atoms of a frame.
    preferred_atoms
        Mean number in a frame of atoms whose weight is not 0.
    force_rms, force_max
        Over components, and the largest magnitude, of the forces of real atoms.
    energy
        Smallest, mean and largest.
    """

    system: str
    frames: int
    slots: int
    atoms: dict[str, tuple[int, float, int]] = field(default_factory=dict)
    shortest_distance: float | None = None
    preferred_atoms: float | None = None
    force_rms: float | None = None
    force_max: float | None = None
    energy: tuple[float, float, float] | None = None


class Sums:
    """Adds up a system's frames as they come."""

    def __init__(self) -> None:
        self.energies: list[np.ndarray] = []
        self.force_squares, self.force_max, self.components = 0.0, 0.0, 0
        self.preferred, self.weighted_frames = 0, 0

    def add(self, scanned: Scanned) -> None:
        """Add frames."""
        chunk = scanned.chunk
        nothing = np.full(len(chunk), np.nan)
        self.energies.append(nothing if chunk.energy is None else chunk.energy)
        if chunk.force is not None:
            squares = np.square(chunk.force[chunk.mask == 1]).sum(axis=1)
            squares = squares[np.isfinite(squares)]
            self.force_squares += squares.sum()
            self.components += 3 * len(squares)
            self.force_max = max(self.force_max, np.sqrt(squares.max(initial=0)))
        if chunk.preference is not None:
            self.preferred += int(np.count_nonzero((chunk.preference != 0) & (chunk.mask == 1)))
            self.weighted_frames += len(chunk)

    def of(self, scan: Scan, names: list[str]) -> Statistics:
        """Return the numbers of a system whose types have these names in the scan."""
        system, counts = scan.system, scan.counts
        numbers = Statistics(system.path, system.nframes, system.nslots)
        if len(counts):
            columns = {"all": counts.sum(axis=1), **dict(zip(names, counts.T, strict=True))}
            numbers.atoms = {
                name: (int(column.min()), float(column.mean()), int(column.max()))
                for name, column in columns.items()
                if column.any() or name == "all"
            }
        if np.isfinite(scan.min_distance):
            numbers.shortest_distance = float(scan.min_distance)
        if self.weighted_frames:
            numbers.preferred_atoms = self.preferred / self.weighted_frames
        if self.components:
            numbers.force_rms = float(np.sqrt(self.force_squares / self.components))
            numbers.force_max = float(self.force_max)
        energies = np.concatenate(self.energies) if self.energies else np.zeros(0)
        energies = energies[np.isfinite(energies)]
        if len(energies):
            low, mean, high = energies.min(), energies.mean(), energies.max()
            numbers.energy = float(low), float(mean), float(high)
        return numbers


def as_text(numbers: Statistics) -> str:
    """Return a system's numbers as some lines."""
    lines = [f"{numbers.system}: {numbers.frames} frames, {numbers.slots} slots"]
    if numbers.atoms:
        lines.append("  real atoms in a frame     min    mean    max")
        lines += [
            f"    {name:20s} {low:6d} {mean:7.1f} {high:6d}"
            for name, (low, mean, high) in numbers.atoms.items()
        ]
    for label, value in {
        "preferred atoms, mean": numbers.preferred_atoms,
        "shortest distance": numbers.shortest_distance,
        "force, rms": numbers.force_rms,
        "force, largest": numbers.force_max,
    }.items():
        if value is not None:
            lines.append(f"  {label:25s} {value:.4g}")
    if numbers.energy:
        low, mean, high = numbers.energy
        lines.append(f"  {'energy':25s} {low:.10g} to {high:.10g}, mean {mean:.10g}")
    return "\n".join(lines)
