# SPDX-License-Identifier: LGPL-3.0-or-later
"""Training that steps the first layers of fitting nets in coordinates of their own.

Adam steps U, beside which the matrix is kept as W = A U; so variables, checkpoints and models are
what they are without. The coordinates are found when training begins from nothing.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from deepmd.tf.env import tf
from deepmd.tf.train.trainer import DPTrainer

from ..shared.log import log
from .coordinates import MOST_DIRECTIONS, Coordinates, times
from .descriptor import DescrptMask

# Coordinates are found from so many frames or more, unless so many batches have fewer.
SAMPLED_FRAMES, SAMPLED_BATCHES = 240, 240
FASTEST = 0.002  # the learning rate above which training has been seen to be ruined


class OnGraph(NamedTuple):
    """Coordinates, and a matrix in them, as variables, which no checkpoint has."""

    U: tf.Variable
    scale: tf.Variable
    directions: tf.Variable
    excess: tf.Variable

    @classmethod
    def of(cls, matrix: tf.Variable, width: int) -> "OnGraph":
        """Create those of a matrix whose first rows, as many as width, are of D."""

        def variable(name: str, *shape: int) -> tf.Variable:
            return tf.Variable(
                np.zeros(shape),
                trainable=False,
                collections=[tf.GraphKeys.LOCAL_VARIABLES],
                dtype=matrix.dtype.base_dtype,
                name=f"{matrix.op.name}/{name}",
            )

        return cls(
            variable("U", *matrix.shape),
            variable("scale"),
            variable("directions", width, MOST_DIRECTIONS),
            variable("excess", MOST_DIRECTIONS),
        )

    def load(self, U: np.ndarray, found: Coordinates, session: tf.Session) -> None:
        """Take over U and coordinates."""
        for variable, value in zip(self, (U, *found[1:]), strict=True):
            variable.load(np.asarray(value, variable.dtype.as_numpy_dtype), session)

    def apply(self, U: tf.Tensor) -> tf.Tensor:
        """Return A U for the rows of D, and other rows as they are."""
        width = int(self.directions.shape[0])
        if width == U.shape[0]:
            return times(self, U, tf.transpose)
        return tf.concat([times(self, U[:width], tf.transpose), U[width:]], axis=0)


class EvenAdam(tf.train.AdamOptimizer):
    """Adam that steps some matrices in coordinates of theirs.

    Parameters
    ----------
    coordinates
        By the name of a variable.
    args, options
        Of AdamOptimizer.
    """

    def __init__(self, coordinates: dict[str, OnGraph], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._coordinates = coordinates

    def _apply_dense(self, grad: tf.Tensor, var: tf.Variable) -> tf.Operation:
        A = self._coordinates.get(var.op.name)
        if A is None:
            return super()._apply_dense(grad, var)
        numbers = dict(
            zip(("beta1_power", "beta2_power"), self._get_beta_accumulators(), strict=True),
            lr=self._lr_t,
            beta1=self._beta1_t,
            beta2=self._beta2_t,
            epsilon=self._epsilon_t,
        )
        U = tf.raw_ops.ApplyAdam(
            var=A.U,
            m=self.get_slot(var, "m"),
            v=self.get_slot(var, "v"),
            grad=A.apply(grad),
            **{name: tf.cast(number, var.dtype.base_dtype) for name, number in numbers.items()},
        )
        return tf.assign(var, A.apply(U)).op


class EvenSteps:
    """The coordinates of all first layers in a training from nothing.

    Parameters
    ----------
    trainer
        With the network, before its optimizer.
    """

    def __init__(self, trainer: DPTrainer) -> None:
        self.trainer = trainer
        self.descriptor, self.fitting = trainer.model.descrpt, trainer.model.fitting
        width = self.descriptor.get_dim_out()
        self.on_graph = {
            matrix.op.name: OnGraph.of(matrix, width) for matrix, _ in self.fitting.first_layers
        }
        # Built now: no operation can be once the session has begun.
        self.type_first = self.descriptor.real_atoms.type_first()

    def begin(self, data: Any) -> None:
        """Find the coordinates, and draw first layers in them."""
        session, rate = self.trainer.sess, self.trainer.sess.run(self.trainer.learning_rate)
        if rate > FASTEST:
            log.warning(
                "se_a_mask: even_steps with a learning rate of %g; start with 0.001 or 0.002: from "
                "0.003 on, training has been seen to be ruined",
                rate,
            )
        found = [Coordinates.of(D) for D in self._samples(data)]
        for (matrix, bias), of_type in zip(self.fitting.first_layers, found, strict=True):
            W, b = session.run([matrix, bias])
            self.on_graph[matrix.op.name].load(W, of_type, session)
            width = len(of_type.mean)
            W[:width] = times(of_type, W[:width].astype(np.float64))
            matrix.load(W, session)
            bias.load(b - of_type.mean.astype(b.dtype) @ W[:width], session)

    def _samples(self, data: Any) -> Iterable[np.ndarray]:
        """Return D of real atoms of each type [n, width], in frames of the data."""
        samples: list[list[np.ndarray]] = [[] for _ in range(self.descriptor.get_ntypes())]
        nframes = 0
        for _ in range(SAMPLED_BATCHES):
            batch = data.get_batch()
            feed = self.trainer.get_feed_dict(batch, is_training=False)
            D, first = self.trainer.sess.run([self.descriptor.D, self.type_first], feed)
            for t, of_type in enumerate(samples):
                of_type.append(D[first[t] : first[t + 1]])
            nframes += len(batch["coord"])
            if nframes >= SAMPLED_FRAMES:
                break
        return map(np.concatenate, samples)


def register() -> None:
    """Let DPTrainer do so where the descriptor asks for it."""
    build, build_training = DPTrainer.build, DPTrainer._build_training
    init_session = DPTrainer._init_session

    def build_with(self: DPTrainer, data: Any = None, *args: Any, **options: Any) -> None:
        self.data_of_training = data
        build(self, data, *args, **options)

    def build_training_with(self: DPTrainer) -> None:
        descriptor = getattr(self.model, "descrpt", None)
        wanted = isinstance(descriptor, DescrptMask) and descriptor.even_steps
        # From another model it goes on: steps in new coordinates undo what that has learned.
        from_nothing = self.run_opt.init_mode == "init_from_scratch"
        # Each process would find coordinates from frames of its own, and train another model.
        alone = not self.run_opt.is_distrib
        if wanted and not (from_nothing and alone):
            log.warning(
                "se_a_mask: even_steps is for training from nothing in one process; this one goes "
                "without"
            )
        self.even_steps = EvenSteps(self) if wanted and from_nothing and alone else None
        if self.even_steps is None:
            build_training(self)
            return
        plain = tf.train.AdamOptimizer
        tf.train.AdamOptimizer = partial(EvenAdam, self.even_steps.on_graph)
        try:
            build_training(self)
        finally:
            tf.train.AdamOptimizer = plain

    def init_session_with(self: DPTrainer) -> None:
        init_session(self)
        if getattr(self, "even_steps", None) is not None and self.data_of_training is not None:
            self.even_steps.begin(self.data_of_training)

    DPTrainer.build, DPTrainer._build_training = build_with, build_training_with
    DPTrainer._init_session = init_session_with
