# SPDX-License-Identifier: LGPL-3.0-or-later
"""The droplet of examples/dpmm_openmm that smooth edges are measured in, and how one is calibrated.

Zinc, its peptide and the waters nearest to it, without a box.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openmm as mm
from openmm import app, unit
from tqdm import tqdm

from deepmd_mask.openmm import DPRegion, dp_force
from deepmd_mask.openmm.force import DPTerm
from deepmd_mask.openmm.options import Options
from deepmd_mask.openmm.term import make_term

sys.path.append(str(Path(__file__).resolve().parent.parent / "examples" / "dpmm_openmm"))
from system import FIELD, SOLVENT, SPRING, load

HERE = Path(__file__).resolve().parent
RADIUS, BUFFER = 0.38, 0.1  # nm; the first shell, and in part waters about to enter it
SIZE = 0.85  # nm, of whole waters round zinc
WALL = 0.25  # nm, Zn-N up to which nothing holds a histidine
OUTER_WALL = 0.9  # nm
FRICTION = 5.0  # 1/ps, while it is equilibrated
FRAMES = 40  # to calibrate on, of each of three simulations
BETWEEN = 50  # steps between these


class Droplet:
    """Zinc, its peptide and the waters nearest to it, without a box.

    Parameters
    ----------
    box
        Path of the example's box, which is built if it is not there.
    radius
        Of regions, in nm.
    """

    def __init__(self, box: Path, radius: float) -> None:
        self.radius = radius
        whole = load(box)
        lengths = whole.topology.getUnitCellDimensions().value_in_unit(unit.nanometer)
        region = replace(whole.region(), radius=0.01)
        site, coordinates = region.cut(whole.topology, whole.positions)
        placed = dict(zip(site.tolist(), coordinates, strict=True))
        for water in (r for r in whole.topology.residues() if r.name == "HOH"):
            atoms = [atom.index for atom in water.atoms()]
            r = whole.positions[atoms] - whole.positions[whole.zinc()]
            r -= np.rint(r[0] / lengths) * lengths
            if np.linalg.norm(r[0]) < SIZE:
                placed |= dict(zip(atoms, r, strict=True))
        modeller = app.Modeller(whole.topology, whole.positions * unit.nanometer)
        modeller.delete([atom for atom in whole.topology.atoms() if atom.index not in placed])
        modeller.topology.setPeriodicBoxVectors(None)
        self.topology = modeller.topology
        self.positions = np.array([placed[atom] for atom in sorted(placed)])
        atoms = list(self.topology.atoms())
        self.zinc = next(a.index for a in atoms if a.name == "ZN")
        self.nitrogens = [a.index for a in atoms if a.name == "NE2"]
        self.peptide = [a.index for a in atoms if a.residue.name not in SOLVENT]

    def region(self, **edge: Any) -> DPRegion:
        """Return the example's region, with an edge of this kind."""
        return DPRegion([self.zinc], self.radius, always=self.peptide, **edge)

    def simulation(
        self, model: Path | None, region: DPRegion | None, integrator: mm.Integrator
    ) -> app.Simulation:
        """Return a Simulation with the model on a region, or with the force field alone."""
        system = FIELD.createSystem(
            self.topology, nonbondedMethod=app.NoCutoff, constraints=app.HBonds, rigidWater=True
        )
        wall = mm.CustomBondForce(f"{SPRING / 2}*max(0, r-{WALL})^2")
        for nitrogen in self.nitrogens:
            wall.addBond(self.zinc, nitrogen)
        system.addForce(wall)
        together = mm.CustomExternalForce(f"500*max(0, sqrt(x^2+y^2+z^2)-{OUTER_WALL})^2")
        for atom in self.topology.atoms():
            if atom.residue.name == "HOH" and atom.name == "O":
                together.addParticle(atom.index)
        system.addForce(together)
        if model is not None and region is not None:
            system.addForce(dp_force(model, self.topology, region, device="cpu"))
        integrator.setConstraintTolerance(1e-9)
        platform = mm.Platform.getPlatform("Reference")  # in double precision
        running = app.Simulation(self.topology, system, integrator, platform)
        running.context.setPositions(self.positions)
        return running


def thermostat(seed: int) -> mm.Integrator:
    """Return what equilibrates."""
    integrator = mm.LangevinMiddleIntegrator(300, FRICTION, 0.001)
    integrator.setRandomNumberSeed(seed)
    return integrator


def sample(running: app.Simulation, what: str) -> list[np.ndarray]:
    """Run, and return positions."""
    frames = []
    for _ in tqdm(range(FRAMES), what, leave=False):
        running.step(BETWEEN)
        found = running.context.getState(getPositions=True)
        frames.append(found.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
    return frames


def term_of(model: Path, droplet: Droplet, region: DPRegion) -> DPTerm:
    """Return what evaluates the model in a region, outside of OpenMM too."""
    return make_term(model, droplet.topology, [region], Options(device="cpu"))


class Prepared(NamedTuple):
    """What simulations of a region with a smooth edge begin with.

    Attributes
    ----------
    region
        Calibrated.
    frames
        [nframes, natoms, 3] in nm, those that it was calibrated on.
    state
        Of its own dynamics at 300 K.
    """

    region: DPRegion
    frames: np.ndarray
    state: mm.State


def prepare(droplet: Droplet, model: Path, buffer: float) -> Prepared:
    """Calibrate a region, on frames of the force field, of an abrupt region, and of a smooth one.

    The latter is first calibrated on the others, so that it has a reference.
    """
    running = droplet.simulation(None, None, thermostat(1))
    running.minimizeEnergy()
    running.context.setVelocitiesToTemperature(300, 1)
    frames = sample(running, "force field, for calibration")
    state = running.context.getState(getPositions=True, getVelocities=True)
    blank = droplet.region(buffer=buffer)
    for seed, name in enumerate(("abrupt", "smooth"), start=2):
        region = droplet.region()
        if name == "smooth":
            region = blank.calibrate(model, droplet.topology, frames)
        running = droplet.simulation(model, region, thermostat(seed))
        running.context.setState(state)
        frames += sample(running, f"{name} region, for calibration")
    region = blank.calibrate(model, droplet.topology, frames)
    running = droplet.simulation(model, region, thermostat(4))
    running.context.setState(state)
    sample(running, "equilibration")
    state = running.context.getState(getPositions=True, getVelocities=True)
    return Prepared(region, np.array(frames), state)
