# SPDX-License-Identifier: LGPL-3.0-or-later
"""Small systems for OpenMM: a zinc ion among molecules of carbon monoxide."""

from typing import NamedTuple

import numpy as np
import openmm as mm
from openmm import app, unit

BOND = 0.115  # nm


class Solvated(NamedTuple):
    """A system without a force of this package, and where its atoms are.

    Attributes
    ----------
    topology
        The zinc ion, atom 0, then molecules of two atoms.
    system
        With bonds and Lennard-Jones forces.
    positions
        [natoms, 3] in nm.
    """

    topology: app.Topology
    system: mm.System
    positions: np.ndarray

    def simulation(self, *forces, platform="Reference", integrator=None):
        """Return a Simulation of the system and these forces, which changes neither."""
        system = mm.XmlSerializer.clone(self.system)
        for force in forces:
            system.addForce(force)
        return simulation(self, system, platform, integrator)

    @property
    def box(self):
        """[3, 3] in nm, or None."""
        box = self.topology.getPeriodicBoxVectors()
        return box if box is None else np.array(box.value_in_unit(unit.nanometer))


def simulation(solvated, system, platform="Reference", integrator=None):
    """Return a Simulation of a system at the positions that are known."""
    integrator = integrator or mm.VerletIntegrator(0.0005)
    found = app.Simulation(
        solvated.topology, system, integrator, mm.Platform.getPlatformByName(platform)
    )
    found.context.setPositions(solvated.positions)
    return found


def solvate(nmolecules, spacing=0.34, periodic=True, seed=0):
    """Build a system.

    Parameters
    ----------
    nmolecules
        Number of molecules, on the points of a lattice round the ion that are nearest to it.
    spacing
        Of the lattice, in nm.
    periodic
        Whether there is a box, twice as wide as the lattice; otherwise springs hold all together.
    seed
        Of how molecules lie.
    """
    rng = np.random.default_rng(seed)
    side = int(np.ceil((nmolecules + 1) ** (1 / 3)))
    lattice = spacing * np.stack(np.unravel_index(np.arange(side**3), [side] * 3), axis=1)
    lattice = lattice[np.argsort(np.linalg.norm(lattice - lattice.mean(axis=0), axis=1))]
    directions = rng.normal(size=(nmolecules, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    positions, topology = [lattice[0]], app.Topology()
    add_residue(topology, "ZN", "Zn")
    for point, direction in zip(lattice[1 : nmolecules + 1], directions, strict=True):
        carbon, oxygen = add_residue(topology, "CO", "C", "O")
        topology.addBond(carbon, oxygen)
        positions += [point, point + BOND * direction]
    if periodic:
        topology.setPeriodicBoxVectors(2 * side * spacing * np.eye(3) * unit.nanometer)
    return Solvated(topology, force_field(topology, periodic), np.array(positions))


def add_residue(topology, name, *symbols):
    """Add a residue to the topology and return its atoms."""
    chain = next(topology.chains(), None) or topology.addChain("A")
    residue = topology.addResidue(name, chain)
    return [
        topology.addAtom(symbol, app.Element.getBySymbol(symbol), residue) for symbol in symbols
    ]


def force_field(topology, periodic):
    """Return a system with springs for bonds and a Lennard-Jones force."""
    system = mm.System()
    bonds, lennard_jones = mm.HarmonicBondForce(), mm.NonbondedForce()
    lennard_jones.setUseDispersionCorrection(False)  # pairs only, so that energies of parts add up
    for atom in topology.atoms():
        system.addParticle(atom.element.mass)
        lennard_jones.addParticle(0, 0.28, 0.4)
    for first, second in topology.bonds():
        bonds.addBond(first.index, second.index, BOND, 1e5)
        lennard_jones.addException(first.index, second.index, 0, 1, 0)
    system.addForce(bonds)
    system.addForce(lennard_jones)
    if periodic:
        system.setDefaultPeriodicBoxVectors(*topology.getPeriodicBoxVectors())
        lennard_jones.setNonbondedMethod(mm.NonbondedForce.CutoffPeriodic)
        lennard_jones.setCutoffDistance(0.45)
        lennard_jones.setUseSwitchingFunction(True)
        lennard_jones.setSwitchingDistance(0.4)
    else:
        together = mm.CustomExternalForce("100*(x^2+y^2+z^2)")
        for atom in topology.atoms():
            together.addParticle(atom.index)
        system.addForce(together)
    return system
