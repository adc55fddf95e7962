# SPDX-License-Identifier: LGPL-3.0-or-later
"""The force on regions: a PythonForce that evaluates a model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import openmm
from openmm import app, unit

from .layout import DPRegion, Labels, plain
from .region import Region

if TYPE_CHECKING:
    from ..evaluator import Evaluator

LOCK = Lock()  # an Evaluator reuses its buffers


class Part(NamedTuple):
    """A region in one configuration, and what the model gives for it.

    Attributes
    ----------
    region
        The region.
    atoms
        [n] int, its members.
    energy
        In kJ/mol.
    forces
        [n, 3] in kJ/mol/nm.
    """

    region: Region
    atoms: np.ndarray
    energy: float
    forces: np.ndarray


@dataclass(eq=False)
class DPTerm:
    """What OpenMM calls for the energy and forces of regions; `dp_force` makes it.

    Pickled, as in a serialised System, it has the path of the model, not the model.

    Parameters
    ----------
    model
        Path of the frozen model.
    regions
        The regions.
    labels
        Of all atoms.
    visible
        [n] int, the atoms that OpenMM hands over; None if all.
    periodic
        Whether there is a box.
    scale
        Name of the global parameter that multiplies energy and forces.
    length, energy
        The model's units in nm and kJ/mol.
    _evaluator, _types
        The model, and the type of each atom in it; `load` sets them.
    """

    model: str
    regions: list[Region]
    labels: Labels
    visible: np.ndarray | None
    periodic: bool
    scale: str
    length: float
    energy: float
    _evaluator: "Evaluator | None" = None
    _types: np.ndarray | None = None

    def load(self) -> None:
        """Load the model, unless that has been done.

        Raises
        ------
        FileNotFoundError
            If it is no longer there.
        """
        if self._evaluator is None:
            self._evaluator = _evaluator(self.model, Path(self.model).stat().st_mtime_ns)
            self._types = self.labels.types(self._evaluator.type_map)

    def __getstate__(self) -> dict:
        """Leave out what comes from the model, and is loaded when it is needed.

        Not when the state is set: OpenMM crashes at an error while it deserialises.
        """
        return {**self.__dict__, "_evaluator": None, "_types": None}

    def __call__(self, state: openmm.State) -> tuple[float, np.ndarray]:
        """Return the energy in kJ/mol and the forces in kJ/mol/nm on the visible atoms."""
        scale = state.getParameters()[self.scale]
        positions = plain(state.getPositions(asNumpy=True))
        if self.visible is not None:
            everywhere = np.zeros((len(self.labels.symbols), 3))
            everywhere[self.visible] = positions
            positions = everywhere
        energy, forces = 0.0, np.zeros((len(positions), 3))
        if scale != 0:
            for part in self.parts(positions, state):
                energy += scale * part.energy
                felt = part.region.forces_on[part.atoms]
                forces[part.atoms[felt]] += scale * part.forces[felt]
        return energy, forces if self.visible is None else forces[self.visible]

    def parts(self, positions: np.ndarray, state: openmm.State) -> Iterator[Part]:
        """Cut out each region and evaluate it, without the scale.

        Parameters
        ----------
        positions
            [natoms, 3] in nm; of invisible atoms without effect.
        state
            Has the box.

        Raises
        ------
        ValueError
            If the model has no type for a member, or the topology is not that of the system.
        """
        natoms = len(self.labels.symbols)
        if len(positions) != natoms:
            msg = (
                f"the system has {len(positions)} particles, but the topology that dp_force was "
                f"given has {natoms} atoms"
            )
            raise ValueError(msg)
        self.load()
        box = plain(state.getPeriodicBoxVectors(asNumpy=True)) if self.periodic else None
        for region in self.regions:
            atoms, coordinates = region.cut(positions, box)
            self.check(region, atoms)
            with LOCK:
                found = self._evaluator.evaluate(
                    self._types[atoms], coordinates / self.length, atoms
                )
            energy, forces = found.energy * self.energy, found.forces * (self.energy / self.length)
            yield Part(region, atoms, float(energy), forces)

    def check(self, region: Region, atoms: np.ndarray) -> None:
        """Raise a ValueError if the model has no type for one of these members of a region."""
        unknown = atoms[self._types[atoms] < 0]
        if len(unknown) == 0:
            return
        atom, labels = unknown[0], self.labels
        msg = (
            f"{region.name}: atom {atom}, {labels.names[atom]} of residue "
            f"{labels.residues[labels.residue[atom]]}, is {labels.symbols[atom]}, which is not in "
            f"the model's type map, {self._evaluator.type_map}. Keep its residue out with exclude, "
            "or train a model that knows it"
        )
        raise ValueError(msg)


@lru_cache(maxsize=16)
def _evaluator(model: str, changed: int) -> "Evaluator":  # a file that has changed is another
    from ..evaluator import Evaluator  # noqa: PLC0415  OpenMM-ML imports this, TensorFlow can wait

    return Evaluator(model)


def dp_force(
    model: str | PathLike,
    topology: app.Topology,
    regions: DPRegion | Sequence[DPRegion],
    *,
    candidates: Sequence[int] | None = None,
    periodic: bool | None = None,
    scale: str = "dp_scale",
    length_unit: Any = unit.angstrom,
    energy_unit: Any = unit.ev,
) -> openmm.PythonForce:
    """Make a force for ``System.addForce`` that adds a model's energy for each region.

    Parameters
    ----------
    model
        A frozen model of se_a_mask.
    topology
        Of the system, atom for atom.
    regions
        One region or several. An atom that is in two of them counts twice.
    candidates
        Atoms whose residues can become members; by default all. OpenMM hands over only these,
        which is faster in large systems. Fixed regions do not need it.
    periodic
        Whether the system has a box; by default whether the topology has one. Without one no
        images are looked for, so members beyond the box's border would be missed.
    scale
        Name of a global parameter, 1 at first, that multiplies energy and forces.
    length_unit, energy_unit
        The model's units, of OpenMM; an energy is per particle (eV) or per mole (kJ/mol).

    Raises
    ------
    ValueError
        If there is no region, one does not fit the topology, or the model has no type for an atom
        that will be a member for certain.
    """
    labels = Labels.of(topology)
    regions = [regions] if isinstance(regions, DPRegion) else list(regions)
    if not regions:
        raise ValueError("dp_force: there is no region; give one or several")
    laid_out = [labels.region(region, candidates) for region in regions]
    path = str(Path(model).resolve())
    if periodic is None:
        periodic = topology.getPeriodicBoxVectors() is not None
    visible = None
    if candidates is not None or all(region.fixed is not None for region in laid_out):
        visible = np.unique(np.concatenate([region.possible() for region in laid_out]))
    energy = 1.0 * energy_unit
    if not energy.unit.is_compatible(unit.kilojoule_per_mole):
        energy = energy * unit.AVOGADRO_CONSTANT_NA
    term = DPTerm(
        path,
        laid_out,
        labels,
        visible,
        periodic,
        scale,
        plain(1.0 * length_unit),
        energy.value_in_unit(unit.kilojoule_per_mole),
    )
    term.load()
    for region in laid_out:
        term.check(region, region.certain())
    force = openmm.PythonForce(term, {scale: 1.0}, [] if visible is None else visible.tolist())
    force.setUsesPeriodicBoundaryConditions(periodic)
    force.setName("DPForce")
    return force
