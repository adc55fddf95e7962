# SPDX-License-Identifier: LGPL-3.0-or-later
"""Errors of a model, added up some frames at a time."""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .errors_by_deviation import ErrorsByDeviation


class Place(NamedTuple):
    """A frame, or an atom in it."""

    system: str
    set_name: str  # empty for a file without sets
    frame: int  # within its set
    atom: int | None = None

    def __str__(self) -> str:
        """Return it as messages name it."""
        atom = "" if self.atom is None else f", atom {self.atom}"
        where = f"system {self.system}, {self.set_name}" if self.set_name else self.system
        return f"{where}, frame {self.frame}{atom}"


@dataclass
class Errors:
    """Weighted errors of numbers, of which only sums are kept.

    Attributes
    ----------
    count
        How many numbers have a weight.
    max
        The largest error, and `worst`, where it is; 0 and None as long as there is no number.
    """

    count: int = 0
    max: float = 0.0
    worst: Place | None = None
    _weight: float = 0.0
    _absolute: float = 0.0
    _square: float = 0.0
    _mean: float = 0.0  # of the reference
    _spread: float = 0.0  # sum of squared deviations of the reference from its mean

    def add(
        self,
        reference: np.ndarray,
        predicted: np.ndarray,
        weights: np.ndarray,
        place: Callable[[int], Place],
    ) -> None:
        """Add numbers.

        Parameters
        ----------
        reference, predicted
            [n, k]: k numbers each of n atoms or frames.
        weights
            [n] not negative; where it is 0 nothing is counted.
        place
            Tells where an atom or a frame is, from its index.
        """
        chosen = np.flatnonzero(weights > 0)
        if len(chosen) == 0:
            return
        reference, width = reference[chosen], reference.shape[1]
        error = np.abs(predicted[chosen] - reference)
        w = weights[chosen, None]
        weight = width * float(w.sum())
        mean = float((w * reference).sum()) / weight
        # Two means and the spreads about them make up one: Chan, Golub, LeVeque (1983).
        total = self._weight + weight
        self._spread += float((w * (reference - mean) ** 2).sum())
        self._spread += (mean - self._mean) ** 2 * self._weight * weight / total
        self._mean += (mean - self._mean) * weight / total
        self._weight = total
        self._absolute += float((w * error).sum())
        self._square += float((w * error**2).sum())
        self.count += error.size
        largest = int(error.max(axis=1).argmax())
        if self.worst is None or error[largest].max() > self.max:
            self.max = float(error[largest].max())
            self.worst = place(int(chosen[largest]))

    @property
    def rmse(self) -> float:
        """Return the root mean square error, sqrt(Σ w Δ² / Σ w); NaN without numbers."""
        return math.sqrt(self._square / self._weight) if self._weight else math.nan

    @property
    def mae(self) -> float:
        """Return the mean absolute error, Σ w |Δ| / Σ w; NaN without numbers."""
        return self._absolute / self._weight if self._weight else math.nan

    @property
    def r2(self) -> float:
        """Return 1 - Σ w Δ² / Σ w (reference - mean)²; NaN if the reference is constant."""
        return 1 - self._square / self._spread if self._spread else math.nan

    def as_dict(self) -> dict:
        """Return all of it for JSON, which has no NaN: None instead."""
        numbers = {name: getattr(self, name) for name in ("rmse", "mae", "max", "r2")}
        if not self.count:
            numbers = dict.fromkeys(numbers)
        elif math.isnan(numbers["r2"]):
            numbers["r2"] = None
        worst = None if self.worst is None else self.worst._asdict()
        return {**numbers, "count": self.count, "worst": worst}


@dataclass
class Metrics:
    """Errors of some frames, or of the atoms of an element in them.

    Attributes
    ----------
    energy
        Of the energy divided by the number of real atoms.
    force
        Of the force components of real atoms.
    preferred
        The same, weighted with the preference of each atom.
    """

    energy: Errors = field(default_factory=Errors)
    force: Errors = field(default_factory=Errors)
    preferred: Errors = field(default_factory=Errors)

    def as_dict(self) -> dict:
        """Return all of it for JSON."""
        return {name: errors.as_dict() for name, errors in self.__dict__.items()}


_TITLES = {
    "energy": "energy per real atom",
    "force": "force, real atoms",
    "preferred": "force, preferred atoms",
}


@dataclass
class Evaluation:
    """What a model or a committee does on systems.

    Attributes
    ----------
    model
        Its path; those of a committee.
    nframes
        Of all systems.
    overall
        Of all frames.
    systems
        By path.
    elements
        By name of the type; they have no energy.
    by_deviation
        Errors of forces by how far the models differ; None of one model, or without forces.
    """

    model: str
    nframes: int = 0
    overall: Metrics = field(default_factory=Metrics)
    systems: dict[str, Metrics] = field(default_factory=dict)
    elements: dict[str, Metrics] = field(default_factory=dict)
    by_deviation: ErrorsByDeviation | None = None

    def as_json(self) -> str:
        """Return all of it; that by deviation of a committee alone."""
        more = {}
        if self.by_deviation is not None:
            more = {"by_deviation": self.by_deviation.as_dict()}
        return json.dumps(
            {
                "model": self.model,
                "nframes": self.nframes,
                "overall": self.overall.as_dict(),
                "systems": {name: part.as_dict() for name, part in self.systems.items()},
                "elements": {name: part.as_dict() for name, part in self.elements.items()},
                **more,
            },
            indent=2,
            ensure_ascii=False,
        )

    def as_text(self) -> str:
        """Return tables."""
        overall = self.overall
        lines = [
            f"{self.model}: {self.nframes} frames. Errors are in the units of the data.",
            "",
            *_table("", ((_TITLES[k], e) for k, e in overall.__dict__.items())),
        ]
        for kind, parts in {"element": self.elements, "system": self.systems}.items():
            for key, title in _TITLES.items():
                rows = [(name, getattr(part, key)) for name, part in parts.items()]
                if len(rows) > 1 and any(errors.count for _, errors in rows):
                    lines += ["", *_table(f"{title}, by {kind}", rows)]
        if self.by_deviation is not None:
            lines += ["", *self.by_deviation.as_lines()]
        worst = [(_TITLES[k], e.worst) for k, e in overall.__dict__.items() if e.worst is not None]
        lines += ["", *(f"largest error, {title}: {place}" for title, place in worst)]
        return "\n".join(lines)


def _table(title: str, rows: Iterable[tuple[str, Errors]]) -> list[str]:
    rows = list(rows)
    width = max(len(title), 26, *(len(name) for name, _ in rows))
    lines = [f"{title:{width}}{'RMSE':>11}{'MAE':>11}{'max':>11}{'R²':>9}{'numbers':>10}"]
    for name, errors in rows:
        numbers = f"{errors.rmse:11.4g}{errors.mae:11.4g}{errors.max:11.4g} {errors.r2:8.4f}"
        none = f"{'-':>11}{'-':>11}{'-':>11}{'-':>9}"
        lines.append(f"{name:{width}}{numbers if errors.count else none}{errors.count:10}")
    return lines
