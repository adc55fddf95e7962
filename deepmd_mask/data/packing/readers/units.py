# SPDX-License-Identifier: LGPL-3.0-or-later
"""Units of energies, forces and lengths by name, as factors to eV, eV/Å and Å."""

from collections.abc import Collection
from dataclasses import dataclass

from ase import units

_ENERGY = {
    "ev": units.eV,
    "mev": 1e-3 * units.eV,
    "hartree": units.Hartree,
    "ha": units.Hartree,
    "eh": units.Hartree,
    "au": units.Hartree,
    "a.u.": units.Hartree,
    "rydberg": units.Rydberg,
    "ry": units.Rydberg,
    "kcal/mol": units.kcal / units.mol,
    "kcal_mol": units.kcal / units.mol,
    "kj/mol": units.kJ / units.mol,
    "kj_mol": units.kJ / units.mol,
}
_LENGTH = {
    "å": units.Angstrom,
    "a": units.Angstrom,
    "angstrom": units.Angstrom,
    "angstroms": units.Angstrom,
    "ang": units.Angstrom,
    "ang.": units.Angstrom,
    "bohr": units.Bohr,
    "a0": units.Bohr,
    "au": units.Bohr,
    "a.u.": units.Bohr,
    "nm": units.nm,
}


def energy_factor(unit: str) -> float:
    """Return what an energy is multiplied by to have it in eV.

    Parameters
    ----------
    unit
        As "eV", "hartree", "kcal/mol"; capital letters or not. Values as in ``ase.units``.

    Raises
    ------
    ValueError
        Naming the units that there are.
    """
    factor = _ENERGY.get(unit.lower().strip())
    if factor is None:
        raise ValueError(
            f'"{unit}" is no unit of energy; there are eV, meV, hartree, rydberg, kcal/mol, kJ/mol'
        )
    return factor


def length_factor(unit: str) -> float:
    """Return what a length is multiplied by to have it in Å.

    Raises
    ------
    ValueError
        Naming the units that there are.
    """
    factor = _LENGTH.get(unit.lower().strip())
    if factor is None:
        raise ValueError(f'"{unit}" is no unit of length; there are Å (angstrom), bohr, nm')
    return factor


def force_factor(unit: str) -> float:
    """Return what a force is multiplied by to have it in eV/Å.

    Parameters
    ----------
    unit
        An energy and a length, as "eV/Å", "hartree/bohr", "kJ/mol/nm"; "au" for hartree/bohr.

    Raises
    ------
    ValueError
        Naming the units that there are.
    """
    if unit.lower().strip() in ("au", "a.u."):
        return units.Hartree / units.Bohr
    energy, _, length = unit.rpartition("/")
    per_length = _LENGTH.get(length.lower().strip())
    if not energy or per_length is None:
        raise ValueError(
            f'"{unit}" is no unit of force; write ENERGY/LENGTH, with a length among Å (angstrom), '
            "bohr, nm, as in hartree/bohr"
        )
    return energy_factor(energy) / per_length


@dataclass(frozen=True)
class Units:
    """Units of the labels as the user gave them.

    Attributes
    ----------
    energy, force
        Names; None for what the source itself says, and eV and eV/Å if it says nothing.

    Raises
    ------
    ValueError
        If one is unknown.
    """

    energy: str | None = None
    force: str | None = None

    def __post_init__(self) -> None:
        """Complain early."""
        for name, unit, factor in (
            ("energy_unit", self.energy, energy_factor),
            ("force_unit", self.force, force_factor),
        ):
            try:
                factor(unit) if unit is not None else None
            except ValueError as error:
                raise ValueError(f"`{name}`: {error}") from None

    def factors(self, place: str, stated: Collection[str] = ()) -> tuple[float, float]:
        """Return what energies and forces are multiplied by where the source does not say.

        Parameters
        ----------
        place
            Source or frame, for the message.
        stated
            Which of "energy" and "force" the source itself says.

        Raises
        ------
        ValueError
            If one has an unusual unit, and nothing says that of the other.
        """
        energy, force = self._factors()
        for of, unit, factor, other, usual in (
            ("energy", self.energy, energy, "force", "eV/Å"),
            ("force", self.force, force, "energy", "eV"),
        ):
            if factor != 1.0 and getattr(self, other) is None and other not in stated:
                raise ValueError(
                    f"{place}: `{of}_unit` is {unit}, and nothing is said of the unit of "
                    f"{'forces' if other == 'force' else 'energies'}; give `{other}_unit`, too, "
                    f"if only as {usual}"
                )
        return energy, force

    def _factors(self) -> tuple[float, float]:
        return (
            1.0 if self.energy is None else energy_factor(self.energy),
            1.0 if self.force is None else force_factor(self.force),
        )

    def require_none(self, place: str, reader: str) -> None:
        """Refuse units where the reader converts, so that nothing is converted twice.

        Parameters
        ----------
        place, reader
            Source and what reads it, for the message.
        """
        for name, unit, factor in zip(
            ("energy_unit", "force_unit"), (self.energy, self.force), self._factors(), strict=True
        ):
            if factor != 1.0:
                raise ValueError(
                    f"{place}: {reader} gives eV and eV/Å whatever the file has, so `{name}` must "
                    f"not be {unit} for it; leave that out, and pack sources of which it is true "
                    "on their own"
                )
