# SPDX-License-Identifier: LGPL-3.0-or-later
"""A zinc ion with some waters: how it is explored, and labelled."""

from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import Calculator
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from deepmd_mask.ase import MaskedDP

TIMESTEP, FRICTION = 0.5 * units.fs, 0.02 / units.fs
CHARGE = 2  # of zinc with its waters
DIRECTIONS = np.vstack([np.eye(3), -np.eye(3)])  # of the waters of an octahedron


def cluster(waters: int, rng: np.random.Generator) -> Atoms:
    """Return zinc with waters around it, each turned about its Zn-O axis."""
    atoms = Atoms("Zn")
    for direction in DIRECTIONS[:waters]:
        water = molecule("H2O")
        water.translate(-water.positions[0])
        bisector = water.positions[1:].mean(axis=0)
        water.rotate(bisector, direction)
        water.rotate(rng.uniform(0, 360), direction)
        water.translate(rng.uniform(1.95, 2.2) * direction)
        atoms += water
    return atoms


def explore(
    committee: list[str],
    folder: Path,
    task: int,
    seed: int,
    temperature: float,
    steps: int,
    interval: int,
    stop: float,
) -> None:
    """Explore: write the frames of a trajectory, with the committee's mean force, to frames.xyz.

    Parameters
    ----------
    committee
        Frozen models; none in the beginning, where GFN1-xTB stands in for them.
    folder
        To write to.
    task
        Number of the trajectory, which says how many waters there are.
    seed
        Of this trajectory in this iteration.
    temperature, steps, interval, stop
        The options of learn.yaml.
    """
    rng = np.random.default_rng(seed)
    atoms = cluster(4 + task % 3, rng)
    atoms.calc = MaskedDP(committee) if committee else gfn1(atoms)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    dynamics = Langevin(
        atoms,
        0.5 * units.fs,
        temperature_K=temperature,
        friction=0.02 / units.fs,
        fixcm=False,
        rng=rng,
    )
    frames: list[Atoms] = []
    for left in reversed(range(steps // interval)):
        dynamics.run(interval)
        frame = Atoms(atoms.symbols, atoms.positions)
        frames.append(frame)
        deviation = atoms.calc.results.get("deviation")
        if deviation is not None:  # of the force on each atom
            frame.set_array("deviation", deviation)
            if not deviation.max() < stop:
                frame.info["lost"] = left  # frames that do not come count as failed
                break
    ase.io.write(folder / "frames.xyz", frames)


def gfn2(atoms: Atoms) -> Calculator:
    """Label: return GFN2-xTB for a frame, which the models shall learn."""
    return _xtb("GFN2-xTB")


def gfn1(atoms: Atoms) -> Calculator:
    """Return GFN1-xTB, which explores as long as there are no models."""
    return _xtb("GFN1-xTB")


def _xtb(method: str) -> Calculator:
    from tblite.ase import TBLite  # noqa: PLC0415  only levels of theory need it

    return TBLite(method=method, charge=CHARGE, verbosity=0)
