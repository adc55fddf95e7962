# SPDX-License-Identifier: LGPL-3.0-or-later
"""Outputs of Gaussian, whose forces are in the axes of the input, and positions often are not."""

import re

import numpy as np
from ase.units import Bohr, Hartree

from ...frame import Frame

_TABLE = re.compile(r"^\s*(Input|Z-Matrix|Standard) orientation:\s*$")
_FORCES = re.compile(r"^\s*Center\s+Atomic\s+Forces \(Hartrees/Bohr\)")
_NO_SYMMETRY = re.compile(
    r"\bnosymm?(?:etry)?\b|\bsymm(?:etry)?\s*=?\s*\(?\s*(?:[a-z]+\s*,\s*)*none\b", re.IGNORECASE
)
_OTHER_ENERGY = (
    (re.compile(r"Total Energy, E\((?:TD-|CIS)"), "an excited state"),
    (re.compile(r"ONIOM: extrapolated energy"), "ONIOM"),
)
# ASE's reader takes these energies, dpdata's only that of the SCF.
_CORRELATED = re.compile(r"EUMP[2-5]\s*=|E2\([A-Z0-9]+\)\s*=|E\(CORR\)=|E\(Corr\)=|CCSD\(T\)=")


class GaussianLog:
    """Notes to each table of forces the positions in the axes of the input.

    Parameters
    ----------
    of_dpdata
        Whether dpdata reads the file, not ASE.
    """

    # Lines that have none of these matter only within a table or a route.
    WORDS = (
        r"orientation:|Forces \(Hartrees/Bohr\)|^ ?#|E\((?:TD-|CIS|C[Oo])|ONIOM: |EUMP|E2\(|"
        r"CCSD\(T\)="
    )

    def __init__(self, of_dpdata: bool):
        self.of_dpdata = of_dpdata
        self.blocks: list[tuple[np.ndarray, np.ndarray | None, bool]] = []
        self.kept_axes, self.other_energy = False, ""
        self._input: np.ndarray | None = None
        self._standard: np.ndarray | None = None
        self._rows: list[list[float]] = []
        self._table, self._rules = "", 0
        self._route: list[str] | None = None

    @property
    def is_within(self) -> bool:
        """Return whether a table or a route has begun and not ended."""
        return bool(self._table) or self._route is not None

    def add(self, line: str) -> None:
        """Look at the next line."""
        self._add_route(line)
        if self._table:
            self._add_row(line)
            return
        match = _TABLE.match(line)
        if match or _FORCES.match(line):
            self.finish()
            self._table, self._rows = match[1] if match else "Forces", []
            self._rules = 0
            return
        for pattern, what in _OTHER_ENERGY:
            if pattern.search(line):
                self.other_energy = what
        if self.of_dpdata and _CORRELATED.search(line):
            self.other_energy = "a correlated method"

    def _add_route(self, line: str) -> None:
        """Collect the lines from # to the rule below."""
        text = line.rstrip("\r\n").removeprefix(" ")
        if self._route is None and text.startswith("#"):
            self._route = []
        if self._route is None:
            return
        if text.startswith("---"):
            self.kept_axes = bool(_NO_SYMMETRY.search("".join(self._route)))
            self._route = None
        else:
            self._route.append(text)  # the log breaks lines within words

    def _add_row(self, line: str) -> None:
        """Read a row of a table, which begins behind its second rule, or its first if of forces."""
        fields = line.split()
        if line.strip().startswith("-----"):
            self._rules += 1
            if self._rules > 1 and self._rows:
                self.finish()
            return
        try:
            if len(fields) < 5:
                raise ValueError("no row")
            if int(fields[1]) >= 0:  # -2 are vectors of a cell
                self._rows.append([float(field) for field in fields[-3:]])
        except (ValueError, IndexError):
            if self._rows:
                self.finish()

    def finish(self) -> None:
        """End the table that is being read."""
        rows = np.array(self._rows, dtype=float).reshape(-1, 3)
        if self._table == "Forces":
            self.blocks.append((rows, self._positions(), self.kept_axes))
        elif self._table == "Standard":
            self._standard = rows
        elif self._table:
            self._input, self._standard = rows, None
        self._table, self._rows = "", []

    def _positions(self) -> np.ndarray | None:
        """Return the geometry at hand in the axes of the input, if it was printed in them."""
        if self._input is None or self._standard is None:
            return self._input
        same = np.shape(self._input) == np.shape(self._standard) and np.allclose(
            _distances(self._input), _distances(self._standard), atol=1e-4
        )
        return self._input if same else None

    def require_same_axes(self, frame: Frame) -> None:
        """Refuse a frame whose positions and forces are in different axes.

        Raises
        ------
        ValueError
            Naming the frame and the keyword that helps.
        """
        if self.other_energy:
            reader = "dpdata" if self.of_dpdata else "ASE"
            other = "; read it with ASE, as in gaussian-out:PATH" if self.of_dpdata else ""
            raise ValueError(
                f"{frame.place}: the output has the energy of {self.other_energy}, and {reader} "
                f"takes that of the SCF, to which the forces do not belong{other}"
            )
        for forces, positions, kept_axes in self.blocks:
            if np.shape(forces) != np.shape(frame.forces) or not np.allclose(
                forces * (Hartree / Bohr), frame.forces, rtol=1e-5, atol=1e-5
            ):
                continue
            if kept_axes or (
                positions is not None and np.allclose(positions, frame.positions, atol=1e-5)
            ):
                return
        raise ValueError(
            f"{frame.place}: its positions are not in the axes of its forces, since Gaussian "
            "prints forces in those of the input, and this geometry only in its standard "
            "orientation; run the job with Geom=PrintInputOrient, or with NoSymm, which keeps the "
            "axes of the input"
        )


def _distances(positions: np.ndarray) -> np.ndarray:
    """Return distances from the centre and between neighbours in the table, which tell shapes."""
    centred = positions - positions.mean(axis=0)
    return np.concatenate(
        [np.linalg.norm(centred, axis=1), np.linalg.norm(np.diff(positions, axis=0), axis=1)]
    )
