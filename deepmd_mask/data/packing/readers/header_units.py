# SPDX-License-Identifier: LGPL-3.0-or-later
"""Units that a frame itself states, as extended XYZ does with ``energy-unit=hartree``.

There is no standard of it. Understood are keys with "unit" or "units" before or behind the
quantity, in any of the spellings energy-unit, forces_units, posUnit, unit_of_length.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...frame import Keys
from .units import Units, energy_factor, force_factor, length_factor

_KINDS = {
    "energy": ("energy", "energies", "e"),
    "force": ("force", "forces", "f"),
    "length": (
        "length", "distance", "distances", "pos", "position", "positions", "coord", "coords",
        "coordinate", "coordinates", "r",
    ),
}  # fmt: skip
_OF_NO_LABEL = (
    "cell", "lattice", "charge", "charges", "dipole", "polarizability", "quadrupole", "mass",
    "masses", "momenta", "pressure", "stress", "temperature", "time", "velocities", "velocity",
    "virial", "volume",
)  # fmt: skip
_FACTORS: dict[str, Callable[[str], float]] = {
    "energy": energy_factor,
    "force": force_factor,
    "length": length_factor,
}
_SUFFIX = re.compile(r"(?P<of>.*?)[-_. ]?(?:units?|Units?|UNITS?)")
_PREFIX = re.compile(r"(?:units?|Units?|UNITS?)[-_. ]?(?:of[-_. ])?(?P<of>.+)")


@dataclass(frozen=True)
class Stated:
    """A unit that a frame states.

    Attributes
    ----------
    text
        Key and value, as the source has them.
    factor
        To eV, eV/Å or Å.
    """

    text: str
    factor: float


def stated_units(place: str, info: Mapping[str, Any], keys: Keys) -> dict[str, Stated]:
    """Return the units that a frame states, for "energy", "force" and "length".

    Parameters
    ----------
    place
        Of the frame, for messages.
    info
        What the frame says beside its numbers, by key.
    keys
        Names of the labels, whose units they may be.

    Raises
    ------
    ValueError
        Naming frame, key and value, if a unit is unknown, or it is not clear of what it is.
    """
    found: dict[str, Stated] = {}
    for key, value in info.items():
        of = _quantity(str(key))
        if of is None:
            continue
        text = f"{key}={value}"
        if of.lower().strip("-_. ").startswith("grad"):
            raise ValueError(
                f"{place}: it says {text}, and gradients have the other sign than forces; write "
                "their negative, or force-unit=… if the numbers are forces"
            )
        kind = _kind(of, keys)
        if not isinstance(value, str):
            is_count = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
            name = of.lower().strip("-_. ")
            if kind is None and (name in _OF_NO_LABEL or (name and is_count)):  # formula_units=4
                continue
            raise ValueError(
                f"{place}: it says {text}, which is no name of a unit, as in energy-unit=hartree; "
                "convert the numbers, and take this entry out"
            )
        if kind is None and of.lower() not in _OF_NO_LABEL:
            _require_harmless(place, text, value, whole=not of)
        if kind is None:
            continue
        try:
            factor = _FACTORS[kind](value)
        except ValueError as error:
            raise ValueError(
                f"{place}: it says {text}, and {error}; convert the numbers, or mend this entry"
            ) from None
        if kind in found and found[kind].factor != factor:
            raise ValueError(f"{place}: it says both {found[kind].text} and {text}; take one out")
        found[kind] = Stated(text, factor)
    return found


def _quantity(key: str) -> str | None:
    """Return of what a key gives the unit: "" of everything, None if it gives none."""
    match = _SUFFIX.fullmatch(key) or _PREFIX.fullmatch(key)
    return None if match is None else match["of"]


def _kind(of: str, keys: Keys) -> str | None:
    name = of.lower().strip("-_. ")
    for kind, names in _KINDS.items():
        if name in names:
            return kind
    return {keys.energy.lower(): "energy", keys.forces.lower(): "force"}.get(name)


def _require_harmless(place: str, text: str, value: str, whole: bool) -> None:
    """Refuse what looks like another unit than eV, eV/Å or Å of some quantity.

    Units of stress, charge and others do not look like that.
    """
    factors = []
    for factor in _FACTORS.values():
        try:
            factors.append(factor(value))
        except ValueError:
            continue
    usual = 1.0 in factors or value.lower().strip() == "metal"
    if not usual and (factors or whole):
        raise ValueError(
            f"{place}: it says {text}, and it is not clear of which numbers; say it as "
            "energy-unit=…, force-unit=… and position-unit=…, or take the entry out if energies "
            "are in eV, forces in eV/Å and positions in Å"
        )


def factors_of(
    place: str, info: Mapping[str, Any], keys: Keys, units: Units
) -> tuple[float, float, float]:
    """Return what energy, forces and positions are multiplied by.

    Parameters
    ----------
    place, info, keys
        As for ``stated_units``.
    units
        Of the user. They may say what the frame does not, and the same as the frame.

    Raises
    ------
    ValueError
        If frame and user disagree, or only some quantities are said to have an unusual unit.
    """
    stated = stated_units(place, info, keys)
    energy, force = units.factors(place, stated)
    if not stated:
        return energy, force, 1.0
    for kind, given, factor in (("energy", units.energy, energy), ("force", units.force, force)):
        there = stated.get(kind)
        if given is not None and there is not None and abs(factor / there.factor - 1) > 1e-6:
            raise ValueError(
                f"{place}: it says {there.text}, but `{kind}_unit` is {given}; leave the option "
                "out, or mend the file"
            )
    unusual = [entry.text for entry in stated.values() if entry.factor != 1.0]
    for kind, given in {"energy": units.energy, "force": units.force}.items():
        if unusual and given is None and kind not in stated:
            raise ValueError(
                f"{place}: it says {', '.join(unusual)}, and nothing of the unit of "
                f"{'energies' if kind == 'energy' else 'forces'}; add {kind}-unit=… there, or "
                f"give `{kind}_unit`"
            )
    return (
        stated["energy"].factor if "energy" in stated else energy,
        stated["force"].factor if "force" in stated else force,
        stated["length"].factor if "length" in stated else 1.0,
    )
