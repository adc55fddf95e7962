# SPDX-License-Identifier: LGPL-3.0-or-later
"""Errors of a committee against its deviation: which bound of the deviation means what error."""

import math
from dataclasses import dataclass, field

import numpy as np

# Bounds that are shown, in the unit of force; frames are added up between two of them.
BOUNDS = np.array([m * 10.0**k for k in range(-4, 3) for m in (1, 1.5, 2, 3, 4, 5, 7)])


@dataclass
class Correlation:
    """The correlation of two numbers, of which only sums are kept.

    Attributes
    ----------
    weight
        Σ w of all pairs so far.
    """

    weight: float = 0.0
    _mean: np.ndarray = field(default_factory=lambda: np.zeros(2))
    _spread: np.ndarray = field(
        default_factory=lambda: np.zeros((2, 2))
    )  # Σ w (x - mean)(x - mean)

    def add(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> None:
        """Add pairs [n] with weights [n], not negative."""
        total = float(weights.sum())
        if not total > 0:
            return
        both = np.stack([x, y])
        mean = (both * weights).sum(axis=1) / total
        apart = both - mean[:, None]
        # Two means and the spreads about them make up one: Chan, Golub, LeVeque (1983).
        step, self.weight = mean - self._mean, self.weight + total
        self._spread += (weights * apart) @ apart.T
        self._spread += np.outer(step, step) * total * (self.weight - total) / self.weight
        self._mean += step * total / self.weight

    @property
    def r(self) -> float:
        """Return Pearson's coefficient; NaN if a number does not vary."""
        (xx, xy), (_, yy) = self._spread
        return float(xy / math.sqrt(xx * yy)) if xx * yy > 0 else math.nan

    @property
    def squares(self) -> np.ndarray:
        """Return Σ w x² and Σ w y²."""
        return self._spread.diagonal() + self.weight * self._mean**2

    @property
    def ratio(self) -> float:
        """Return how many times y is as large as x, both as root mean squares; NaN without x."""
        x2, y2 = self.squares
        return float(np.sqrt(y2 / x2)) if x2 > 0 else math.nan


@dataclass
class ErrorsByDeviation:
    """Errors of the mean force of a committee, by how far its models differ.

    Frames are counted by their largest deviation. Atoms count by their preference, or, in systems
    that have none, all real ones alike. Only sums are kept.

    Attributes
    ----------
    of_atoms
        Deviation of an atom and length of the error of its force.
    of_frames
        Largest deviation of a frame and root mean square error of its force components.
    """

    of_atoms: Correlation = field(default_factory=Correlation)
    of_frames: Correlation = field(default_factory=Correlation)
    # Of frames up to each bound, and beyond the one before: their number, Σ w, Σ w |ΔF|², and the
    # largest |ΔF|.
    _sums: np.ndarray = field(default_factory=lambda: np.zeros((3, len(BOUNDS) + 1)))
    _largest: np.ndarray = field(default_factory=lambda: np.zeros(len(BOUNDS) + 1))

    def add(self, deviation: np.ndarray, error: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Add frames.

        Parameters
        ----------
        deviation, error
            [nframes, natoms], of atoms; the error is |ΔF|.
        weights
            [nframes, natoms]

        Returns
        -------
        np.ndarray
            [n, 2], of the frames with a weight: largest deviation, root mean square error.
        """
        chosen = weights > 0
        some = chosen.any(axis=1)
        chosen, deviation, error, w = chosen[some], deviation[some], error[some], weights[some]
        self.of_atoms.add(deviation[chosen], error[chosen], w[chosen])
        largest = np.where(chosen, deviation, 0).max(axis=1, initial=0)
        sums = np.stack([np.ones(len(w)), w.sum(axis=1), (w * error**2).sum(axis=1)])
        rmse = np.sqrt(sums[2] / (3 * sums[1]))
        self.of_frames.add(largest, rmse, np.ones(len(w)))
        bins = np.searchsorted(BOUNDS, largest)
        for total, more in zip(self._sums, sums, strict=True):
            np.add.at(total, bins, more)
        np.maximum.at(self._largest, bins, np.where(chosen, error, 0).max(axis=1, initial=0))
        return np.stack([largest, rmse], axis=1)

    def rows(self) -> list[dict[str, float]]:
        """Return, for each bound that some frames are below and some above, what both have.

        The number of frames, the root mean square error of force components, and the length of the
        largest error of a force.
        """
        found = []
        for k, bound in enumerate(BOUNDS.tolist()):
            below, above = slice(k + 1), slice(k + 1, None)
            row = {"bound": bound}
            for name, part in (("below", below), ("above", above)):
                number, weight, square = self._sums[:, part].sum(axis=1).tolist()
                row[f"frames_{name}"] = int(number)
                row[f"rmse_{name}"] = math.sqrt(square / (3 * weight)) if weight > 0 else math.nan
                row[f"max_{name}"] = float(self._largest[part].max())
            if row["frames_below"] and row["frames_above"]:
                found.append(row)
        return found

    def as_dict(self) -> dict:
        """Return all of it for JSON, which has no NaN: None instead."""

        def number(value: float) -> float | None:
            return None if math.isnan(value) else value

        return {
            "correlation_of_atoms": number(self.of_atoms.r),
            "correlation_of_frames": number(self.of_frames.r),
            "error_to_deviation": number(self.of_atoms.ratio),
            "bounds": self.rows(),
        }

    def as_lines(self) -> list[str]:
        """Return a table."""
        lines = [
            "forces by max_devi_f of a frame, of preferred atoms or, in systems without "
            "preferences, real ones",
            f"{'':>9}{'below':>8}{'RMSE':>11}{'max':>11}{'above':>8}{'RMSE':>11}{'max':>11}",
        ]
        for row in self.rows():
            cells = "".join(
                f"{row[f'frames_{side}']:8}{row[f'rmse_{side}']:11.4g}{row[f'max_{side}']:11.4g}"
                for side in ("below", "above")
            )
            lines.append(f"{row['bound']:9.4g}{cells}")
        return [
            *lines,
            f"correlation of error and deviation: {self.of_atoms.r:.3f} over atoms, "
            f"{self.of_frames.r:.3f} over frames",
            f"error of an atom's force to its deviation, both as root mean squares: "
            f"{self.of_atoms.ratio:.3g}",
        ]
