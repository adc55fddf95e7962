# SPDX-License-Identifier: LGPL-3.0-or-later
"""What OpenMM calls for the force on regions, and what that evaluates."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import openmm
from openmm import unit

from ..potential import Potential
from ..shared.elements import types_of_names
from .arguments import plain
from .edge import Entering, Weights
from .labels import Labels
from .links import PlacedLinks
from .region import Cut, Region

# Of a pickled DPTerm and what it holds; goes up when that changes. A term of one model without
# smooth edges has the first, as what went before these can read it.
LAYOUT, SMOOTH_LAYOUT, COMMITTEE_LAYOUT = KNOWN_LAYOUTS = 1, 2, 3
EV_PER_ANGSTROM = (unit.AVOGADRO_CONSTANT_NA * unit.ev / unit.angstrom).value_in_unit(
    unit.kilojoule_per_mole / unit.nanometer
)  # in the unit of forces


class Molecule(NamedTuple):
    """What a model sees of a region: its members, then the link atoms.

    Attributes
    ----------
    numbers
        [n] int, the members, and of each link atom the outer atom in whose place it is.
    coordinates
        [n, 3] in nm, from the first centre.
    nlinks
        How many of them are link atoms.
    deviation
        [n] in eV/Å, how far the models of a committee differ about the force on each, at fixed
        weights; None of one model.
    """

    numbers: np.ndarray
    coordinates: np.ndarray
    nlinks: int
    deviation: np.ndarray | None = None

    @classmethod
    def of(cls, cut: Cut, links: PlacedLinks | None) -> "Molecule":
        """Return that of a region which has been cut out."""
        if links is None:
            return cls(*cut, 0)
        coordinates = np.append(cut.coordinates, links.coordinates, axis=0)
        return cls(np.append(cut.atoms, links.outer), coordinates, len(links.row))


class Evaluated(NamedTuple):
    """What a model gives for a molecule, in kJ/mol and kJ/mol/nm, the deviation in eV/Å.

    Attributes
    ----------
    energy
        A number.
    forces
        [n, 3]
    gradient
        [nresidues], dE/dw of residues; None without weights.
    deviation
        [n]; None of one model.
    """

    energy: float
    forces: np.ndarray
    gradient: np.ndarray | None
    deviation: np.ndarray | None


class EvaluatedRegion(NamedTuple):
    """A region in one configuration, and what the model gives for it.

    Attributes
    ----------
    region
        The region.
    atoms
        [n] int, its members.
    energy
        In kJ/mol, that of reference taken off.
    feeling
        [m] int, the atoms that the energy depends on: the members, and those outside that tell
        where link atoms are.
    forces
        [m, 3] in kJ/mol/nm, on these.
    molecule
        What the model has seen.
    entering
        What it costs to enter; None of an abrupt edge.
    """

    region: Region
    atoms: np.ndarray
    energy: float
    feeling: np.ndarray
    forces: np.ndarray
    molecule: Molecule
    entering: Entering | None = None


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
        Path of the frozen model, or those of a committee.
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

    model: str | tuple[str, ...]
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
            paths = (self.model,) if isinstance(self.model, str) else self.model
            changed = tuple(Path(path).stat().st_mtime_ns for path in paths)
            potential = _potential(paths, changed, self.device, self.precision)
            link_type = -1
            if any(region.link_lengths is not None for region in self.regions):
                (link_type,) = types_of_names(["H"], potential.type_map)
            self._loaded = Loaded(potential, self.labels.types(potential.type_map), link_type)
        return self._loaded

    def __getstate__(self) -> dict:
        """Leave out what comes from the model, and is loaded when it is needed.

        Not when the state is set: OpenMM crashes at an error while it deserialises.
        """
        layout = self.layout
        if layout == LAYOUT and any(region.edge is not None for region in self.regions):
            layout = SMOOTH_LAYOUT
        if layout in KNOWN_LAYOUTS and not isinstance(self.model, str):
            layout = COMMITTEE_LAYOUT
        return {**self.__dict__, "layout": layout, "_loaded": None}

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
            for part in self.parts(positions, self.box_of(state)):
                energy += scale * part.energy
                felt = part.region.forces_on[part.feeling]
                forces[part.feeling[felt]] += scale * part.forces[felt]
        return energy, forces if self.visible is None else forces[self.visible]

    def box_of(self, state: openmm.State) -> np.ndarray | None:
        """Return the box vectors of a state, rows in nm, if the term takes notice of them."""
        return plain(state.getPeriodicBoxVectors(asNumpy=True)) if self.periodic else None

    def parts(self, positions: np.ndarray, box: np.ndarray | None) -> Iterator[EvaluatedRegion]:
        """Cut out each region and evaluate it, without the scale.

        Parameters
        ----------
        positions
            [natoms, 3] in nm; of invisible atoms without effect.
        box
            As of `box_of`.

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
        for region in self.regions:
            cut = region.cut(positions, box)
            self.check(region, cut.atoms)
            weights = None
            if region.edge is not None:
                weights = region.weights(cut.atoms, positions, box)
                self.check_references(region, weights)
            links = region.links(cut, positions, box) if region.link_lengths is not None else None
            yield self._part(region, cut, links, weights)

    def _part(
        self, region: Region, cut: Cut, links: PlacedLinks | None, weights: Weights | None
    ) -> EvaluatedRegion:
        """Evaluate a region that has been cut out."""
        _, types, link_type = self.load()
        molecule = Molecule.of(cut, links)
        types, residue = types[cut.atoms], region.residue[cut.atoms]
        if links is not None:
            self.check_links(region, len(links.row))
            types = np.append(types, np.full(len(links.row), link_type))
            residue = np.append(residue, residue[links.row])  # a link atom comes with its inner one
        w = None if weights is None else weights.w
        energy, forces, gradient, deviation = self._evaluate(types, molecule, residue, w)
        molecule = molecule._replace(deviation=deviation)
        feeling = cut.atoms
        if links is not None:
            forces, on_links = np.split(forces, [len(cut.atoms)])
            on_outer = links.on_outer(on_links)
            np.add.at(forces, links.row, on_links - on_outer)
            feeling = molecule.numbers
            forces = np.append(forces, on_outer, axis=0)
        found = EvaluatedRegion(region, cut.atoms, energy, feeling, forces, molecule)
        if region.edge is None or weights is None or gradient is None:
            return found
        entering = region.edge.enter(weights.w, gradient, region.always)
        for atoms, on_them in weights.forces(entering):
            np.add.at(forces, np.searchsorted(cut.atoms, atoms), on_them)
        return found._replace(energy=energy - entering.Phi, entering=entering)

    def _evaluate(
        self, types: np.ndarray, molecule: Molecule, residue: np.ndarray, w: np.ndarray | None
    ) -> Evaluated:
        """Evaluate a molecule; w [nresidues] are weights of residues, None if all are whole."""
        some = {} if w is None else {"weights": w[residue], "groups": residue}
        found = self.load().potential.evaluate(
            types, molecule.coordinates / self.length, numbers=molecule.numbers, **some
        )
        of_force = self.energy / self.length
        gradient = deviation = None
        if w is not None and found.weight_gradient is not None:
            by_atom = found.weight_gradient * self.energy
            gradient = np.bincount(residue, by_atom, minlength=len(w))
        if found.deviation is not None:
            deviation = found.deviation * (of_force / EV_PER_ANGSTROM)
        energy = float(found.energy * self.energy)
        return Evaluated(energy, found.forces * of_force, gradient, deviation)

    def _require_layout(self) -> None:
        if self.layout not in KNOWN_LAYOUTS:
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

    def check_weights(self) -> None:
        """Raise a ValueError if a region has a smooth edge, and the model knows no weights."""
        if any(region.edge is not None for region in self.regions):
            self.load().potential.evaluate([], np.zeros((0, 3)), groups=[])

    def check_references(self, region: Region, weights: Weights) -> None:
        """Raise a ValueError if a residue that can leave a region is there without a reference."""
        edge = region.edge
        if edge is None or not edge.known.any():  # as while one is sought
            return
        for residue in edge.unknown(weights.w, region.always)[:1]:
            kind = edge.kinds[edge.kind[residue]]
            atom = int(np.flatnonzero(region.residue == residue)[0])
            msg = (
                f"{region.name}: residue {self.labels.residues[self.labels.residue[atom]]} enters, "
                f"and the reference has nothing for {kind}, only for "
                f"{', '.join(edge.kinds[k] for k in np.flatnonzero(edge.known))}; keep it out with "
                "exclude, in with always, or calibrate the region with frames in which it is in "
                "the buffer"
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
def _potential(
    paths: tuple[str, ...], changed: tuple[int, ...], device: str, precision: str | None
) -> Potential:
    """Return a model or a committee; a file that has changed is another."""
    return Potential(paths, device, precision=precision)
