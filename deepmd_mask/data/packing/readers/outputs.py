# SPDX-License-Identifier: LGPL-3.0-or-later
"""What readers of programs' outputs leave out: whether what they put together belongs together.

A reader takes a geometry, an energy and a gradient, each where it finds one. Here the text of the
output is read besides, for what makes them wrong together.
"""

import glob
import os
import re
from collections.abc import Iterator

import numpy as np

from ...frame import Frame, Incomplete
from .gaussian import GaussianLog
from .programs import PROGRAM_OF, PROGRAMS, VASP_XML, Program
from .vasp_xml import read_vasp_xml

UNCONVERGED = "SCF not converged"
CUT_OFF = "cut off at the end of the file"
# Relative; energies that the text and a reader give, in whose units the constants differ.
_SAME = 1e-6


# For readers that take the last geometry and the last gradient: what begins them in the text.
_LAST = {
    "orca/spout": ("CARTESIAN COORDINATES (ANGSTROEM)", "CARTESIAN GRADIENT"),
    "psi4/out": ("       Center              X", "  ## Total Gradient"),
}
# What is in the text if the reader puts together what does not belong together, and why.
_WRONG: dict[str, tuple[tuple[str, str], ...]] = {
    "gamess-us-out": (
        (
            r"COORDINATES OF ALL ATOMS ARE",
            "it has several geometries, and ASE's reader of gamess-us-out puts the first one and "
            "the last gradient together; give the gradient of each geometry a run of its own",
        ),
    ),
    "psi4/out": (
        (
            r"(?:MP2|CCSD|CCSD\(T\)|MP3|MP4|CC2|CC3|OMP2) [Tt]otal [Ee]nergy",
            "the gradient is that of a correlated method, and dpdata's reader of psi4/out takes "
            "the energy of the SCF; read it as cclib:PATH?energy=mpenergies or ccenergies",
        ),
    ),
    "dftbplus": (
        (
            r"(?:Geometry optimization step|Geometry step|MD step):\s*[1-9]",
            "it is of a geometry that moved, and dpdata's reader of dftbplus takes the first one "
            "of the input; run the last geometry on its own",
        ),
    ),
}  # fmt: skip


class Output:
    """The text of an output, looked through once.

    Parameters
    ----------
    path
        Of the file, which may be compressed.
    file_format
        With which it is read: a name of ASE or dpdata, or "cclib".
    program
        What to look for; None for VASP's XML.
    """

    def __init__(self, path: str, file_format: str, program: Program | None):
        self.file_format, self.program = file_format, program
        self.energies: list[tuple[float, bool]] = []  # in eV, and whether it is no good
        self.bad, self.stale, self.cut_off = False, False, False
        self.wrong: str | None = None
        gaussian = program is PROGRAMS["Gaussian"]
        self.gaussian = GaussianLog(of_dpdata="/" in file_format) if gaussian else None
        if program is None:
            self.energies, self.cut_off = read_vasp_xml(path)
        else:
            self._read(path, program)

    @classmethod
    def of(cls, path: str, file_format: str) -> "Output | None":
        """Return the output; None if it is of no program that is known here."""
        program = PROGRAM_OF.get(file_format)
        known = program is not None or file_format in VASP_XML
        return cls(path, file_format, program) if known else None

    @classmethod
    def all_of(cls, path: str, file_format: str) -> "list[Output]":
        """Return the outputs that are read with a path: that file, or those in the folder."""
        program = PROGRAM_OF.get(file_format)
        paths = [path] if os.path.isfile(path) else []
        if program is not None and program.inside and os.path.isdir(path):
            paths = sorted(glob.glob(os.path.join(glob.escape(path), program.inside)))
        outputs = [cls.of(each, file_format) for each in paths]
        return [output for output in outputs if output is not None]

    def _read(self, path: str, program: Program) -> None:
        from ase.io.formats import open_with_compression  # noqa: PLC0415  ASE takes its time

        wrong = _WRONG.get(self.file_format, ())
        last = [re.escape(begin) for begin in _LAST.get(self.file_format, ())]
        words = [program.unconverged, program.energy, *(what for what, _ in wrong), *last]
        if self.gaussian is not None:
            words.append(GaussianLog.WORDS)
        watch = re.compile("|".join(filter(None, words)).encode()).search
        gaussian = self.gaussian
        with open_with_compression(path, "rb") as file:
            for raw in file:  # most lines say nothing
                if gaussian is not None and gaussian.is_within:
                    gaussian.add(raw.decode("utf-8", "replace"))
                elif watch(raw):
                    self._add(raw.decode("utf-8", "replace"), program, wrong)
        if gaussian is not None:
            gaussian.finish()

    def _add(self, line: str, program: Program, wrong: tuple[tuple[str, str], ...]) -> None:
        """Look at a line of interest."""
        if re.search(program.unconverged, line):
            self.bad = True
        match = re.search(program.energy, line) if program.energy else None
        if match is not None:
            value = float(match[1].upper().replace("D", "E"))
            self.energies.append((value * program.in_ev, self.bad))
            self.bad = False
        if self.gaussian is not None:
            self.gaussian.add(line)
        for begin in _LAST.get(self.file_format, ()):
            if line.startswith(begin):
                self.stale = begin == _LAST[self.file_format][0]
        for what, why in wrong:
            if self.wrong is None and re.search(what, line):
                self.wrong = why

    def judge(self, frame: Frame | Incomplete, sliced: bool) -> Frame | Incomplete:
        """Return the frame, or why it cannot be used.

        Parameters
        ----------
        frame
            From the reader.
        sliced
            Whether the reader's frames can be chosen with ``@``.

        Raises
        ------
        ValueError
            If the reader makes something wrong of this output.
        """
        if isinstance(frame, Incomplete):
            return frame
        if self.wrong is not None:
            raise ValueError(f"{frame.place}: {self.wrong}")
        _require_elements(frame)
        if self._is_unconverged(frame.energy):
            message = "its SCF did not converge, as the output says"
            return Incomplete(frame.place, UNCONVERGED, message, sliced)
        if self.stale:
            message = (
                "the last geometry has no gradient behind it, and the one before would be taken, "
                "which belongs to another geometry; ASE reads the other geometries, as in "
                "orca-output:PATH"
            )
            return Incomplete(frame.place, "no forces", message)
        if self.gaussian is not None:
            self.gaussian.require_same_axes(frame)
        return frame

    def _is_unconverged(self, energy: float) -> bool:
        if not np.isfinite(energy):
            return True
        if not self.energies:  # none is known how to be found, or there is none
            return self.bad
        if not any(bad for _, bad in self.energies):
            return False
        off = np.abs(np.array([value for value, _ in self.energies]) - energy)
        if off.min() > _SAME * abs(energy):  # it is not clear which one this is
            return True
        return any(bad for (_, bad), d in zip(self.energies, off, strict=True) if d == off.min())

    def missing_end(self, where: str, sliced: bool) -> Iterator[Incomplete]:
        """Yield word of frames that the reader leaves out since the file ends too early."""
        if self.cut_off:
            message = "the file ends too early, and frames at its end are not read"
            yield Incomplete(where, CUT_OFF, message, sliced)


def _require_elements(frame: Frame) -> None:
    """Refuse other names, which readers make of damaged tables."""
    from ase.data import atomic_numbers  # noqa: PLC0415  ASE takes its time

    for atom, name in enumerate(frame.names.tolist()):
        if atomic_numbers.get(name.capitalize(), 0) == 0:
            raise ValueError(
                f"{frame.place}, atom {atom}: {name} is no element; look at the geometry in the "
                "file, or take this atom out"
            )
