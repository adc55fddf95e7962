# SPDX-License-Identifier: LGPL-3.0-or-later
"""Outputs of Q-Chem, Psi4 and Molpro, through cclib, which is optional.

Only programs are let through of which it is known that cclib gives the gradient, not its
negative, in the axes of the positions. Those that ASE reads are left to it.
"""

import logging
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import numpy as np

from ....shared.reason import reason_of
from ...frame import Frame, Incomplete
from .outputs import Output
from .units import Units

_CHECKED = ("QChem", "Psi4", "Molpro")
# What their outputs have in their first lines.
_TRADEMARKS = {
    "Q-Chem": b"A Quantum Leap Into The Future Of Chemistry",
    "Psi4": b"Psi4: An Open-Source Ab Initio Electronic Structure Package",
    "Molpro": b"PROGRAM SYSTEM MOLPRO",
}
_PEEK = 100_000  # bytes
_ENERGIES = ("scfenergies", "mpenergies", "ccenergies", "dispersionenergies")


def program_of(path: str) -> str | None:
    """Return the program whose output a file is, if it is one of those here."""
    from ase.io.formats import open_with_compression  # noqa: PLC0415  ASE takes its time

    with open_with_compression(path, "rb") as file:
        head = file.read(_PEEK)
    return next((name for name, mark in _TRADEMARKS.items() if mark in head), None)


def read_cclib(
    path: str, options: dict[str, Any], units: Units, where: str
) -> Iterator[Frame | Incomplete]:
    """Read an output.

    Parameters
    ----------
    path
        Of the file.
    options
        ``energy``: the name in cclib of the energies to which the gradients belong, as
        scfenergies, mpenergies, ccenergies, or a sum as scfenergies+dispersionenergies.
    units
        Of the user; must be none, since cclib knows them.
    where
        What the user calls it, for messages.

    Raises
    ------
    ValueError
        If cclib is missing, or what it finds does not fit together.
    """
    units.require_none(where, "cclib")
    if set(options) - {"energy"}:
        raise ValueError(f"{where}: cclib:PATH has the option energy only, as ?energy=ccenergies")
    parsed, program = _parse(path, where)
    gradients = getattr(parsed, "grads", ())
    if len(gradients) == 0:
        yield Incomplete(where, "no forces", f"this output of {program} has no gradient")
        return
    # Outputs repeat the geometry at the end of an optimisation.
    positions = _without_repetition(np.asarray(parsed.atomcoords, dtype=float))
    energies = _energies(parsed, options, where)
    if not len(gradients) == len(positions) == len(energies):
        raise ValueError(
            f"{where}: cclib finds {len(positions)} geometries, {len(energies)} energies and "
            f"{len(gradients)} gradients in this output of {program}, so that it is not clear "
            "which belong together; give each geometry a run of its own"
        )
    from ase.data import chemical_symbols  # noqa: PLC0415
    from ase.units import Bohr, Hartree  # noqa: PLC0415

    names = np.array([chemical_symbols[number] for number in parsed.atomnos])
    output = Output.of(path, "cclib")
    for number, (r, energy, gradient) in enumerate(
        zip(positions, energies, gradients, strict=True)
    ):
        forces = -np.asarray(gradient, dtype=float) * (Hartree / Bohr)
        place = f"{where}, frame {number}"
        if forces.shape != r.shape:
            message = f"its gradient has the shape {forces.shape}, and its positions {r.shape}"
            raise ValueError(f"{place}: {message}")
        frame = Frame(place, names, r, float(energy), forces, False, {})
        yield frame if output is None else output.judge(frame, sliced=False)


def _parse(path: str, where: str) -> tuple[Any, str]:
    try:
        import cclib.io.ccio  # noqa: PLC0415
    except ImportError:
        program = program_of(path)
        what = f"outputs of {program} are" if program else "it is"
        raise ValueError(
            f"{where}: {what} read by cclib, which is not installed: pip install "
            '"deepmd-mask[cclib]"'
        ) from None
    try:
        parser = cclib.io.ccio.ccopen(path, loglevel=logging.CRITICAL)
    except Exception as error:  # parsers raise whatever they meet
        raise ValueError(f"{where}: cclib cannot read it ({reason_of(error)})") from error
    program = type(parser).__name__
    if program not in _CHECKED:
        found = "cclib does not know it" if parser is None else f"it is an output of {program}"
        raise ValueError(
            f"{where}: {found}, and through cclib only those of Q-Chem, Psi4 and Molpro are "
            "read; name a format of ASE or dpdata, as in gaussian-out:PATH"
        )
    try:
        return parser.parse(), program
    except Exception as error:  # as above
        raise ValueError(f"{where}: cclib cannot read it ({reason_of(error)})") from error


def _without_repetition(positions: np.ndarray) -> np.ndarray:
    moved = np.abs(np.diff(positions, axis=0)).max(axis=(1, 2), initial=0) > 1e-6
    return positions[np.concatenate([[True], moved])]


def _energies(parsed: Any, options: dict[str, Any], where: str) -> np.ndarray:
    """Return the energies to which the gradients belong, in eV."""
    there = [name for name in _ENERGIES if len(np.ravel(getattr(parsed, name, ()))) > 0]
    chosen = options.get("energy")
    if chosen is None:
        if there != ["scfenergies"]:
            raise ValueError(
                f"{where}: cclib finds {', '.join(there) or 'no energies'}; say to which the "
                "gradients belong, as in cclib:PATH?energy=ccenergies or "
                "?energy=scfenergies+dispersionenergies, if the first do not contain the second"
            )
        chosen = "scfenergies"
    total: Any = 0.0
    for name in str(chosen).split("+"):
        if name not in there:
            raise ValueError(
                f"{where}: cclib finds no {name} in it, but {', '.join(there) or 'no energies'}"
            )
        values = np.asarray(getattr(parsed, name), dtype=float)
        # Of MP2, MP3, … the last one is the energy of the method.
        values = values[:, -1] if values.ndim == 2 else values
        total = total + values * _in_ev()
    return np.atleast_1d(total)


def _in_ev() -> float:
    """Return the factor to eV of cclib's energies, which are in hartree from version 2 on."""
    from ase.units import Hartree  # noqa: PLC0415

    if int(version("cclib").split(".")[0]) >= 2:
        return Hartree
    from cclib.parser.utils import convertor  # noqa: PLC0415

    # Its hartree is not quite that of the other readers.
    return Hartree / convertor(1.0, "hartree", "eV")
