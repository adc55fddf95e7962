# SPDX-License-Identifier: LGPL-3.0-or-later
"""The zinc site in its box of water: topology, force field, DP region, simulation."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import openmm as mm
from openmm import app, unit

from deepmd_mask.openmm import DPRegion, dp_force

EXAMPLE = Path(__file__).resolve().parent
BOX = EXAMPLE / "box.pdb"  # built if it is not there
FIELD = app.ForceField("amber14/protein.ff14SB.xml", "amber14/tip3p.xml")
PROTONATION = {"HIS": "HID"}  # hydrogen on N-delta, zinc on N-epsilon
SOLVENT = ("HOH", "NA", "CL")
PADDING = 1.4  # nm of water; no residue may be farther from zinc than half of the box
CUTOFF = 0.9  # nm
REGION_RADIUS = 0.35  # nm: zinc's first shell, and waters about to enter it
FRICTION = 2.0  # 1/ps
TIMESTEP = 0.004  # ps
HYDROGEN = 3.0  # Da; taken off the atoms that they are bound to, so that such steps will do
SPRING = 40000.0  # kJ/mol/nm², of pulls
RELAXED = 0.21  # nm, Zn-N of both histidines while the box is relaxed


class Box(NamedTuple):
    """A solvated site.

    Attributes
    ----------
    topology
        The peptide, zinc, counter-ions, water.
    positions
        [natoms, 3] in nm.
    """

    topology: app.Topology
    positions: np.ndarray

    def zinc(self):
        """Return the index of zinc."""
        (index,) = [a.index for a in self.topology.atoms() if a.name == "ZN"]
        return index

    def nitrogens(self):
        """Return the indices of the histidines' N-epsilon."""
        return [a.index for a in self.topology.atoms() if a.name == "NE2"]

    def region(self, radius=REGION_RADIUS):
        """Return the DP region: zinc, the whole peptide and the waters within a radius, in nm."""
        peptide = [a.index for a in self.topology.atoms() if a.residue.name not in SOLVENT]
        return DPRegion(
            [self.zinc()],
            radius,
            always=peptide,
            exclude=[name for name in SOLVENT if name != "HOH"],
            name="site",
        )


def load(path):
    """Read a box, or build it if there is no such file."""
    if not path.exists():
        build(path)
    pdb = app.PDBFile(str(path))
    return Box(pdb.topology, nanometers(pdb.positions))


def build(path, steps=1500, iterations=0):
    """Add hydrogens, water and counter-ions to site.pdb, relax all, and write it.

    Parameters
    ----------
    path : pathlib.Path
        Of the file to write.
    steps : int
        Of molecular dynamics after minimisation.
    iterations : int
        Of minimisation at most; 0 for as many as it takes.
    """
    pdb = app.PDBFile(str(EXAMPLE / "site.pdb"))
    modeller = app.Modeller(pdb.topology, pdb.positions)
    variants = [PROTONATION.get(residue.name) for residue in modeller.topology.residues()]
    modeller.addHydrogens(FIELD, variants=variants)
    modeller.addSolvent(FIELD, padding=PADDING, model="tip3p")
    box = Box(modeller.topology, nanometers(modeller.positions))
    relaxing = simulation(box, force_field(box, pulled=True), 300, seed=1)
    relaxing.minimizeEnergy(maxIterations=iterations)
    relaxing.context.setVelocitiesToTemperature(300, 1)
    relaxing.step(steps)
    relaxed = relaxing.context.getState(getPositions=True, enforcePeriodicBox=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".partial").open("w") as file:
        app.PDBFile.writeFile(box.topology, relaxed.getPositions(), file, keepIds=True)
    path.with_suffix(".partial").replace(path)


def force_field(box, pulled=False):
    """Return the System of a box.

    Bonds to hydrogen and water are rigid, so that what the correction says along them, where the
    two levels disagree on the stiffest motions, has no effect.

    Parameters
    ----------
    box : Box
    pulled : bool
        Whether zinc is pulled to each N-epsilon by a spring, `pull_0` and `pull_1` nm long, and has
        a radius that can be changed, by `wider` (sigma, in nm). For sampling.
    """
    system = FIELD.createSystem(
        box.topology,
        nonbondedMethod=app.PME,
        nonbondedCutoff=CUTOFF,
        constraints=app.HBonds,
        rigidWater=True,
        hydrogenMass=HYDROGEN * unit.dalton,
    )
    if not pulled:
        return system
    for k, nitrogen in enumerate(box.nitrogens()):
        pull = mm.CustomBondForce(f"{SPRING / 2}*(r-pull_{k})^2")
        pull.setUsesPeriodicBoundaryConditions(True)
        pull.addGlobalParameter(f"pull_{k}", RELAXED)
        pull.addBond(box.zinc(), nitrogen)
        system.addForce(pull)
    (nonbonded,) = [f for f in system.getForces() if isinstance(f, mm.NonbondedForce)]
    nonbonded.addGlobalParameter("wider", 0.0)
    nonbonded.addParticleParameterOffset("wider", box.zinc(), 0, 1, 0)
    return system


def add_correction(system, box, models):
    """Add the force of a model, or the mean of several, on the DP region to a System."""
    system.addForce(dp_force(models, box.topology, box.region()))


def integrator(temperature):
    """Return Langevin dynamics at a temperature in K."""
    return mm.LangevinMiddleIntegrator(temperature, FRICTION, TIMESTEP)


def simulation(box, system, temperature, seed, threads=None):
    """Return a Simulation with velocities, at the positions of a box.

    Parameters
    ----------
    box : Box
    system : openmm.System
    temperature : float
        In K.
    seed : int
    threads : int, optional
        Of OpenMM; by default as many as there are cores.
    """
    dynamics = integrator(temperature)
    dynamics.setRandomNumberSeed(seed)
    platform = mm.Platform.getPlatform("CPU")
    properties = {"Threads": str(threads or os.cpu_count())}
    started = app.Simulation(box.topology, system, dynamics, platform, properties)
    started.context.setPositions(box.positions)
    started.context.setVelocitiesToTemperature(temperature, seed)
    return started


def nanometers(lengths):
    """Return lengths as an array in nm."""
    return np.array(lengths.value_in_unit(unit.nanometer))
