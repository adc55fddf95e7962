# SPDX-License-Identifier: LGPL-3.0-or-later
"""What readers of programs' outputs leave out: whether what they put together belongs together.

A reader takes a geometry, an energy and a gradient, each where it finds one. Here the text of the
output is read besides, for what makes them wrong together.
"""

import re
from dataclasses import dataclass

import numpy as np

from ..frame import Frame, Incomplete
from .gaussian import GaussianLog

UNCONVERGED = "SCF not converged"
_SAME = 1e-8  # relative; energies that the text and a reader give


@dataclass(frozen=True)
class Program:
    """How to read the output of a program.

    Attributes
    ----------
    unconverged
        Matches a line that says of an SCF that it did not converge.
    energy
        Matches a line with the energy of that SCF or what is made of it, in the group 1.
    in_ev
        What such a number is multiplied by to have it in eV.
    """

    unconverged: str
    energy: str | None = None
    in_ev: float = 27.211386024367243


_NUMBER = r"(-?\d+\.\d+(?:[EeDd][-+]?\d+)?)"
_GAUSSIAN = Program(
    r"Convergence criterion not met|Convergence failure", rf"SCF Done:.*?=\s*{_NUMBER}"
)
_ORCA = Program(
    r"SCF NOT CONVERGED AFTER|not fully converged|wavefunction IS NOT CONVERGED",
    rf"FINAL SINGLE POINT ENERGY\s+(?:\(.*\)\s+)?{_NUMBER}",
)
_NWCHEM = Program(r"Calculation failed to converge", rf"Total (?:DFT|SCF) energy\s*=\s*{_NUMBER}")
_VASP = Program(
    r"EDIFF was not reached|self-consistency was not achieved",
    rf"energy\(sigma->0\)\s*=\s*{_NUMBER}",  # ASE's energy
    1.0,
)
_PSI4 = Program(r"did not converge, but proceeding anyway|Could not converge SCF")
_PROGRAMS = {
    "gaussian-out": _GAUSSIAN,
    "gaussian/log": _GAUSSIAN,
    "gaussian/md": _GAUSSIAN,
    "orca-output": _ORCA,
    "orca/spout": _ORCA,
    "nwchem-out": _NWCHEM,
    "vasp-out": _VASP,
    "aims-output": Program(r"SELF-CONSISTENCY CYCLE DID NOT CONVERGE"),
    "gamess-us-out": Program(r"SCF IS UNCONVERGED"),
    "espresso-out": Program(
        r"convergence NOT achieved after", rf"total energy\s*=\s*{_NUMBER} Ry", 13.605693012183622
    ),
    "psi4/out": _PSI4,
    "cclib": Program(f"{_PSI4.unconverged}|SCF failed to converge|No convergence in SCF"),
    "sqm/out": Program(r"Unable to achieve self consistency|No convergence in SCF after"),
    "dftbplus": Program(r"SCC is NOT converged"),
    "cp2k/output": Program(r"SCF run NOT converged"),
}

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
        What to look for.
    """

    def __init__(self, path: str, file_format: str, program: Program):
        self.file_format, self.program = file_format, program
        self.bad_energies: list[float] = []
        self.bad, self.stale = False, False
        self.wrong: str | None = None
        gaussian = program is _GAUSSIAN
        self.gaussian = GaussianLog(of_dpdata="/" in file_format) if gaussian else None
        self._read(path)

    @classmethod
    def of(cls, path: str, file_format: str) -> "Output | None":
        """Return the output; None if it is of no program that is known here."""
        program = _PROGRAMS.get(file_format)
        return None if program is None else cls(path, file_format, program)

    def _read(self, path: str) -> None:
        from ase.io.formats import open_with_compression  # noqa: PLC0415  ASE takes its time

        wrong = _WRONG.get(self.file_format, ())
        last = [re.escape(begin) for begin in _LAST.get(self.file_format, ())]
        words = [self.program.unconverged, self.program.energy, *(what for what, _ in wrong), *last]
        if self.gaussian is not None:
            words.append(GaussianLog.WORDS)
        watch = re.compile("|".join(filter(None, words)).encode()).search
        gaussian = self.gaussian
        with open_with_compression(path, "rb") as file:
            for raw in file:  # most lines say nothing
                if gaussian is not None and gaussian.is_within:
                    gaussian.add(raw.decode("utf-8", "replace"))
                elif watch(raw):
                    self._add(raw.decode("utf-8", "replace"), wrong)
        if gaussian is not None:
            gaussian.finish()

    def _add(self, line: str, wrong: tuple[tuple[str, str], ...]) -> None:
        """Look at a line of interest."""
        if re.search(self.program.unconverged, line):
            self.bad = True
        match = re.search(self.program.energy, line) if self.program.energy else None
        if self.bad and match is not None:
            value = float(match[1].upper().replace("D", "E"))
            self.bad_energies.append(value * self.program.in_ev)
            self.bad = False
        if self.gaussian is not None:
            self.gaussian.add(line)
        for begin in _LAST.get(self.file_format, ()):
            if line.startswith(begin):
                self.stale = begin == _LAST[self.file_format][0]
        for what, why in wrong:
            if self.wrong is None and re.search(what, line):
                self.wrong = why

    def judge(self, frame: Frame | Incomplete) -> Frame | Incomplete:
        """Return the frame, or why it cannot be used.

        Raises
        ------
        ValueError
            If the reader makes something wrong of this output.
        """
        sliced = "/" not in self.file_format
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
        if self.program.energy is None:
            return self.bad
        near = np.abs(np.array(self.bad_energies) - energy) <= _SAME * abs(energy)
        return bool(near.any())


def _require_elements(frame: Frame) -> None:
    """Refuse other names, which readers make of damaged tables."""
    from ase.data import atomic_numbers  # noqa: PLC0415  ASE takes its time

    for atom, name in enumerate(frame.names.tolist()):
        if atomic_numbers.get(name.capitalize(), 0) == 0:
            raise ValueError(
                f"{frame.place}, atom {atom}: {name} is no element; look at the geometry in the "
                "file, or take this atom out"
            )
