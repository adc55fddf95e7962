# SPDX-License-Identifier: LGPL-3.0-or-later
"""How far the models of a committee are from each other: DeePMD-kit's model deviation."""

from typing import Any, NamedTuple

import numpy as np


def deviation_of(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Return the root of the mean over models of |x_k - mean x|².

    Parameters
    ----------
    values
        [nmodels, …]
    axis
        That of the components of a vector x, which its length is over; None if x is a number.
    """
    squares = (values - values.mean(axis=0)) ** 2
    if axis is not None:
        squares = squares.sum(axis=axis)
    return np.sqrt(squares.mean(axis=0))


class ForceDeviation(NamedTuple):
    """Deviations of forces over some atoms, with the names that DeePMD-kit gives them.

    In the unit of force of the models; [nframes], or a number of one frame. NaN where there is no
    atom.

    Attributes
    ----------
    max_devi_f, min_devi_f, avg_devi_f
        The largest, the smallest and the mean.
    """

    max_devi_f: Any
    min_devi_f: Any
    avg_devi_f: Any

    @classmethod
    def of(cls, deviation: np.ndarray, weights: np.ndarray | None = None) -> "ForceDeviation":
        """Return those over the atoms that have a weight.

        Parameters
        ----------
        deviation
            [natoms] or [nframes, natoms], that of a `Prediction`.
        weights
            Of the same shape, bool or not negative: the mask, or preferences. The mean is weighted.
            By default all atoms count.

        Raises
        ------
        ValueError
            If there is no deviation, as of one model, or weights are not as said.

        Examples
        --------
        >>> ForceDeviation.of(potential.evaluate(types, positions).deviation).max_devi_f
        """
        if deviation is None:
            raise ValueError("there is no deviation of one model; give a committee's")
        deviation = np.asarray(deviation, float)
        w = np.ones(deviation.shape) if weights is None else np.asarray(weights, float)
        if w.shape != deviation.shape:
            raise ValueError(f"weights have the shape {w.shape}, not {deviation.shape}")
        if not (np.isfinite(w) & (w >= 0)).all():
            raise ValueError("weights must be finite, and not negative")
        some = w > 0
        none = ~some.any(axis=-1)
        largest = np.where(some, deviation, -np.inf).max(axis=-1, initial=-np.inf)
        smallest = np.where(some, deviation, np.inf).min(axis=-1, initial=np.inf)
        mean = (w * deviation).sum(axis=-1) / np.where(none, 1, w.sum(axis=-1))
        return cls(*(np.where(none, np.nan, one)[()] for one in (largest, smallest, mean)))
