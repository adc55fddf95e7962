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
        Path of the system; empty if it is the input that is wrong.
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
        short = self.file and self.frame is not None
        return self._line(self.file.split("/")[0] if short else self.file)

    def in_full(self) -> str:
        """Return level, code, place with the whole name of the file, and message, in one line."""
        return f"{self.level} [{self.code}] {self._line(self.file)}"

    def _line(self, file: str | None) -> str:
        place = [f"system {self.system}"] if self.system else []
        place += [file] if file else []
        place += [f"frame {self.frame}"] if self.frame is not None else []
        place += [f"atom {self.atom}"] if self.atom is not None else []
        return f"{', '.join(place)}: {self.message}"


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
