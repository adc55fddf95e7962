# SPDX-License-Identifier: LGPL-3.0-or-later
"""Net force and net torque, which isolated molecules have not.

They tell of positions and forces in different axes, of missing atoms, of wrong signs and units.
"""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .frame import Frame

# What grids, auxiliary basis sets and loose convergence leave: usually below 0.005 eV/Å for each
# component. Three times as much is not warned of.
NOISE = 0.015  # eV/Å
# Nor is this part of what the forces would add up to if their directions were random, which
# grows with the forces as errors of numerical integration do.
PART = 0.02


class NetForceWarning(UserWarning):
    """Frames have a net force or a net torque."""


@dataclass(frozen=True)
class Imbalance:
    """A net force or torque that noise does not explain.

    Attributes
    ----------
    frame
        Its row in the arrays.
    code
        "net-force" or "net-torque".
    message
        The value, the limit and what may be wrong.
    """

    frame: int
    code: str
    message: str


def find_net(positions: np.ndarray, forces: np.ndarray, mask: np.ndarray) -> Iterator[Imbalance]:
    """Find frames whose forces do not cancel.

    A random error s of each component makes net forces of s √(3n) and, about the centre of the
    atoms, net torques of s √(2 Σ r²).

    Parameters
    ----------
    positions, forces
        [nframes, natoms, 3] in Å and eV/Å; values of virtual atoms do not matter.
    mask
        [nframes, natoms] 1 for a real atom.

    Yields
    ------
    Imbalance
        At most one for each frame: its torque only if the forces cancel.
    """
    real = (mask == 1)[:, :, None]
    # Sums of values that are not finite are greater than no limit.
    with np.errstate(invalid="ignore", over="ignore"):
        nets, limits = _nets(real, positions, forces)
    found: set[int] = set()
    for code, unit, net, limit in zip(
        ("net-force", "net-torque"), ("eV/Å", "eV"), nets, limits, strict=True
    ):
        with np.errstate(invalid="ignore", over="ignore"):
            too_large = np.linalg.norm(net, axis=1) > limit
        for frame in np.flatnonzero(too_large).tolist():
            if frame not in found:
                found.add(frame)
                yield Imbalance(frame, code, _message(code, unit, net[frame], limit[frame]))


def _nets(
    real: np.ndarray, positions: np.ndarray, forces: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return net forces and torques, [nframes, 3], and their limits, [nframes]."""
    natoms = real.sum(axis=1)  # [nframes, 1]
    F, r = np.where(real, forces, 0), np.where(real, positions, 0)
    centre = r.sum(axis=1, keepdims=True) / np.maximum(natoms, 1)[:, None]
    r = np.where(real, r - centre, 0)
    size, distance = np.square(F).sum(axis=2), np.square(r).sum(axis=2)
    limits = (
        NOISE * np.sqrt(3 * natoms[:, 0]) + PART * np.sqrt(size.sum(axis=1)),
        NOISE * np.sqrt(2 * distance.sum(axis=1)) + PART * np.sqrt((size * distance).sum(axis=1)),
    )
    product = r.transpose(0, 2, 1) @ F  # much faster than a cross product of each atom
    torque = (product - product.transpose(0, 2, 1))[:, [1, 2, 0], [2, 0, 1]]
    return (F.sum(axis=1), torque), limits


def _message(code: str, unit: str, net: np.ndarray, limit: float) -> str:
    with np.errstate(over="ignore"):
        magnitude = np.linalg.norm(net)
    # Without what is but rounding beside the magnitude, and without a minus before 0.
    vector = ", ".join(f"{0.0 if abs(v) < 1e-9 * magnitude else v:.3g}" for v in net.tolist())
    return (
        f"{code.replace('-', ' ')} ({vector}) {unit}, of magnitude {magnitude:.3g}; noise "
        f"would be {limit:.2g} at most, and isolated molecules have none. Look whether positions "
        "and forces are in the same axes and units and all atoms are there; if a field, embedding "
        "charges or other atoms act on them, say so with `external_field`"
    )


_FRAME_NUMBER = re.compile(r"(.*?)(\d+)(\D*)", re.DOTALL)  # of a frame: the last one in its place


def _ranges(numbers: list[int]) -> str:
    """Return 3-5, 8 for 3, 4, 5, 8."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


class NetForces:
    """Frames with a net force or torque: the first ones with values, the others by number."""

    MOST = 10

    def __init__(self) -> None:
        self.count = 0
        self.lines: list[str] = []
        self._others: dict[tuple[str, str], list[int]] = {}  # frames by what is around the number

    def add(self, frame: Frame) -> None:
        """Look at a frame."""
        arrays = frame.positions[None], frame.forces[None], np.ones((1, len(frame.names)))
        for net in find_net(*arrays):
            self.count += 1
            if self.count <= self.MOST:
                self.lines.append(f"{frame.place}: {net.message}")
            else:
                place = _FRAME_NUMBER.fullmatch(frame.place)
                assert place is not None, frame.place
                before, number, after = place.groups()
                self._others.setdefault((before, after), []).append(int(number))

    def warn(self) -> int:
        """Warn of all, and return their number."""
        for line in self.lines:
            warnings.warn(line, NetForceWarning, stacklevel=3)
        if self.count > self.MOST:
            others = "; ".join(
                f"{before}{_ranges(numbers)}{after}"
                for (before, after), numbers in self._others.items()
            )
            line = f"{self.count - self.MOST} more frames with a net force or torque: {others}"
            warnings.warn(line, NetForceWarning, stacklevel=3)
        return self.count
