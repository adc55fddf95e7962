# SPDX-License-Identifier: LGPL-3.0-or-later
"""Which atoms' forces count: the weights in atom_pref.npy."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...shared.elements import ATOM_NAMES
from .sources import Frame

WEIGHTS = "atom_pref"  # the array in which sources have weights
_RULES = (
    "all, element:ZN,S (elements), within:2.8:ZN (Å, elements), names:SG,NE2 (names of atoms, in "
    f"the per-atom array {ATOM_NAMES}), names:ARRAY:SG,NE2, array:NAME"
)


@dataclass(frozen=True)
class Preference:
    """A rule for weights.

    Attributes
    ----------
    kind
        "all", "element", "within", "names" or "array"; "kept" for the array atom_pref, and weight 1
        where there is none; which goes together only if that has no other weights.
    elements
        In capital letters, of "element" and "within"; names of atoms, of "names".
    distance
        In Å, of "within".
    array
        Name of the per-atom array of the sources, of "names", "array" and "kept".
    """

    kind: str
    elements: tuple[str, ...] = ()
    distance: float = 0.0
    array: str | None = None
    _met: set[str] = field(default_factory=set, repr=False, compare=False)  # names of atoms
    # Of "kept": the first frame with weights other than 1, and the first without any.
    _first: dict[bool, str] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def parse(cls, text: str | None) -> "Preference":
        """Read "all", "element:ZN,S", "within:2.8:ZN", "names:SG,NE2" or "array:NAME".

        None is for weights that the sources have.

        Raises
        ------
        ValueError
            If the text is none of these.
        """
        if text is None:
            return cls("kept", array=WEIGHTS)
        kind, _, rest = text.partition(":")
        if text == "all":
            return cls("all")
        if kind == "array" and rest:
            return cls("array", array=rest)
        distance, _, elements = rest.rpartition(":")
        names = tuple(name.strip() for name in elements.split(",") if name.strip())
        if kind == "names" and names:
            return cls("names", names, array=distance.strip() or ATOM_NAMES)
        names = tuple(name.upper() for name in names)
        if kind == "element" and names and not distance:
            return cls("element", names)
        try:
            if kind == "within" and names and float(distance) >= 0:
                return cls("within", names, float(distance))
        except ValueError:
            pass
        raise ValueError(f'`preference` "{text}" is none of: {_RULES}')

    def weights(self, frame: Frame) -> np.ndarray:
        """Return the weights of a frame's atoms, [natoms].

        Raises
        ------
        ValueError
            If the frame's array is missing, or holds other than numbers that are not negative, or
            than names; if only some frames have weights that are to be kept.
        """
        if self.kind == "all":
            return np.ones(len(frame.names))
        if self.kind == "kept":
            return self._kept(frame)
        if self.kind == "array" and self.array is not None:
            return _of_array(frame, self.array)
        if self.kind == "names" and self.array is not None:
            names = _names(frame, self.array)
            self._met.update(np.unique(names).tolist())
            return np.isin(names, self.elements).astype(np.float64)
        chosen = np.isin(np.char.upper(frame.names.astype(str)), self.elements)
        if self.kind == "within":
            chosen = _near(frame.positions, chosen, self.distance)
        return chosen.astype(np.float64)

    def _kept(self, frame: Frame) -> np.ndarray:
        has_weights = WEIGHTS in frame.arrays
        weights = _of_array(frame, WEIGHTS) if has_weights else np.ones(len(frame.names))
        if not has_weights or (weights != 1).any():
            self._first.setdefault(has_weights, frame.place)
        if len(self._first) == 2:
            raise ValueError(
                f"{self._first[True]}: it has weights, {WEIGHTS}, and {self._first[False]} has "
                "none; say by `preference` which atoms of all sources count, with all for weight "
                "1, or give the others this array, too"
            )
        return weights

    @property
    def keeps(self) -> bool:
        """Return whether weights other than 1 were there and have been kept."""
        return True in self._first

    def missing(self, names: Sequence[str]) -> list[str]:
        """Return the elements of the rule that are not among the names of types.

        Of names of atoms, those that no frame had.
        """
        there = self._met if self.kind == "names" else {name.upper() for name in names}
        return [element for element in self.elements if element not in there]


def _near(positions: np.ndarray, centres: np.ndarray, distance: float) -> np.ndarray:
    """Tell which atoms are at most so far from a centre; centres are, too."""
    near = centres.copy()
    for centre in positions[centres]:
        near |= np.linalg.norm(positions - centre, axis=1) <= distance
    return near


def checked_weights(values: np.ndarray, natoms: int, name: str, place: str) -> np.ndarray:
    """Return an array of a source as weights, [natoms] float.

    Parameters
    ----------
    values
        The array.
    natoms
        Number of atoms.
    name
        Of the array.
    place
        Of the frame, for messages.

    Raises
    ------
    ValueError
        Naming frame, array and atom, if there is not one number for each atom, or one is negative
        or not finite.
    """
    values = _checked(values, natoms, name, place, "fiub", "number").astype(np.float64)
    for atom in np.flatnonzero(~((values >= 0) & np.isfinite(values)))[:1].tolist():
        raise ValueError(
            f"{place}, atom {atom}: preference {values[atom]:g} in array {name}; it must be "
            "0 or a positive number"
        )
    return values


def _checked(
    values: np.ndarray, natoms: int, name: str, place: str, kinds: str, what: str
) -> np.ndarray:
    """Return an array that has one entry of one of these kinds for each atom."""
    values = np.asarray(values)
    if values.shape != (natoms,) or values.dtype.kind not in kinds:
        raise ValueError(
            f"{place}: array {name} has the shape {values.shape} and the dtype {values.dtype}; a "
            f"preference is one {what} for each of the {natoms} atoms"
        )
    return values


def _array(frame: Frame, name: str) -> np.ndarray:
    """Return an array of a frame."""
    values = frame.arrays.get(name)
    if values is None:
        raise ValueError(
            f"{frame.place}: there is no per-atom array {name}, which `preference` wants of all "
            "sources; give it to this one, or pack it with another rule"
        )
    return values


def _names(frame: Frame, name: str) -> np.ndarray:
    values = _array(frame, name)
    names = _checked(values, len(frame.names), name, frame.place, "USO", "name")
    return np.char.strip(names.astype(str))


def _of_array(frame: Frame, name: str) -> np.ndarray:
    return checked_weights(_array(frame, name), len(frame.names), name, frame.place)
