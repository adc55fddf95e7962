# SPDX-License-Identifier: LGPL-3.0-or-later
"""What readers give: frames with labels, and word of those that lack some."""

import hashlib
from dataclasses import dataclass

import numpy as np

SAME = 1e-4  # Å; to which coordinates are rounded before frames are compared
UNREADABLE = "output that ends early or cannot be read"  # a reason to leave a frame out


def digest(kinds: np.ndarray, positions: np.ndarray) -> bytes:
    """Return what is the same for the same atoms at the same places, in any order.

    Parameters
    ----------
    kinds
        [natoms] a number for each.
    positions
        [natoms, 3]
    """
    rows = np.empty((len(kinds), 4))  # whole numbers that may be larger than integers can be
    rows[:, 0] = kinds
    rows[:, 1:] = np.rint(positions / SAME) + 0.0  # no -0.0
    rows = rows[np.lexsort(rows.T)]
    return hashlib.blake2b(rows.tobytes(), digest_size=16).digest()


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
        In eV.
    forces
        [natoms, 3] in eV/Å.
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

    @classmethod
    def without_labels(
        cls, place: str, names: np.ndarray, positions: np.ndarray, arrays: dict[str, np.ndarray]
    ) -> "Frame":
        """Return an isolated molecule of which neither energy nor forces are asked."""
        return cls(place, names, positions, 0.0, np.zeros((len(names), 3)), False, arrays)


@dataclass(frozen=True)
class Incomplete:
    """A frame that cannot be used for what it lacks, and that can be left out.

    Attributes
    ----------
    place
        Source and number of the frame within it.
    reason
        In a few words, the same for all frames of this kind.
    message
        What was found, and a remedy other than leaving it out, if there is one.
    sliced
        Whether the frames of its source can be chosen with ``@``.
    """

    place: str
    reason: str
    message: str
    sliced: bool = False

    def __str__(self) -> str:
        """Return place, message and remedies in one line."""
        remedy = "leave such frames out with `skip_incomplete`"
        if self.sliced:
            remedy += ", or choose others, as in FILE@:10 or FILE@:-1"
        return f"{self.place}: {self.message}; {remedy}"


@dataclass(frozen=True)
class Keys:
    """Under which names sources keep what is wanted of them.

    Attributes
    ----------
    energy, forces
        In files that ASE reads. "energy" and "forces" stand for ASE's own results.
    array
        A further per-atom array; None for none.

    Raises
    ------
    ValueError
        If the name of forces is one of gradients.
    """

    energy: str = "energy"
    forces: str = "forces"
    array: str | None = None

    def __post_init__(self) -> None:
        """Complain early of what is minus the force."""
        if "grad" in self.forces.lower():
            raise ValueError(
                f"`forces_key` is {self.forces}, and gradients have the other sign than forces; "
                "write their negative into the sources, under a name of forces"
            )

    @property
    def arrays(self) -> tuple[str, ...]:
        """Return the names of further arrays, one or none."""
        return () if self.array is None else (self.array,)
