# SPDX-License-Identifier: LGPL-3.0-or-later
"""The embedding nets of a compressed model: a table of Chebyshev series."""

import os
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from deepmd.tf.env import tf

from .._kernels import fit_table32, fit_table64
from ..shared.log import log
from .embedding_net import NetShape
from .real_atoms import on_host


class Table(NamedTuple):
    """The nets as Chebyshev series of s = 1/r, a fixed one for all batches.

    Attributes
    ----------
    first
        [nnets + 1] int64; net k has the panels first[k] to first[k + 1].
    panels
        [npanels, 2] float64, middle and half width of each interval of s, in 1/(length unit).
    C
        [npanels, 16, M1] the coefficients, in the precision of the nets.
    """

    first: np.ndarray
    panels: np.ndarray
    C: np.ndarray

    def constants(self, scope: str, beside: tf.Tensor) -> list[tf.Tensor]:
        """Return the arrays in the graph, in the order of the operators; `first` as of on_host."""
        with on_host(beside):
            first = tf.constant(self.first, name=f"{scope}/table_first")
        panels = tf.constant(self.panels, name=f"{scope}/table_panels")
        return [first, panels, tf.constant(self.C, name=f"{scope}/table_C")]

    @property
    def megabytes(self) -> float:
        """The size of all arrays."""
        return sum(array.nbytes for array in self) / 1e6


def tabulate(
    shape: NetShape, parameters: Sequence[np.ndarray], upper: float, narrowest: float
) -> Table:
    """Compute the table of some nets for s from 0 to upper.

    Parameters
    ----------
    shape
        Of the nets.
    parameters
        Of all nets, in the order of op/kernels/embedding.h.
    upper
        End of the table, in 1/(length unit); beyond it nets go on as straight lines.
    narrowest
        Panels are halved until the series is right to rounding error, or until they would be
        narrower than this, and joined where fewer do as well.
    """
    single = shape.precision == tf.float32
    fit_table = fit_table32 if single else fit_table64
    return Table(
        *fit_table(
            neuron=shape.neuron,
            resnet_dt=shape.resnet_dt,
            activation=shape.activation,
            parameters=parameters,
            lower=0.0,
            upper=upper,
            narrowest=narrowest,
            threads=os.cpu_count() or 1,
        )
    )


def table_of_model(
    shape: NetShape,
    names: Sequence[str],
    values: Mapping[str, np.ndarray],
    min_distance: float,
    extrapolate: float,
    narrowest: float,
) -> Table:
    """Compute the table of a frozen model.

    Parameters
    ----------
    shape
        Of the nets.
    names
        Of the variables of all nets, in the order of op/kernels/embedding.h.
    values
        What the model has of them.
    min_distance
        The shortest distance between two real atoms of the training data, in the length unit.
    extrapolate
        The table ends at this times 1/min_distance.
    narrowest
        As of `tabulate`.

    Raises
    ------
    ValueError
        If min_distance is not a distance, or the model lacks variables.
    """
    if not min_distance > 0 or not np.isfinite(min_distance):
        msg = (
            "se_a_mask: the model says that the shortest distance between two atoms is "
            f"{min_distance}, so its table has no end. Models that the built-in se_a_mask "
            "froze say so: turn them into one of this package with dp-mask convert --compress"
        )
        raise ValueError(msg)
    missing = [name for name in names if name not in values]
    if missing:
        raise ValueError(f"se_a_mask: the model to compress has no {missing[0]}")
    start = time.perf_counter()
    upper = extrapolate / min_distance
    table = tabulate(shape, [values[name] for name in names], upper, narrowest)
    log.info(
        "se_a_mask: table of %d nets for s = 0 to %.3g: %d to %d panels for each, %.2f MB, "
        "built in %.1f s",
        len(table.first) - 1,
        upper,
        np.diff(table.first).min(),
        np.diff(table.first).max(),
        table.megabytes,
        time.perf_counter() - start,
    )
    return table
