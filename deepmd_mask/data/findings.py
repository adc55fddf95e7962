# SPDX-License-Identifier: LGPL-3.0-or-later
"""What is wrong with data: one record for ``dp-mask check``, an error for everybody else."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and where.

    Attributes
    ----------
    level
        "error" if training cannot use the data as they are, or "warning".
    code
        Short name of the rule, as docs/data.md lists them.
    system
        Path of the system.
    message
        What was found, with the value, and the remedy.
    file
        Within the system, as ``set.000/coord.npy``.
    frame
        Number of the frame within its set, from 0.
    atom
        Number of the slot, from 0.
    """

    level: Literal["error", "warning"]
    code: str
    system: str
    message: str
    file: str | None = None
    frame: int | None = None
    atom: int | None = None

    def __str__(self) -> str:
        """Return place and message in one line; of a frame's file the set's name is enough."""
        place = [f"system {self.system}"]
        if self.file and self.frame is not None:
            place.append(self.file.split("/")[0])
        elif self.file:
            place.append(self.file)
        if self.frame is not None:
            place.append(f"frame {self.frame}")
        if self.atom is not None:
            place.append(f"atom {self.atom}")
        return ", ".join(place) + f": {self.message}"


Report = Callable[[Finding], None]


def refuse(finding: Finding) -> None:
    """Report errors by raising them, and no warnings.

    Raises
    ------
    ValueError
        If the finding is an error.
    """
    if finding.level == "error":
        raise ValueError(str(finding))
