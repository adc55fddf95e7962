# SPDX-License-Identifier: LGPL-3.0-or-later
"""Deviations of models from each other, frame by frame."""

import bisect
import json
import math
import os
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..potential import ForceDeviation
from .figures import draw_histogram
from .metrics import Place
from .predict import Frames

# Names that dp model-devi has, too, mean the same, but for real atoms.
COLUMNS = (
    "real_atoms", "max_devi_f", "min_devi_f", "avg_devi_f", "devi_e", "preference",
    "preferred_max_devi_f", "preferred_min_devi_f", "preferred_avg_devi_f",
)  # fmt: skip
_TITLES = {
    "max_devi_f": "largest force deviation, real atoms",
    "avg_devi_f": "mean force deviation, real atoms",
    "preferred_max_devi_f": "largest force deviation, preferred atoms",
    "preferred_avg_devi_f": "mean force deviation, preferred atoms",
    "devi_e": "energy deviation per real atom",
}
_PANELS = {"real atoms": "", "preferred atoms": "preferred_"}


class Rows(NamedTuple):
    """Some frames that follow each other.

    Attributes
    ----------
    system, set_name
        Where they are.
    first
        Number of the first of them within its set.
    values
        [n, columns] in the order of COLUMNS; NaN where there is nothing, as for frames without
        real or preferred atoms.
    """

    system: str
    set_name: str
    first: int
    values: np.ndarray

    @classmethod
    def of(cls, frames: Frames) -> "Rows":
        """Return those of frames that a committee has evaluated."""
        chunk = frames.chunk
        assert frames.deviation is not None and frames.energy_deviation is not None
        real = chunk.mask == 1
        natoms = real.sum(axis=1)
        energy = frames.energy_deviation / np.maximum(natoms, 1)
        columns = [natoms, *ForceDeviation.of(frames.deviation, real)]
        columns.append(np.where(natoms > 0, energy, np.nan))
        if chunk.preference is None:
            columns += [np.full(len(chunk), np.nan)] * 4
        else:
            weights = chunk.preference * real
            columns += [weights.sum(axis=1), *ForceDeviation.of(frames.deviation, weights)]
        return cls(frames.system, chunk.set_name, chunk.first, np.stack(columns, axis=1))


class Deviations:
    """What models differ by on frames, in the units of the models.

    A column of numbers, [nframes], is had by its name, one of COLUMNS: ``found["max_devi_f"]``.

    Attributes
    ----------
    models
        Their paths.
    """

    def __init__(self, models: list[str]) -> None:
        self.models = models
        self._parts: list[Rows] = []
        self._starts = [0]  # of each part, and the end of the last

    def __len__(self) -> int:
        """Return the number of frames."""
        return self._starts[-1]

    def __getitem__(self, column: str) -> np.ndarray:
        """Return a column."""
        return self.values[:, COLUMNS.index(column)]

    @cached_property
    def values(self) -> np.ndarray:
        """[nframes, columns], all columns."""
        return np.concatenate([np.empty((0, len(COLUMNS))), *(p.values for p in self._parts)])

    def add(self, part: Rows) -> None:
        """Add frames."""
        self._parts.append(part)
        self._starts.append(len(self) + len(part.values))
        self.__dict__.pop("values", None)

    def place(self, index: int) -> Place:
        """Name a frame by its index."""
        k = bisect.bisect_right(self._starts, index) - 1
        part = self._parts[k]
        return Place(part.system, part.set_name, part.first + index - self._starts[k])

    def as_json(self) -> str:
        """Return a summary and all frames; what there is nothing of is null."""
        frames = [
            {
                **self.place(index)._asdict(),
                **{k: None if math.isnan(v) else v for k, v in zip(COLUMNS, row, strict=True)},
            }
            for index, row in enumerate(self.values.tolist())
        ]
        for frame in frames:
            del frame["atom"]
        return json.dumps({"models": self.models, "frames": frames}, indent=2, ensure_ascii=False)

    def as_text(self) -> str:
        """Return a table of means and extremes."""
        width = max(map(len, _TITLES.values())) + 2
        lines = [
            f"{len(self.models)} models, {len(self)} frames. Deviations are in the units of the "
            "models.",
            "",
            f"{'':{width}}{'mean':>11}{'median':>11}{'max':>11}",
        ]
        largest = []
        for column, title in _TITLES.items():
            values = self[column]
            some = values[~np.isnan(values)]
            if not len(some):
                lines.append(f"{title:{width}}" + 3 * f"{'-':>11}")
                continue
            numbers = (some.mean(), np.median(some), some.max())
            lines.append(f"{title:{width}}" + "".join(f"{number:11.4g}" for number in numbers))
            if "max" in column:
                largest.append(f"{title}: {self.place(int(np.nanargmax(values)))}")
        return "\n".join([*lines, "", *largest])

    def draw(self, path: str | os.PathLike, form: str) -> None:
        """Draw the deviations of forces, frame by frame and as histograms.

        Parameters
        ----------
        path
            Of the file.
        form
            Its format, as Matplotlib names it.
        """
        from matplotlib.figure import Figure  # noqa: PLC0415  takes its time

        panels = {
            title: kind
            for title, kind in _PANELS.items()
            if not np.isnan(self[f"{kind}max_devi_f"]).all()
        }
        figure = Figure(figsize=(9, 3.2 * max(1, len(panels))), layout="constrained")
        axes = figure.subplots(max(1, len(panels)), 2, squeeze=False, width_ratios=(3, 2))
        for (title, kind), (course, histogram) in zip(panels.items(), axes, strict=False):
            style = {"marker": ".", "linestyle": "none", "markersize": 3, "rasterized": True}
            for name, label in (("max_devi_f", "largest"), ("avg_devi_f", "mean")):
                course.plot(self[kind + name], label=label, **style)
                values = self[kind + name]
                values = values[~np.isnan(values)]
                draw_histogram(histogram, values, alpha=0.6)
            course.set(title=title, xlabel="frame", ylabel="force deviation (eV/Å)")
            course.legend(fontsize="small")
            histogram.set(xlabel="force deviation (eV/Å)", ylabel="frames")
        figure.savefig(path, format=form, dpi=150)
