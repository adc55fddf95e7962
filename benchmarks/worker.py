# SPDX-License-Identifier: LGPL-3.0-or-later
"""One side of a comparison: times training steps and evaluations in a process of its own.

run.py starts it twice, once with DP_MASK=builtin, and sends one JSON request per line:
{"do": "train", "eval" or "compressed", "input": ..., "system": ..., "frame": ..., "repeat": ...};
the answer is a list of seconds. The built-in, which has no compressed models, evaluates the
original. {"do": "memory"} is answered with the megabytes that the process had at its peak,
{"do": "shapes"} with those of the parameters of the latest training, and {"do": "fit", "shapes":
...}, which trains parameters of these shapes on nothing but their squares, with nothing.
"""

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

REPLY = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what DeePMD-kit prints is not an answer

import numpy as np
from deepmd.infer import DeepPot
from deepmd.tf.entrypoints.freeze import freeze
from deepmd.tf.entrypoints.train import get_data
from deepmd.tf.env import get_tf_session_config, tf
from deepmd.tf.train.run_options import RunOptions
from deepmd.tf.train.trainer import DPTrainer
from deepmd.utils.argcheck import normalize
from deepmd.utils.compat import update_deepmd_input

from deepmd_mask.conversion import convert

SHORTEST = 0.9  # Å, of the bonds in a protein


class Training:
    """A training session that is run step by step."""

    def __init__(self, jdata: dict) -> None:
        tf.reset_default_graph()
        self.trainer = DPTrainer(jdata, run_opt=RunOptions(log_level=30))
        type_map = jdata["model"]["type_map"]
        data = get_data(jdata["training"]["training_data"], 0, type_map, None)
        data.add_data_requirements(self.trainer.data_requirements)
        self.trainer.build(data, stop_batch=1_000_000)
        self.trainer._init_session()
        self.feed = self.trainer.get_feed_dict(data.get_batch(), is_training=True)

    def step(self) -> None:
        """Run one training step."""
        self.trainer.sess.run(self.trainer.train_op, feed_dict=self.feed)

    def freeze(self, folder: str, compressed: bool) -> str:
        """Write a frozen model, or a compressed one if there is such."""
        self.trainer.saver.save(self.trainer.sess, f"{folder}/model.ckpt")
        frozen, output = Path(folder, "frozen.pb"), Path(folder, "compressed.pb")
        with tf.Graph().as_default():  # the default graph is that of the latest training
            freeze(checkpoint_folder=f"{folder}/model.ckpt", output=str(frozen))
        if not compressed or os.environ.get("DP_MASK") == "builtin":
            return str(frozen)
        convert(frozen, output, compress=True, min_distance=SHORTEST, overwrite=True)
        return str(output)


def evaluation(model: DeepPot, system: Path, frame: int):
    """Return a function that evaluates one frame."""
    types = np.loadtxt(system / "type.raw", dtype=int)
    coord, mask = (np.load(system / f"set.000/{key}.npy")[frame] for key in ("coord", "aparam"))
    return lambda: model.eval(coord[None], None, types, aparam=mask[None])


def fit_nothing(shapes: list[list[int]]) -> None:
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
    timed(lambda: session.run(step), 3)


def timed(action, repeat: int) -> list[float]:
    """Return the seconds of each of several calls, after two that warm up."""
    seconds = []
    for _ in range(repeat + 2):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return seconds[2:]


def of_memory(do: str, shapes: list[list[int]] | None = None) -> list:
    """Answer a request that has to do with memory."""
    if do == "memory":
        return [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]
    if do == "shapes":
        return [variable.shape.as_list() for variable in tf.trainable_variables()]
    fit_nothing(shapes)
    return []


def main() -> None:
    """Answer requests until standard input ends."""
    trainings, models = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for line in sys.stdin:
            request = json.loads(line)
            if request["do"] in ("memory", "shapes", "fit"):
                print(json.dumps(of_memory(**request)), file=REPLY, flush=True)
                continue
            key = json.dumps([request["input"], request["system"]])
            if key not in trainings:
                jdata = normalize(update_deepmd_input(request["input"], warning=False))
                jdata["training"]["training_data"]["systems"] = [request["system"]]
                trainings[key] = Training(jdata)
            action = trainings[key].step
            if request["do"] != "train":
                kind = key, request["do"]
                if kind not in models:
                    compressed = request["do"] == "compressed"
                    models[kind] = DeepPot(trainings[key].freeze(folder, compressed))
                action = evaluation(models[kind], Path(request["system"]), request["frame"])
            print(json.dumps(timed(action, request["repeat"])), file=REPLY, flush=True)


if __name__ == "__main__":
    main()
