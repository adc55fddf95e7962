# SPDX-License-Identifier: LGPL-3.0-or-later
"""From names of atoms to types, while it is not yet known which there are and how many."""

from collections.abc import Sequence

import numpy as np

from ...shared.options import MOST_SLOTS
from ..training import auto_sel
from .sources import Frame


class TypeNumbers:
    """Numbers for names, which get their places in the type map at the end.

    Parameters
    ----------
    type_map
        Names of the types; None for those of the frames.
    sel
        Slots of each type of the type map, or "auto" or "auto:f".
    """

    def __init__(self, type_map: Sequence[str] | None, sel: Sequence[int] | str):
        self.given = None if type_map is None else list(type_map)
        self.sel = sel
        self.met: list[str] = []  # spelled as in the type map or where first met
        self.number: dict[str, int] = {}  # of each spelling, an index into met
        self.most = np.zeros(0, dtype=int)
        if isinstance(sel, str):
            auto_sel(sel, self.most)  # complains early
        elif self.given is None:
            raise ValueError("`sel` is a list; give `type_map`, whose order it has")
        elif len(sel) != len(self.given) or min(sel, default=0) < 0:
            raise ValueError(
                f"`sel` {list(sel)} must have one number, not negative, for each type of "
                f"{self.given}"
            )
        upper = [name.upper() for name in self.given or ()]
        for name in self.given or ():
            if upper.count(name.upper()) > 1 or not name or len(name.split()) != 1:
                raise ValueError(f'`type_map`: "{name}" is there twice, empty, or has a space')

    def numbers(self, frame: Frame) -> np.ndarray:
        """Return the numbers of a frame's atoms, and count them."""
        try:
            numbers = [self.number[name] for name in frame.names.tolist()]
        except KeyError:
            for atom, name in enumerate(frame.names.tolist()):
                self._meet(name, frame, atom)
            return self.numbers(frame)
        counts = np.bincount(np.array(numbers, dtype=int), minlength=len(self.met))
        self.most = np.maximum(np.pad(self.most, (0, len(counts) - len(self.most))), counts)
        if not isinstance(self.sel, str):
            self._require_within(self.sel, frame, counts)
        return np.array(numbers, dtype=np.int32)

    def _meet(self, name: str, frame: Frame, atom: int) -> None:
        spellings = {known.upper(): known for known in (*self.met, *(self.given or ()))}
        known = spellings.get(name.upper(), name)
        if self.given is not None and known not in self.given:
            raise ValueError(
                f"{frame.place}, atom {atom}: {name} is not in `type_map` {self.given}; add it "
                "there, or take the atom out of the source"
            )
        if known not in self.met:
            self.met.append(known)
        self.number[name] = self.met.index(known)

    def _require_within(self, sel: Sequence[int], frame: Frame, counts: np.ndarray) -> None:
        bounds = dict(zip(self.given or (), sel, strict=True))
        for name, count in zip(self.met, counts.tolist(), strict=True):
            bound = bounds[name]
            if count > bound:
                raise ValueError(
                    f"{frame.place}: {count} atoms of {name}, but `sel` allows {bound}; raise it, "
                    'or let "auto" choose it'
                )

    def settle(self) -> tuple[list[str], list[int], np.ndarray]:
        """Return what all frames together make of it.

        Returns
        -------
        list of str
            The type map.
        list of int
            Slots of each type.
        np.ndarray
            Type of each number that was given out.
        """
        names = self.given or sorted(self.met, key=_atomic_number)
        renumber = np.array([names.index(name) for name in self.met], dtype=np.int64)
        most = np.zeros(len(names), dtype=int)
        most[renumber] = self.most
        sel = auto_sel(self.sel, most) if isinstance(self.sel, str) else list(self.sel)
        if sum(sel) > MOST_SLOTS:
            raise ValueError(
                f"`sel` gives {sum(sel)} slots; no more than {MOST_SLOTS} are possible"
            )
        return names, sel, renumber


def _atomic_number(name: str) -> tuple[int, str]:
    from ase.data import atomic_numbers  # noqa: PLC0415  ASE takes its time

    return atomic_numbers.get(name.capitalize(), len(atomic_numbers)), name
