# SPDX-License-Identifier: LGPL-3.0-or-later
"""The variables of the embedding nets, under the names that DeePMD-kit gives them."""

from dataclasses import dataclass

import numpy as np
from deepmd.tf.env import tf
from deepmd.tf.utils.network import embedding_net_rand_seed_shift, variable_summaries

from .spread import Span, first_layer


@dataclass(frozen=True)
class NetShape:
    """What all embedding nets of a descriptor have in common.

    Attributes
    ----------
    neuron
        Width of each layer; the last is M1.
    resnet_dt
        Whether layers with a skip connection have a timestep.
    activation
        DeePMD-kit's name of the activation function.
    precision
        Of the parameters.
    trainable
        Whether training changes the parameters.
    """

    neuron: list[int]
    resnet_dt: bool
    activation: str
    precision: tf.DType
    trainable: bool


@dataclass
class Seed:
    """Hands a seed to one net after the other, as DeePMD-kit does.

    Attributes
    ----------
    value
        The seed of the next net; None for a random one.
    uniform
        Whether every variable gets the same seed, for old inputs.
    """

    value: int | None
    uniform: bool

    def of(self, offset: int) -> int | None:
        """Return the seed of the variable with this offset."""
        return self.value if self.value is None or self.uniform else self.value + offset

    def next_net(self, neuron: list[int]) -> None:
        """Move on to the next net."""
        if self.value is not None and not self.uniform:
            self.value += embedding_net_rand_seed_shift(neuron)


def net_variables(
    shape: NetShape,
    suffix: str,
    seed: Seed,
    initial: dict[str, np.ndarray] | None,
    span: Span | None = None,
) -> list[tf.Variable]:
    """Create the variables of one net in the current variable scope.

    Parameters
    ----------
    shape
        Of the net.
    suffix
        End of the variables' names, "_" and the type of the neighbour.
    seed
        For the variables that start at random.
    initial
        Values to start from, by name with scope, or None; a variable not among them starts at
        random (a model that the built-in froze lacks the timesteps that it never uses).
    span
        Which s the net meets, for the start of its first layer; None for one as the built-in draws.

    Returns
    -------
    list of tf.Variable
        Those that the net uses, in the order of op/kernels/embedding.h. As with the built-in, a
        timestep exists for each layer if resnet_dt, but is used only beside a skip connection.
    """
    scope = tf.get_variable_scope().name
    drawn = {}
    if span is not None:
        first, value = shape.neuron[0], seed.of(3)
        rng = np.random.default_rng(None if value is None else value % 2**32)
        matrix, bias = first_layer(first, span, shape.activation, rng)
        drawn = {f"{scope}/matrix_1{suffix}": matrix, f"{scope}/bias_1{suffix}": bias}
    start_at = {**drawn, **(initial or {})}

    def variable(
        name: str, size: list[int], stddev: float, mean: float, offset: int
    ) -> tf.Variable:
        initializer = tf.random_normal_initializer(mean, stddev, seed=seed.of(offset))
        start = start_at.get(f"{scope}/{name}")
        if start is not None:
            initializer = tf.constant_initializer(np.reshape(start, size))
        created = tf.get_variable(
            name, size, shape.precision, initializer, trainable=shape.trainable
        )
        variable_summaries(created, name)
        return created

    used = []
    for layer, (before, width) in enumerate(
        zip([1, *shape.neuron], shape.neuron, strict=False), start=1
    ):
        name = f"{layer}{suffix}"
        stddev = 1 / np.sqrt(before + width)
        used.append(variable(f"matrix_{name}", [before, width], stddev, 0.0, 3 * layer))
        used.append(variable(f"bias_{name}", [width], 1.0, 0.0, 3 * layer + 1))
        if shape.resnet_dt:
            timestep = variable(f"idt_{name}", [1, width], 0.001, 1.0, 3 * layer + 2)
            if width in (before, 2 * before):
                used.append(timestep)
    seed.next_net(shape.neuron)
    return used
