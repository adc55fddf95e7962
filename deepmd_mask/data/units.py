# SPDX-License-Identifier: LGPL-3.0-or-later
"""Units of energies and forces by name, as factors to eV and eV/Å."""

from ase import units

_ENERGY = {
    "ev": units.eV,
    "mev": 1e-3 * units.eV,
    "hartree": units.Hartree,
    "ha": units.Hartree,
    "rydberg": units.Rydberg,
    "ry": units.Rydberg,
    "kcal": units.kcal,
    "kj": units.kJ,
}
_LENGTH = {
    "å": units.Angstrom,
    "angstrom": units.Angstrom,
    "ang": units.Angstrom,
    "bohr": units.Bohr,
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
    name = unit.lower().strip()
    molar = name.endswith("/mol")
    energy = _ENERGY.get(name.removesuffix("/mol"))
    if energy is None or molar != (name.removesuffix("/mol") in ("kcal", "kj")):
        raise ValueError(
            f'"{unit}" is no unit of energy; there are eV, meV, hartree, rydberg, kcal/mol, kJ/mol'
        )
    return energy / units.mol if molar else energy


def force_factor(unit: str) -> float:
    """Return what a force is multiplied by to have it in eV/Å.

    Parameters
    ----------
    unit
        An energy and a length, as "eV/Å", "hartree/bohr", "kJ/mol/nm".

    Raises
    ------
    ValueError
        Naming the units that there are.
    """
    energy, _, length = unit.rpartition("/")
    per_length = _LENGTH.get(length.lower().strip())
    if not energy or per_length is None:
        raise ValueError(
            f'"{unit}" is no unit of force; write ENERGY/LENGTH, with a length among Å (angstrom), '
            "bohr, nm, as in hartree/bohr"
        )
    return energy_factor(energy) / per_length
