# SPDX-License-Identifier: LGPL-3.0-or-later
"""A reporter that keeps frames of the DP regions, to label them and train with them."""

from collections.abc import Iterator, Sequence
from io import StringIO
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openmm
from ase import Atoms
from ase.data import chemical_symbols
from ase.io import read
from ase.io.extxyz import write_extxyz
from openmm import app, unit

from ..data.packing.preferences import Preference
from ..data.writer import put_in_place
from ..shared.elements import Types
from ..shared.log import log
from ..shared.numbers import is_number
from ..shared.selection import Different, fingerprint
from .arguments import plain, whole_interval
from .charges import Charges
from .deviation import DEVIATION_COLUMNS, PreferredAtoms, RegionDeviation
from .dp_region import DPRegion, regions_of
from .force import DPTerm, Molecule
from .labels import Labels
from .layout import lay_out
from .region import Region
from .terms import IntervalReporter, terms_of

WHO = "FrameReporter"


class Cutter(NamedTuple):
    """Regions that no model acts on, in the place of a DPTerm."""

    regions: list[Region]
    labels: Labels
    periodic: bool

    def box_of(self, state: openmm.State) -> np.ndarray | None:
        """Return the box vectors of a state, as a DPTerm does."""
        return plain(state.getPeriodicBoxVectors(asNumpy=True)) if self.periodic else None

    def molecules(
        self, positions: np.ndarray, box: np.ndarray | None
    ) -> Iterator[tuple[Region, Molecule]]:
        """Cut out each region; arguments are those of `DPTerm.parts`."""
        for region in self.regions:
            cut = region.cut(positions, box)
            links = None if region.link_lengths is None else region.links(cut, positions, box)
            yield region, Molecule.of(cut, links)


class Kept(NamedTuple):
    """A frame that is kept: when it was, and its lines of the file."""

    step: int
    text: str


class FrameReporter(IntervalReporter):
    """Keeps frames of the DP regions in a file of extended XYZ, as a reporter of a Simulation.

    A frame has the atoms of a region, whole residues in one piece, and link atoms where bonds are
    cut. For each atom there are `index`, its number in the system (-1 for a link atom),
    `preference`, 1 for preferred atoms, and, of a committee, `deviation`, how far its models differ
    about the force on it, in eV/Å; not at a smooth edge, where it is that of residues that are
    there in part, while the frame has whole ones. For the frame there are `step`, `time` in ps,
    `region`, `charge`, the sum of the force field's charges if that is a whole number, and, of a
    committee, max_devi_f and so on, and `atom`, the preferred one with the largest deviation.
    ``dp-mask pack --preference array:preference`` takes the file when the frames are labelled.

    Those are kept that are the most different from each other by the distances from their preferred
    atoms; of those that are alike, the one with the larger deviation. The file is always whole: it
    is replaced when a frame comes in.

    Parameters
    ----------
    file
        Path of the file; it appears with the first frame.
    interval
        Steps between frames that are looked at. Each costs an evaluation of the model.
    most
        How many frames are kept at most.
    deviation
        A pair of bounds, in eV/Å: only frames are kept whose largest deviation of preferred atoms
        is at least the first and below the second. Either may be None. The first one of each
        region is a warning that names step and atom. None for all frames.
    preference
        As of `RegionReporter`.
    regions
        Regions of a simulation in which no model acts, to sample with the force field alone. None
        for those of `dp_force`.
    types
        As of `dp_force`, for these.
    append
        Whether to go on with a file that exists; its frames are kept like new ones, and no more
        than `most` stay. Otherwise it is removed with the first report.

    Raises
    ------
    ValueError
        If an argument is none that can be meant.
    """

    def __init__(
        self,
        file: str | PathLike,
        interval: int,
        *,
        most: int = 100,
        deviation: Sequence[float | None] | None = None,
        preference: str | Preference | None = None,
        regions: DPRegion | Sequence[DPRegion] | None = None,
        types: Types = "element",
        append: bool = False,
    ) -> None:
        self.interval = whole_interval(interval, WHO)
        if not is_number(most) or most % 1 != 0 or most < 1:
            raise ValueError(f"{WHO}: most is {most!r}; give a number of frames, 1 or more")
        self.bounds = None if deviation is None else _bounds(deviation)
        self._preferred = PreferredAtoms(preference, WHO)
        self._given = None if regions is None else regions_of(regions, WHO)
        self._types = types
        self._path = Path(file)
        self._different = Different(int(most))
        self._kept: list[Kept] = []
        self._append = append
        self._warned: set[str] = set()
        self._sources: list[DPTerm | Cutter] = []
        self._elements: list[str] = []
        self._charges: Charges | None = None

    def report(self, simulation: app.Simulation, state: openmm.State) -> None:
        """Look at each region, and keep it if it differs from those that are there.

        Raises
        ------
        ValueError
            If there is no region, bounds of a deviation but one model, or an atom of an element
            that ASE does not know.
        OSError
            If the file cannot be written; it is what it was.
        """
        if self._charges is None:
            self._begin(simulation)
        step = simulation.currentStep
        time = state.getTime().value_in_unit(unit.picosecond)
        has_changed = False
        for labels, region, molecule in self._molecules(state):
            weights = self._preferred.weights(region, labels, molecule)
            found = RegionDeviation.of(molecule, weights, labels)
            if not self._is_wanted(found, step, region.name):
                continue
            atoms = self._atoms(labels, region, molecule, weights, found)
            atoms.info.update(step=step, time=round(time, 6))
            has_changed |= self._offer(atoms)
        if has_changed:
            self._write()

    def _begin(self, simulation: app.Simulation) -> None:
        """Find the regions and what the system tells of them; read the file to go on with."""
        system = simulation.system
        if self._given is None:
            self._sources = list(terms_of(system.getForces()))
        else:
            labels = Labels.of(simulation.topology, self._types, system)
            laid_out = [lay_out(region, labels) for region in self._given]
            box = simulation.topology.getPeriodicBoxVectors()
            periodic = box is not None or system.usesPeriodicBoundaryConditions()
            self._sources = [Cutter(laid_out, labels, periodic)]
        if not self._sources:
            msg = f"{WHO}: no force of the system was made by dp_force; give it, or `regions`"
            raise ValueError(msg)
        models = [getattr(source, "model", "") for source in self._sources]
        if self.bounds is not None and all(isinstance(model, str) for model in models):
            msg = f"{WHO}: deviation needs a committee; give dp_force several models"
            raise ValueError(msg)
        elements = {"H"}
        for source in self._sources:
            self._preferred.require_met(source.labels)
            for region in source.regions:
                elements |= {
                    _symbol(source.labels, k) for k in np.flatnonzero(region.eligible).tolist()
                }
        self._elements = sorted(elements)
        if self._path.is_file() and not self._append:
            self._path.unlink()  # else it stays if no frame is kept
        elif self._path.is_file() and self._path.stat().st_size > 0:
            frames = read(self._path, ":", format="extxyz")
            for frame in frames:
                self._offer(frame)
            if len(self._kept) < len(frames):
                self._write()
        self._charges = Charges(system)

    def _molecules(self, state: openmm.State) -> Iterator[tuple[Labels, Region, Molecule]]:
        positions = plain(state.getPositions(asNumpy=True))
        for source in self._sources:
            box = source.box_of(state)
            if isinstance(source, Cutter):
                for region, molecule in source.molecules(positions, box):
                    yield source.labels, region, molecule
            else:
                for part in source.parts(positions, box):
                    yield source.labels, part.region, part.molecule

    def _is_wanted(self, found: RegionDeviation | None, step: int, region: str) -> bool:
        """Tell whether a deviation lies between the bounds; warn of the first of each region."""
        if self.bounds is None:
            return True
        lower, upper = self.bounds
        if found is None or not lower <= found.preferred.max_devi_f < upper:
            return False
        if region not in self._warned:
            self._warned.add(region)
            log.warning(
                f"{found.in_words(step, region)}; this frame, and others between the bounds, go to "
                f"{self._path}"
            )
        return True

    def _atoms(
        self,
        labels: Labels,
        region: Region,
        molecule: Molecule,
        weights: np.ndarray,
        found: RegionDeviation | None,
    ) -> Atoms:
        """Return a frame, but for its time."""
        n = len(molecule.numbers) - molecule.nlinks
        symbols = [_symbol(labels, atom) for atom in molecule.numbers[:n]] + ["H"] * molecule.nlinks
        atoms = Atoms(symbols, 10 * molecule.coordinates)
        index = np.append(molecule.numbers[:n], np.full(molecule.nlinks, -1))
        atoms.set_array("index", index.astype(int))
        atoms.set_array("preference", weights)
        atoms.info["region"] = region.name
        charge = None if self._charges is None else self._charges.of(molecule.numbers[:n])
        if charge is not None:
            atoms.info["charge"] = charge
        if found is not None and molecule.deviation is not None:
            if region.edge is None:  # else it is of residues that are there in part
                atoms.set_array("deviation", molecule.deviation)
            values = zip(DEVIATION_COLUMNS, (*found.whole, *found.preferred), strict=True)
            atoms.info.update({k: float(v) for k, v in values if not np.isnan(v)})
            atoms.info["atom"] = found.worst
        return atoms

    def _offer(self, atoms: Atoms) -> bool:
        """Keep a frame if it differs from those that are there; return whether it is kept."""
        preference = atoms.arrays.get("preference", np.ones(len(atoms)))
        features = fingerprint(atoms.symbols, atoms.positions, preference, self._elements)
        place = self._different.offer(features, atoms.info.get("preferred_max_devi_f", 0.0))
        if place is None:
            return False
        text = StringIO()
        write_extxyz(text, [atoms])
        kept = Kept(int(atoms.info.get("step", 0)), text.getvalue())
        self._kept[place : place + 1] = [kept]
        return True

    def _write(self) -> None:
        """Replace the file."""
        with put_in_place(self._path, overwrite=True, folder=False) as part:
            texts = (frame.text for frame in sorted(self._kept, key=lambda frame: frame.step))
            part.write_text("".join(texts), encoding="utf-8")


def _bounds(given: Any) -> tuple[float, float]:
    """Return bounds of a deviation, -inf and inf where there is none."""
    pair = list(given) if np.iterable(given) and not isinstance(given, str) else []
    good = len(pair) == 2 and all(bound is None or is_number(bound) for bound in pair)
    if good:
        lower = -np.inf if pair[0] is None else float(pair[0])
        upper = np.inf if pair[1] is None else float(pair[1])
        if lower < upper:
            return lower, upper
    msg = f"{WHO}: deviation is {given!r}; give two bounds in eV/Å, as in (0.1, 0.3) or (0.1, None)"
    raise ValueError(msg)


def _symbol(labels: Labels, atom: int) -> str:
    """Return the element of an atom, as ASE spells it."""
    symbol = labels.element(atom).capitalize()
    if symbol not in chemical_symbols:
        msg = (
            f"{WHO}: {labels.atom(atom)} has no element, and its type, {labels.symbols[atom]}, is "
            "none; give the topology its element"
        )
        raise ValueError(msg)
    return symbol
