# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a model is, as arrays."""

from typing import NamedTuple

import numpy as np

TableArrays = tuple[
    np.ndarray, np.ndarray, np.ndarray
]  # first, panels and C of op/kernels/series.h


class Nets(NamedTuple):
    """The embedding nets, or the fitting nets.

    Attributes
    ----------
    neuron
        Width of each hidden layer; of embedding nets, all layers are hidden.
    resnet_dt
        Whether skip connections have a timestep.
    activation
        Name of the activation function.
    parameters
        Of all nets, in the order of op/kernels/embedding.h or op/kernels/fitting.h.
    """

    neuron: list[int]
    resnet_dt: bool
    activation: str
    parameters: list[np.ndarray]


class Parts(NamedTuple):
    """All nets of a model.

    Attributes
    ----------
    embedding
        The embedding nets; without parameters where there is a table.
    net
        [ntypes * ntypes], the net of each pair of types, t_j running faster; -1 if excluded.
    M2
        Columns of X_i in the second factor of D_i.
    table
        Of the embedding nets; None if the model has none.
    fitting
        The fitting nets.
    """

    embedding: Nets
    net: list[int]
    M2: int
    table: TableArrays | None
    fitting: Nets
