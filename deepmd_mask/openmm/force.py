# SPDX-License-Identifier: LGPL-3.0-or-later
"""The force on regions: a PythonForce that evaluates a model."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import openmm
from openmm import app, unit

from ..potential import Potential
from ..shared.elements import Types, types_of_names
from .arguments import indices, plain, unit_in
from .labels import Labels
from .layout import DPRegion, lay_out
from .region import Region

LAYOUT = 1  # of a pickled DPTerm and what it holds; goes up when that changes


class EvaluatedRegion(NamedTuple):
    """A region in one configuration, and what the model gives for it.

    Attributes
    ----------
    region
        The region.
    atoms
        [n] int, its members.
    energy
        In kJ/mol.
    feeling
        [m] int, the atoms that the energy depends on: the members, and those outside that tell
        where link atoms are.
    forces
        [m, 3] in kJ/mol/nm, on these.
    """

    region: Region
    atoms: np.ndarray
    energy: float
    feeling: np.ndarray
    forces: np.ndarray


class Loaded(NamedTuple):
    """A model, and what its types mean for a system.

    Attributes
    ----------
    potential
        The model.
    types
        [natoms] int, the type of each atom; -1 if the model has none.
    link_type
        The type of link atoms; -1 if the model has none, or there can be none.
    """

    potential: Potential
    types: np.ndarray
    link_type: int


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
    device, precision
        Of the `Potential`.
    _loaded
        What comes from the model; `load` sets it.
    """

    model: str
    regions: list[Region]
    labels: Labels
    visible: np.ndarray | None
    periodic: bool
    scale: str
    length: float
    energy: float
    device: str = "auto"
    precision: str | None = None
    _loaded: "Loaded | None" = None
    layout: ClassVar[int] = LAYOUT

    def load(self) -> "Loaded":
        """Load the model, unless that has been done.

        Raises
        ------
        FileNotFoundError
            If it is no longer there.
        ValueError
            If two of its types differ in case only, and an atom may be either.
        """
        if self._loaded is None:
            changed = Path(self.model).stat().st_mtime_ns
            potential = _potential(self.model, changed, self.device, self.precision)
            link_type = -1
            if any(region.link_lengths is not None for region in self.regions):
                (link_type,) = types_of_names(["H"], potential.type_map)
            self._loaded = Loaded(potential, self.labels.types(potential.type_map), link_type)
        return self._loaded

    def __getstate__(self) -> dict:
        """Leave out what comes from the model, and is loaded when it is needed.

        Not when the state is set: OpenMM crashes at an error while it deserialises.
        """
        return {**self.__dict__, "layout": self.layout, "_loaded": None}

    def __setstate__(self, state: dict) -> None:
        """Take the state, and note if it is of a version that knew no layout."""
        self.__dict__.update({"layout": 0, **state})

    def __call__(self, state: openmm.State) -> tuple[float, np.ndarray]:
        """Return the energy in kJ/mol and the forces in kJ/mol/nm on the visible atoms."""
        self._require_layout()
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
                felt = part.region.forces_on[part.feeling]
                forces[part.feeling[felt]] += scale * part.forces[felt]
        return energy, forces if self.visible is None else forces[self.visible]

    def parts(self, positions: np.ndarray, state: openmm.State) -> Iterator[EvaluatedRegion]:
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
        self._require_layout()
        natoms = len(self.labels.symbols)
        if len(positions) != natoms:
            msg = (
                f"the system has {len(positions)} particles, but the topology that dp_force was "
                f"given has {natoms} atoms"
            )
            raise ValueError(msg)
        _, types, link_type = self.load()
        box = plain(state.getPeriodicBoxVectors(asNumpy=True)) if self.periodic else None
        for region in self.regions:
            cut = region.cut(positions, box)
            self.check(region, cut.atoms)
            if region.link_lengths is None:
                energy, forces = self._evaluate(types[cut.atoms], cut.coordinates, cut.atoms)
                yield EvaluatedRegion(region, cut.atoms, energy, cut.atoms, forces)
                continue
            links = region.links(cut, positions, box)
            self.check_links(region, len(links.row))
            energy, forces = self._evaluate(
                np.append(types[cut.atoms], np.full(len(links.row), link_type)),
                np.append(cut.coordinates, links.coordinates, axis=0),
                np.append(cut.atoms, links.outer),
            )
            forces, on_links = np.split(forces, [len(cut.atoms)])
            on_outer = links.on_outer(on_links)
            np.add.at(forces, links.row, on_links - on_outer)
            feeling = np.append(cut.atoms, links.outer)
            forces = np.append(forces, on_outer, axis=0)
            yield EvaluatedRegion(region, cut.atoms, energy, feeling, forces)

    def _evaluate(
        self, types: np.ndarray, coordinates: np.ndarray, numbers: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Return the energy and forces of a molecule, nm and kJ/mol outside."""
        found = self.load().potential.evaluate(types, coordinates / self.length, numbers=numbers)
        return float(found.energy * self.energy), found.forces * (self.energy / self.length)

    def _require_layout(self) -> None:
        if self.layout != LAYOUT:
            msg = (
                "this DPForce was serialised by another version of deepmd-mask; make it anew with "
                "dp_force and add it to the System in its place"
            )
            raise ValueError(msg)

    def check_links(self, region: Region, number: int) -> None:
        """Raise a ValueError if a region has so many link atoms, and the model no type for them."""
        potential, _, link_type = self.load()
        if number > 0 and link_type < 0:
            msg = (
                f"{region.name}: link atoms are hydrogen, and the model's type map, "
                f"{potential.type_map}, has no H; use a model that knows it"
            )
            raise ValueError(msg)

    def check(self, region: Region, atoms: np.ndarray) -> None:
        """Raise a ValueError if the model has no type for one of these members of a region."""
        potential, types, _ = self.load()
        unknown = atoms[types[atoms] < 0]
        if len(unknown) == 0:
            return
        atom, labels = unknown[0], self.labels
        msg = (
            f"{region.name}: {labels.atom(atom)} is {labels.symbols[atom]}, which is not in the "
            f"model's type map, {potential.type_map}. Keep its residue out with exclude, "
            "give another name with types, or train a model that knows it"
        )
        raise ValueError(msg)


@lru_cache(maxsize=16)
def _potential(model: str, changed: int, device: str, precision: str | None) -> Potential:
    """Return a model; a file that has changed is another."""
    return Potential(model, device, precision=precision)


def dp_force(
    model: str | PathLike,
    topology: app.Topology,
    regions: DPRegion | Sequence[DPRegion],
    *,
    candidates: Sequence[int] | None = None,
    periodic: bool | None = None,
    types: Types = "element",
    system: openmm.System | None = None,
    scale: str = "dp_scale",
    length_unit: Any = unit.angstrom,
    energy_unit: Any = unit.ev,
    device: str = "auto",
    precision: str | None = None,
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
        Whether the system has a box; by default whether the topology has one, or the system if it
        is given. Without one no images are looked for, so members beyond the box's border would be
        missed.
    types
        What the model's type map calls an atom: "element"; "name", the atom's name; a dict from
        names of atoms to types, where others go by their element; or a function of an atom of the
        topology. A dict or function gives None for a virtual site, which is left out.
    system
        The system, to tell virtual sites from atoms whose element the topology does not know, and
        to see that masses are those of the elements. Without it only the sites of water models
        are known, and another atom without element that may be a member is an error.
    scale
        Name of a global parameter, 1 at first, that multiplies energy and forces.
    length_unit, energy_unit
        The model's units, of OpenMM; an energy is per particle (eV) or per mole (kJ/mol).
    device
        Where the model is evaluated: "cpu"; "cuda", a GPU; or "auto", a GPU where there is one,
        whatever OpenMM itself computes on.
    precision
        Of the `Potential`: "mixed", or None for the model's own.

    Raises
    ------
    ValueError
        If an argument is none that can be meant, there is no region, one does not fit the topology,
        the model has no type for an atom that will be a member for certain, or an atom that may be
        one has no element.
    RuntimeError
        If there is no GPU that was asked for.
    """
    labels = Labels.of(topology, types, system)
    regions = _regions(regions)
    if candidates is not None:
        candidates = indices(candidates, topology.getNumAtoms(), "candidates").tolist()
        if not candidates:
            raise ValueError("dp_force: candidates has no atom; None is for all")
    laid_out = [lay_out(region, labels, candidates) for region in regions]
    path = os.path.realpath(_path(model))  # Path.resolve raises what it likes at a loop
    if periodic is None:
        periodic = topology.getPeriodicBoxVectors() is not None
        periodic |= system is not None and system.usesPeriodicBoundaryConditions()
    if not isinstance(periodic, bool):
        raise ValueError(f"dp_force: periodic is {periodic!r}; give True, False or None")
    if not isinstance(scale, str) or not scale:
        raise ValueError(f"dp_force: scale is {scale!r}; it is the name of a global parameter")
    visible = None
    if candidates is not None or all(region.fixed is not None for region in laid_out):
        visible = np.unique(np.concatenate([region.possible() for region in laid_out]))
    term = DPTerm(
        path,
        laid_out,
        labels,
        visible,
        periodic,
        scale,
        unit_in(length_unit, unit.nanometer, "length_unit"),
        unit_in(energy_unit, unit.kilojoule_per_mole, "energy_unit"),
        device,
        precision,
    )
    term.load()
    for region in laid_out:
        term.check(region, region.certain())
        term.check_links(region, region.certain_links())
    force = openmm.PythonForce(term, {scale: 1.0}, [] if visible is None else visible.tolist())
    force.setUsesPeriodicBoundaryConditions(periodic)
    force.setName("DPForce")
    return force


def _regions(regions: Any) -> list[DPRegion]:
    found = [regions] if isinstance(regions, DPRegion) else regions
    found = list(found) if np.iterable(found) else [found]
    if not found:
        raise ValueError("dp_force: there is no region; give one or several")
    for region in found:
        if not isinstance(region, DPRegion):
            msg = f"dp_force: {region!r} is no region; give a DPRegion, or a list of them"
            raise ValueError(msg)
    return found


def _path(model: Any) -> str | PathLike:
    if not isinstance(model, str | PathLike):
        raise ValueError(f"dp_force: the model is {model!r}; give the path of a frozen model")
    return model
