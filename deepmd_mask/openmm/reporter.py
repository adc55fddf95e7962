# SPDX-License-Identifier: LGPL-3.0-or-later
"""A reporter of what is in the DP regions while a simulation runs."""

import csv
from os import PathLike
from pathlib import Path

import numpy as np
import openmm
from openmm import app

from ..data.packing.preferences import Preference
from ..shared.log import log
from ..shared.numbers import is_number
from .arguments import plain, whole_interval
from .deviation import DEVIATION_COLUMNS, DeviationError, PreferredAtoms, RegionDeviation
from .force import DPTerm, EvaluatedRegion
from .terms import IntervalReporter, terms_of


class RegionReporter(IntervalReporter):
    """Writes what is in the DP regions to a CSV file, as a reporter of a Simulation.

    Columns are step, region (its name), atoms (their number), energy (the model's, in kJ/mol,
    whatever the scale, so that it is also the derivative by it) and residues. Where a region has a
    smooth edge there are three more, which have a number for each kind of residue that has a
    reference, in the order of the alphabet: W; and of dE/dw - Phi'(W), what it costs a residue in
    the buffer to enter, in kJ/mol, the mean, cost, and the standard deviation, spread. When W
    leaves the range that the reference was fitted in, there is a warning.

    Of a committee there are six more: max_devi_f, min_devi_f and avg_devi_f, in eV/Å, how far its
    models differ about the force on the atoms of the region, as ``dp model-devi`` has it, and
    preferred_max_devi_f and so on, of the preferred atoms.

    Parameters
    ----------
    file
        Path of the file.
    interval
        Steps between reports. Each costs an evaluation of the model.
    append
        Whether to go on with a file that exists.
    preference
        Which atoms are preferred, as of ``dp-mask pack``: "all", "element:ZN,S", "within:2.8:ZN" or
        "names:SG,NE2", of which the system must have all; or such a rule as a `Preference`, of
        which it may have some. By default those that feel the force.
    stop_above
        A bound in eV/Å: when preferred_max_devi_f exceeds it, the run stops with a `DeviationError`
        that names step, region and atom; so that it keeps that frame, too, a `FrameReporter` must
        come first in the list of reporters. None for none.

    Raises
    ------
    ValueError
        If the interval is no positive whole number, the preference no rule or the bound none.
    """

    COLUMNS = ("step", "region", "atoms", "energy", "residues")
    MORE = ("W", "cost", "spread")

    def __init__(
        self,
        file: str | PathLike,
        interval: int,
        append: bool = False,
        *,
        preference: str | Preference | None = None,
        stop_above: float | None = None,
    ) -> None:
        self.interval = whole_interval(interval, "RegionReporter")
        self._preferred = PreferredAtoms(preference, "RegionReporter")
        if stop_above is not None and not (is_number(stop_above) and stop_above > 0):
            msg = f"RegionReporter: stop_above is {stop_above!r}; give a bound in eV/Å, above 0"
            raise ValueError(msg)
        self.stop_above = stop_above
        self._terms: list[DPTerm] | None = None
        self._path = Path(file)
        self._begun = _first_row(self._path) if append and self._path.is_file() else []
        self._file = open(file, "a" if append else "w", newline="")
        self._writer = csv.writer(self._file)
        self._blank: tuple[str, ...] = ()  # of an abrupt region, of what smooth ones have more
        self._warned: set[tuple[str, str]] = set()
        self._no_deviation: tuple[str, ...] = ()  # of one model, of what committees have more

    def report(self, simulation: app.Simulation, state: openmm.State) -> None:
        """Write a line for each region.

        Raises
        ------
        ValueError
            If no force of the system was made by `dp_force`, the file that is appended to has
            other columns, or a run is to be stopped by one model.
        DeviationError
            If a run is to be stopped; what there is to report is written then.
        """
        if self._terms is None:
            terms = list(terms_of(simulation.system.getForces()))
            self._begin(terms)
            self._terms = terms
        positions = plain(state.getPositions(asNumpy=True))
        beyond: list[str] = []
        for term in self._terms:
            for part in term.parts(positions, term.box_of(state)):
                residues = np.unique(term.labels.residue[part.atoms])
                names = " ".join(term.labels.residues[residue] for residue in residues)
                row = (part.region.name, len(part.atoms), f"{part.energy:.6f}", names)
                found = self._deviation(term, part)
                more = (*self._more(part), *self._of_committee(found))
                self._writer.writerow((simulation.currentStep, *row, *more))
                if found is not None and self._is_too_large(found):
                    beyond.append(found.in_words(simulation.currentStep, part.region.name))
        self._file.flush()
        for words in beyond[:1]:
            msg = (
                f"{words}, and the run stops above {self.stop_above:g}; label frames like this one "
                "(FrameReporter writes them) and train with them, or raise stop_above"
            )
            raise DeviationError(msg)

    def _deviation(self, term: DPTerm, part: EvaluatedRegion) -> RegionDeviation | None:
        if part.molecule.deviation is None:
            return None
        weights = self._preferred.weights(part.region, term.labels, part.molecule)
        return RegionDeviation.of(part.molecule, weights, term.labels)

    def _is_too_large(self, found: RegionDeviation) -> bool:
        """Tell whether to stop; also where the models give no numbers."""
        if self.stop_above is None or not found.worst:
            return False
        return not found.preferred.max_devi_f <= self.stop_above

    def _of_committee(self, found: RegionDeviation | None) -> tuple[str, ...]:
        if found is None:
            return self._no_deviation
        preferred = found.preferred if found.worst else ("",) * len(found.preferred)
        values = (*found.whole, *preferred)
        return tuple(value if isinstance(value, str) else f"{value:.6f}" for value in values)

    def _begin(self, terms: list[DPTerm]) -> None:
        """Write the names of the columns, unless the file has them."""
        if not terms:
            raise ValueError("RegionReporter: no force of the system was made by dp_force")
        for term in terms:
            self._preferred.require_met(term.labels)
        has_committee = any(not isinstance(term.model, str) for term in terms)
        if self.stop_above is not None and not has_committee:
            msg = (
                "RegionReporter: stop_above needs a committee, since one model does not tell how "
                "far it is right; give dp_force several models"
            )
            raise ValueError(msg)
        deviations = DEVIATION_COLUMNS if has_committee else ()
        self._no_deviation = ("",) * len(deviations)
        edges = [region.edge for term in terms for region in term.regions]
        more = self.MORE if any(edge is not None for edge in edges) else ()
        wanted = [*self.COLUMNS, *more, *deviations]
        self._blank = ("",) * len(more)
        if not self._begun:
            self._writer.writerow(wanted)
        elif self._begun != wanted:
            msg = (
                f"RegionReporter: {self._path} has the columns {', '.join(self._begun)}, not "
                f"{', '.join(wanted)}; give another file"
            )
            raise ValueError(msg)

    def _more(self, part: EvaluatedRegion) -> tuple[str, ...]:
        """Return what there is to say of a smooth edge; warn where it is not what was fitted."""
        edge, entering = part.region.edge, part.entering
        if edge is None or entering is None:
            return self._blank
        texts = []
        for kind in np.flatnonzero(edge.known):
            W, name = entering.W[kind], edge.kinds[kind]
            *_, least, most = edge.references[kind]
            if not (least <= W <= most) and not np.isnan(least):
                self._warn(part.region.name, name, f"{W:.3f}", f"{least:.3f} to {most:.3f}")
            costs = entering.costs[edge.kind[entering.residues] == kind]
            mean, spread = (costs.mean(), costs.std()) if len(costs) else (np.nan, np.nan)
            texts.append((f"{W:.4f}", f"{mean:.4f}", f"{spread:.4f}"))
        return tuple(" ".join(of_kinds) for of_kinds in zip(*texts, strict=True))

    def _warn(self, region: str, kind: str, W: str, fitted: str) -> None:
        """Warn once of a kind of residues whose W is not where its reference was fitted."""
        if (region, kind) not in self._warned:
            self._warned.add((region, kind))
            log.warning(
                f"{region}: W of {kind} is {W}, and its reference was fitted from {fitted}; "
                "calibrate the region anew, with frames of this simulation, or look why so many "
                "or few are there"
            )


def _first_row(path: Path) -> list[str]:
    """Return the names of columns of a file, none if it is empty."""
    with path.open(newline="") as file:
        return next(csv.reader(file), [])
