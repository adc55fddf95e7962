# SPDX-License-Identifier: LGPL-3.0-or-later
"""How far the models of a committee differ in a region: of all its atoms, and of preferred ones."""

from typing import NamedTuple

import numpy as np

from ..data.frame import Frame
from ..data.packing.preferences import Preference
from ..potential import ForceDeviation
from ..shared.elements import ATOM_NAMES
from .force import Molecule
from .labels import Labels
from .region import Region

# Of a RegionDeviation's numbers, in order.
DEVIATION_COLUMNS = (*ForceDeviation._fields, *(f"preferred_{c}" for c in ForceDeviation._fields))


class DeviationError(RuntimeError):
    """The models of a committee differ by more than what a run was told to stop at."""


class PreferredAtoms:
    """Which atoms of regions are preferred.

    Parameters
    ----------
    rule
        As of ``dp-mask pack --preference``, but for arrays, which a simulation has none of; as a
        `Preference`, the system may lack what it names. None for the atoms that feel the force.
    what
        Names the reporter, for messages.

    Raises
    ------
    ValueError
        If it is no such rule.
    """

    def __init__(self, rule: str | Preference | None, what: str) -> None:
        self.what = what
        self._must_be_met = not isinstance(rule, Preference)
        if rule is None or isinstance(rule, Preference):
            self._rule = rule
            return
        if not isinstance(rule, str):
            raise ValueError(f'{what}: preference is {rule!r}; give a rule, as "within:2.8:ZN"')
        self._rule = Preference.parse(rule)
        if self._rule.kind == "array" or self._rule.array not in (None, ATOM_NAMES):
            msg = (
                f'{what}: preference is "{rule}", but a simulation has no arrays; give all, '
                "element:ZN,S, within:2.8:ZN or names:SG,NE2"
            )
            raise ValueError(msg)

    def require_met(self, labels: Labels) -> None:
        """Raise a ValueError if a rule in words names an element or atoms that are not there."""
        if self._rule is None or not self._must_be_met:
            return
        names, kind = labels.names, "atoms named"
        if self._rule.kind != "names":
            names = [labels.element(atom) for atom in range(len(labels.names))]
            kind = "atoms of the element"
        for name in self._rule.elements:
            if name not in {name if kind == "atoms named" else name.upper() for name in names}:
                raise ValueError(f"{self.what}: preference names {kind} {name}; there are none")

    def weights(self, region: Region, labels: Labels, molecule: Molecule) -> np.ndarray:
        """Return the preferences of a molecule's atoms [n]; 0 for link atoms."""
        members = molecule.numbers[: len(molecule.numbers) - molecule.nlinks]
        found = np.zeros(len(molecule.numbers))
        if self._rule is None:
            found[: len(members)] = region.forces_on[members]
            return found
        n = len(members)
        frame = Frame.without_labels(
            region.name,
            np.array([labels.element(atom) for atom in members], str),
            10 * molecule.coordinates[:n],
            {ATOM_NAMES: np.array([labels.names[atom] for atom in members], str)},
        )
        found[:n] = self._rule.weights(frame)
        return found


class RegionDeviation(NamedTuple):
    """Deviations in one region in one configuration, in eV/Å.

    Attributes
    ----------
    whole
        Over all that the models see, link atoms included.
    preferred
        Over the preferred atoms.
    worst
        The preferred atom with the largest one, in words; empty without any.
    """

    whole: ForceDeviation
    preferred: ForceDeviation
    worst: str

    @classmethod
    def of(
        cls, molecule: Molecule, weights: np.ndarray, labels: Labels
    ) -> "RegionDeviation | None":
        """Return those of a molecule; None if it was evaluated by one model.

        Parameters
        ----------
        weights
            [n], the preferences of its atoms.
        """
        if molecule.deviation is None:
            return None
        preferred = ForceDeviation.of(molecule.deviation, weights)
        worst = ""
        if weights.any():
            chosen = np.where(weights > 0, molecule.deviation, -np.inf)
            worst = labels.atom(int(molecule.numbers[chosen.argmax()])).rstrip(",")
        return cls(ForceDeviation.of(molecule.deviation), preferred, worst)

    def in_words(self, step: int, region: str) -> str:
        """Say where models differ most, as messages begin."""
        return (
            f"step {step}, {region}: the models differ by {self.preferred.max_devi_f:.3g} eV/Å "
            f"about the force on {self.worst}"
        )
