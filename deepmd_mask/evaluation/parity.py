# SPDX-License-Identifier: LGPL-3.0-or-later
"""The figure of ``dp-mask test``: parity plots and histograms of errors."""

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from .figures import draw_histogram

SHOWN = 30_000  # numbers of a kind; of more, a random choice
_AXES = {
    "energy": ("Energy per real atom", "eV"),
    "force": ("Force components, real atoms", "eV/Å"),
    "preferred": ("Force components, preferred atoms", "eV/Å"),
}


# Errors over deviations, in a column of its own.
SCATTERED = {
    "by_atoms": ("Atoms", "deviation of the force (eV/Å)", "length of its error (eV/Å)"),
    "by_frames": ("Frames", "largest deviation (eV/Å)", "RMSE of force components (eV/Å)"),
}


class Points:
    """Numbers to be plotted: all of them, or a random choice if there are many.

    Attributes
    ----------
    seen
        How many there were.
    """

    def __init__(self) -> None:
        self.seen = 0
        self._rng = np.random.default_rng(0)
        self._kept = np.empty((0, 4))  # random key, reference, predicted, type

    def add(
        self, reference: np.ndarray, predicted: np.ndarray, weights: np.ndarray, kinds: np.ndarray
    ) -> None:
        """Add those with a weight.

        Parameters
        ----------
        reference, predicted
            [n, k]
        weights, kinds
            [n]; the kind is the type of an atom, or -1.
        """
        chosen = weights > 0
        reference, predicted = reference[chosen], predicted[chosen]
        kinds = np.broadcast_to(kinds[chosen, None], reference.shape)
        keys = self._rng.random(reference.size)
        new = [keys, reference.ravel(), predicted.ravel(), kinds.ravel()]
        self.seen += reference.size
        # Those with the smallest keys are a random choice of all.
        self._kept = np.concatenate([self._kept, np.stack(new, axis=1)])
        if len(self._kept) > SHOWN:
            order = np.argpartition(self._kept[:, 0], SHOWN)
            self._kept = self._kept[order[:SHOWN]]

    @property
    def kept(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return reference, predicted and kind, [nkept] each."""
        _, reference, predicted, kinds = self._kept.T
        return reference, predicted, kinds


def draw(
    path: str | os.PathLike, form: str, points: dict[str, Points], type_map: tuple[str, ...]
) -> None:
    """Draw the figure.

    Parameters
    ----------
    path
        Of the file.
    form
        Its format, as Matplotlib names it.
    points
        By field of ``Metrics``, or as of SCATTERED; those that are empty are left out.
    type_map
        Names of the kinds.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  takes its time

    scattered = {key: some for key, some in points.items() if some.seen and key in SCATTERED}
    points = {key: some for key, some in points.items() if some.seen and key not in SCATTERED}
    ncolumns = len(points) + bool(scattered)
    figure = Figure(figsize=(4.2 * ncolumns, 7.2), layout="constrained")
    axes = figure.subplots(2, ncolumns, squeeze=False, height_ratios=(3, 2))
    for (key, some), panel in zip(scattered.items(), axes[:, -1], strict=False):
        _draw_scatter(panel, some, *SCATTERED[key], type_map)
    for (key, some), (parity, histogram) in zip(points.items(), axes.T, strict=False):
        title, unit = _AXES[key]
        parity.set_title(_title(title, some), fontsize="medium")
        _draw_parity(parity, some, unit, type_map)
        _draw_histogram(histogram, some, unit)
    drawn = BytesIO()  # on a full disk some of matplotlib's writers raise whatever they meet
    figure.savefig(drawn, format=form, dpi=150)
    Path(path).write_bytes(drawn.getvalue())


def _title(title: str, some: Points) -> str:
    return title + (f"\n{SHOWN} of {some.seen} shown" if some.seen > SHOWN else "")


def _draw_parity(axes: Any, some: Points, unit: str, type_map: tuple[str, ...]) -> None:
    reference, predicted, kinds = some.kept
    _draw_kinds(axes, some, type_map)
    low = min(reference.min(), predicted.min())
    high = max(reference.max(), predicted.max())
    margin = 0.04 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    axes.plot(limits, limits, color="0.4", linewidth=0.8, zorder=0)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.set(xlabel=f"reference ({unit})", ylabel=f"model ({unit})")
    if (kinds >= 0).any():
        axes.legend(markerscale=2, fontsize="small", framealpha=0.6)


def _draw_scatter(
    axes: Any, some: Points, title: str, x: str, y: str, type_map: tuple[str, ...]
) -> None:
    """Draw errors over deviations; where both are alike there is a line."""
    deviation, error, kinds = some.kept
    _draw_kinds(axes, some, type_map)
    shown = np.concatenate([deviation, error])
    shown = shown[shown > 0]
    if len(shown):
        limits = (shown.min() / 1.2, shown.max() * 1.2)
        axes.plot(limits, limits, color="0.4", linewidth=0.8, zorder=0)
        axes.set(xscale="log", yscale="log")
    axes.set_title(_title(title, some), fontsize="medium")
    axes.set(xlabel=x, ylabel=y)
    if (kinds >= 0).any():
        axes.legend(markerscale=2, fontsize="small", framealpha=0.6)


def _draw_kinds(axes: Any, some: Points, type_map: tuple[str, ...]) -> None:
    reference, predicted, kinds = some.kept
    for kind in np.unique(kinds).astype(int):
        of_kind = kinds == kind
        name = type_map[kind] if kind >= 0 else None
        style = {"s": 6, "alpha": 0.5, "linewidths": 0, "rasterized": True}
        color = f"C{kind % 10}" if kind >= 0 else "C0"
        axes.scatter(reference[of_kind], predicted[of_kind], color=color, label=name, **style)


def _draw_histogram(axes: Any, some: Points, unit: str) -> None:
    reference, predicted, _ = some.kept
    draw_histogram(axes, predicted - reference, color="0.5")
    axes.axvline(0, color="0.2", linewidth=0.8)
    axes.set(xlabel=f"error of the model ({unit})", ylabel="count")
