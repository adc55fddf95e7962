# SPDX-License-Identifier: LGPL-3.0-or-later
"""Levels of theory: ASE calculators and commands, and differences of them."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..data.frame import Incomplete
from ..data.packing.sources import read_frames
from .calling import function_of
from .frames import write_frames
from .processes import run_or_raise

if TYPE_CHECKING:
    from ase import Atoms

UNMOVED = 1e-3  # Å; an output's atoms may be so far from where they were
Evaluate = Callable[["Atoms", Path], tuple[float, np.ndarray]]


class LevelOfTheory(NamedTuple):
    """A level of theory.

    Attributes
    ----------
    sign
        1, or -1 for what is subtracted.
    evaluate
        Returns energy and forces [natoms, 3], eV and eV/Å, given a frame and a folder to work in.
    """

    sign: int
    evaluate: Evaluate


def parse(levels: Any) -> list[tuple[int, str | dict]]:
    """Return the signs and names of what `label` lists.

    Raises
    ------
    ValueError
        If it lists what is no level, or subtracts only.
    """
    found: list[tuple[int, str | dict]] = []
    for level in levels if isinstance(levels, list) else [levels]:
        sign, named = 1, level
        if isinstance(level, dict) and set(level) == {"minus"}:
            sign, named = -1, level["minus"]
        good = isinstance(named, str) and ":" in named
        if isinstance(named, dict):
            good = "command" in named and set(named) <= {"command", "output"}
            good = good and all(isinstance(text, str) for text in named.values())
        if not good:
            raise ValueError(
                f"label: {level!r} is no level; give module:factory, or command: … and output: …, "
                "or minus: with one of these"
            )
        found.append((sign, named))
    if not any(sign > 0 for sign, _ in found):
        raise ValueError("label: there is nothing to subtract from; name a level without minus")
    return found


def load(levels: Any, common: Path) -> list[LevelOfTheory]:
    """Return levels that are ready, given the folder of the user's files."""
    return [
        LevelOfTheory(
            sign,
            _calculator(function_of(named)) if isinstance(named, str) else _command(named, common),
        )
        for sign, named in parse(levels)
    ]


def evaluate(levels: list[LevelOfTheory], atoms: "Atoms", folder: Path) -> tuple[float, np.ndarray]:
    """Return energy and forces [natoms, 3] of a frame, with what is subtracted.

    Raises
    ------
    Exception
        Whatever a calculator raises; ValueError, if what it gives is not finite.
    """
    energy, forces = 0.0, np.zeros((len(atoms), 3))
    for number, level in enumerate(levels):
        of_level = level.evaluate(atoms.copy(), folder / f"level_{number}")
        energy, forces = energy + level.sign * of_level[0], forces + level.sign * of_level[1]
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        raise ValueError("energy or forces are not finite")
    return energy, forces


def _calculator(factory: Callable) -> Evaluate:
    def evaluated(atoms: "Atoms", _: Path) -> tuple[float, np.ndarray]:
        atoms.calc = factory(atoms)
        return float(atoms.get_potential_energy()), atoms.get_forces(apply_constraint=False)

    return evaluated


def _command(named: dict, common: Path) -> Evaluate:
    def evaluated(atoms: "Atoms", folder: Path) -> tuple[float, np.ndarray]:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_frames(folder / "frame.xyz", [atoms])
        run_or_raise(
            named["command"].replace("{common}", str(common)),
            cwd=folder,
            env=environment(common),
        )
        found = _output(folder / named.get("output", "labelled.xyz"), atoms)
        shutil.rmtree(folder)  # one that failed stays, with what the program has said
        return found

    return evaluated


def environment(common: Path) -> dict[str, str]:
    """Return the environment of the user's commands: this Python first, and the user's modules."""
    python = os.pathsep.join([str(common), *filter(None, [os.environ.get("PYTHONPATH")])])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PYTHONPATH": python, "PATH": path}


def _output(path: Path, atoms: "Atoms") -> tuple[float, np.ndarray]:
    if not path.exists():
        raise ValueError(f"the command has written no {path.name}")
    *_, frame = read_frames(path)
    if isinstance(frame, Incomplete):
        raise ValueError(frame.message)
    if frame.names.tolist() != atoms.get_chemical_symbols():
        raise ValueError(f"{path.name} has other atoms, or in another order, than frame.xyz")
    away = np.abs(frame.positions - atoms.positions).max()
    if not away < UNMOVED:
        raise ValueError(
            f"in {path.name} atoms are up to {away:.3g} Å from where they are in frame.xyz; the "
            "program must neither turn nor move them"
        )
    return frame.energy, frame.forces
