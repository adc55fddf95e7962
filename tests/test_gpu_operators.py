# SPDX-License-Identifier: LGPL-3.0-or-later
"""TensorFlow with a GPU: where it runs the operators, and that they give what the CPU's do.

The GPU may be the emulated one; docs/gpu.md says how to have it.
"""

import ctypes
import os
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from frozen_models import graph_of
from helpers import make_input, random_frames, write_input, write_system
from jobs import OUTPUTS, run

import deepmd_mask
from deepmd_mask.graph.ops import PREFIX

EMULATED = Path(deepmd_mask.__file__).parent / "libdeepmd_mask_emulated_gpu.so"
ACCESSES = ("kernel", "to_host", "to_device", "within", "fill")  # cuda/emulated/access.h
FRAMES = {
    "no atom": random_frames(nreal=[[0, 0, 0]]),
    "one atom": random_frames(nreal=[[0, 0, 1]]),
    "many atoms": random_frames(slots=(30, 20, 10), nreal=[[30, 20, 10], [11, 13, 7]]),
    "any number": random_frames(nreal=[[5, 4, 2], [0, 0, 0], [0, 1, 0], [3, 0, 2]]),
}
tf1 = tf.compat.v1

WANTED = "TF_PLUGGABLE_DEVICE_LIBRARY_PATH" in os.environ  # then there must be one
pytestmark = pytest.mark.skipif(
    not WANTED and not tf.config.list_physical_devices("GPU"),
    reason="TensorFlow sees no GPU; docs/gpu.md has an emulated one",
)


class OpenModel:
    """A frozen model in a session of its own, with or without the GPU.

    With a device, all nodes are asked to be there, if they can: what DeePMD-kit's C++ library does.
    """

    def __init__(self, path, gpu=True, device=""):
        config = tf1.ConfigProto(
            device_count={} if gpu else {"GPU": 0}, allow_soft_placement=device != ""
        )
        self.session = tf1.Session(graph=tf.Graph(), config=config)
        graph_def = graph_of(path)
        for node in graph_def.node:
            node.device = node.device or device
        with self.session.graph.as_default():
            tf.import_graph_def(graph_def, name="")

    def run(self, frames):
        """Return the outputs by name, and the pairs of this package's operators and devices."""
        nframes, nslots = frames.mask.shape
        natoms = [nslots, nslots, *np.bincount(frames.types)]
        feed = {
            "t_coord:0": frames.coord.ravel(),
            "t_type:0": np.tile(frames.types, nframes),
            "t_natoms:0": np.array(natoms),
            "t_box:0": np.tile(np.eye(3).ravel(), nframes),
            "t_mesh:0": np.zeros(0, int),
            "t_aparam:0": frames.mask.ravel(),
        }
        fetches = {name: f"o_{name}:0" for name in OUTPUTS}
        run, options = tf1.RunMetadata(), tf1.RunOptions(output_partition_graphs=True)
        results = self.session.run(fetches, feed, options, run)
        nodes = (node for graph in run.partition_graphs for node in graph.node)
        return results, {(n.op.removeprefix(PREFIX), n.device) for n in nodes if PREFIX in n.op}


@pytest.fixture(scope="module", params=["frozen", "compressed"])
def model(trained, request):
    return trained.model if request.param == "frozen" else trained.compressed


OF_MODELS = {
    "frozen": {"FitSeries", "Embed", "Contract", "Energies", "ContractReverse", "Force"},
    "compressed": {"Potential"},
}


def assert_on_gpu(devices, operators):
    """Assert that these ran on the GPU, and RealAtoms on the host."""
    found = {(op, device[-5:]) for op, device in devices}
    assert found == {("RealAtoms", "CPU:0"), *((op, "GPU:0") for op in operators)}


@pytest.mark.parametrize("device", ["", "/gpu:0"])
@pytest.mark.parametrize("frames", FRAMES.values(), ids=FRAMES)
def test_models_give_what_they_give_on_the_cpu(model, frames, device):
    found, devices = OpenModel(model, device=device).run(frames)
    wanted, on_cpu = OpenModel(model, gpu=False).run(frames)
    assert_on_gpu(devices, OF_MODELS[model.stem])
    assert {device[-5:] for _, device in on_cpu} == {"CPU:0"}
    for name in OUTPUTS:
        limit = 1e-10 * np.abs(wanted[name]).max()
        np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=limit)


def test_training_is_on_the_gpu(tmp_path, monkeypatch, capfd):
    from deepmd.tf.train import trainer

    get_config = trainer.get_tf_session_config

    def logging_config():
        config = get_config()
        config.log_device_placement = True
        return config

    monkeypatch.setattr(trainer, "get_tf_session_config", logging_config)
    system = write_system(tmp_path / "system", random_frames())
    # relu has no series: such nets, too, have kernels of their own.
    nets = {"activation_function": "relu"}
    write_input(tmp_path, make_input([system], steps=2, descriptor=nets))
    run([[tmp_path, "train", "input.json"]])
    placed = re.findall(rf"\({PREFIX}(\w+)\): \S*/device:(\w+:0)", capfd.readouterr().err)
    grads = {f"{op}Grad" for op in ("FitSeries", "Embed", "Force", "Energies")}
    assert_on_gpu(placed, OF_MODELS["frozen"] | grads)


def accesses():
    """Return how often the emulated GPU's memory has been opened so far, for what."""
    count = ctypes.CDLL(str(EMULATED)).dpmask_device_accesses
    count.restype = ctypes.c_int64
    return dict(zip(ACCESSES, map(count, range(len(ACCESSES))), strict=True))


@pytest.mark.skipif(not EMULATED.exists(), reason="only the emulated GPU counts copies")
def test_compressed_models_copy_little(trained):
    opened = OpenModel(trained.compressed)
    opened.run(trained.frames)  # the first time copies constants, too
    before = accesses()
    opened.run(trained.frames)
    found = {why: count - before[why] for why, count in accesses().items()}
    assert found["kernel"] > 0
    # The bias is the sum of two constants, which only a real GPU adds by itself.
    assert found["to_device"] == len(["coord", "slot", "weight", "bias"])
    assert found["to_host"] == len(OUTPUTS)
    assert found["within"] == 0
