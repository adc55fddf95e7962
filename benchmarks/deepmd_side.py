# SPDX-License-Identifier: LGPL-3.0-or-later
"""What worker.py does with TensorFlow and DeePMD-kit: evaluations by DeepPot, training steps."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from deepmd.infer import DeepPot
from deepmd.tf.entrypoints.train import get_data
from deepmd.tf.env import get_tf_session_config, tf
from deepmd.tf.train.run_options import RunOptions
from deepmd.tf.train.trainer import DPTrainer
from deepmd.utils.argcheck import normalize
from deepmd.utils.compat import update_deepmd_input


def opened(model: str) -> DeepPot:
    """Return a model."""
    return DeepPot(model)


def evaluation(
    potential: DeepPot, types: np.ndarray, positions: np.ndarray, sel: list[int] | None = None
) -> Callable[[], Any]:
    """Return a function that evaluates a frame, with forces and virial.

    Parameters
    ----------
    potential, types, positions
        The model, and real atoms, sorted by type.
    sel
        Slots of each type; then the model is given a mask, too.
    """
    if sel is None:
        return lambda: potential.eval(positions.reshape(1, -1), None, types)
    of_type = np.arange(len(types)) - np.searchsorted(types, types)
    slots = np.cumsum([0, *sel[:-1]])[types] + of_type
    all_types = np.repeat(np.arange(len(sel)), sel)
    coord, mask = np.zeros((1, len(all_types), 3)), np.zeros((1, len(all_types)))
    coord[0, slots], mask[0, slots] = positions, 1
    return lambda: potential.eval(coord.reshape(1, -1), None, all_types, aparam=mask)


class Training:
    """A training that is run step by step, on one and the same batch.

    Parameters
    ----------
    input
        As of dp train.
    system
        The data; all its frames are the batch.
    start
        A checkpoint to start from, or None for new nets.
    """

    def __init__(self, input: dict, system: str, start: str | None = None) -> None:
        tf.reset_default_graph()
        if os.environ.get("DP_MASK") == "builtin":
            input["model"]["descriptor"].pop("even_steps", None)
        training = input["training"]
        training.pop("validation_data", None)
        nframes = len(np.load(Path(system) / "set.000" / "energy.npy"))
        training["training_data"] = {"systems": [system], "batch_size": nframes}
        # So low that nets stay as steep as they are.
        input["learning_rate"] |= {"start_lr": 1e-10, "stop_lr": 1e-11}
        jdata = normalize(update_deepmd_input(input, warning=False))
        self.trainer = DPTrainer(jdata, run_opt=RunOptions(init_model=start, log_level=30))
        type_map = jdata["model"]["type_map"]
        data = get_data(jdata["training"]["training_data"], 0, type_map, None)
        data.add_data_requirements(self.trainer.data_requirements)
        self.trainer.build(data, stop_batch=1_000_000)
        self.trainer._init_session()
        self.feed = self.trainer.get_feed_dict(data.get_batch(), is_training=True)

    def step(self) -> None:
        """Run one training step."""
        self.trainer.sess.run(self.trainer.train_op, feed_dict=self.feed)


def shapes() -> list[list[int]]:
    """Return those of the parameters of the latest training."""
    return [variable.shape.as_list() for variable in tf.trainable_variables()]


def train_nothing(shapes: list[list[int]]) -> None:
    """Train as DeePMD-kit does, but only parameters of these shapes, to be small."""
    normal = tf.random_normal_initializer(stddev=0.1)
    parameters = [
        tf.get_variable(f"parameter_{k}", shape, tf.float64, normal)
        for k, shape in enumerate(shapes)
    ]
    loss = tf.add_n([tf.reduce_sum(parameter**2) for parameter in parameters])
    step = tf.train.AdamOptimizer(1e-3).minimize(loss)
    tf.train.Saver()
    session = tf.Session(config=get_tf_session_config())
    session.run(tf.global_variables_initializer())
    for _ in range(5):
        session.run(step)
