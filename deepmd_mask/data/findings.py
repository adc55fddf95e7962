# SPDX-License-Identifier: LGPL-3.0-or-later
"""What is wrong with data: one record for ``dp-mask check``, an error for everybody else."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from ..shared.log import log

Level = Literal["error", "warning"]


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
        Number of the frame within its set, from 0: its row in the file.
    atom
        Number of the slot, from 0.
    frame_of_system
        Number of the frame within the system, from 0; None, too, if a set before cannot be read.
    """

    level: Level
    code: str
    system: str
    message: str
    file: str | None = None
    frame: int | None = None
    atom: int | None = None
    frame_of_system: int | None = None

    def __str__(self) -> str:
        """Return place and message in one line."""
        place = [f"system {self.system}"] if self.system else []
        place += [self.file] if self.file else []
        if self.frame is not None:
            other = self.frame_of_system not in (None, self.frame)
            whole = f" ({self.frame_of_system} of the system)" if other else ""
            place.append(f"frame {self.frame}{whole}")
        place += [f"atom {self.atom}"] if self.atom is not None else []
        return f"{', '.join(place)}: {self.message}"

    def in_full(self) -> str:
        """Return level, code, place and message, in one line."""
        return f"{self.level} [{self.code}] {self}"


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


def refuse_or_log(codes: Collection[str] | None = None) -> Report:
    """Return what raises errors, and logs warnings: the first of each kind, system and file.

    Parameters
    ----------
    codes
        Of the warnings to log; None for all.
    """
    told: set[tuple[str, str, str]] = set()

    def report(finding: Finding) -> None:
        refuse(finding)
        kind = finding.code, finding.system, (finding.file or "").rpartition("/")[2]
        if (codes is None or finding.code in codes) and kind not in told:
            told.add(kind)
            more = "" if finding.frame is None else "; dp-mask check names all such frames"
            log.warning("%s%s", finding, more)

    return report
