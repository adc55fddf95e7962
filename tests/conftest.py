# SPDX-License-Identifier: LGPL-3.0-or-later
"""What several test modules share."""

import json
import os
import sys
from functools import cached_property
from pathlib import Path

# `python -m pytest` puts the source tree before the installed package, which has the libraries.
SOURCE = Path(__file__).resolve().parent.parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != SOURCE]

import helpers
import pytest

os.environ.pop("DP_MASK", None)  # this process has the plugin; second processes are told
# TensorFlow imports Keras, which nothing here uses, if it is not told to take that of old, which is
# not installed.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

# The files that take longest, which begin first, so that no process is left with one at the end.
LONGEST = ("test_builtin", "test_convert", "test_training", "test_maskless", "test_dpmm_example",
           "test_random", "test_compress", "test_bad_input", "test_evaluate", "test_lammps",
           "test_docs", "test_c_api", "test_kernels", "test_wheel")  # fmt: skip


def pytest_configure(config):
    """Let pytest-xdist keep the order; by itself, files of many tests come first."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def small_graphs():
    """Let this process build graphs without summaries."""
    if "deepmd.tf" in sys.modules:
        from graphs import leave_out_summaries

        leave_out_summaries()


class Trained:
    """A small frozen model, the frames that it has seen, and where it was made.

    The tests of engines take their models from here by name: model, compressed, single, plain.
    """

    def __init__(self, directory, frames):
        from deepmd.infer import DeepPot

        self.directory = directory
        self.frames = frames
        self.model = directory / "frozen.pb"
        self.potential = DeepPot(str(self.model))

    @cached_property
    def compressed(self):
        """The model after dp compress."""
        from jobs import run

        run([[self.directory, "compress", "-i", "frozen.pb", "-o", "compressed.pb"]])
        return self.directory / "compressed.pb"

    @cached_property
    def single(self):
        """The model compressed, with nets in float32."""
        from deepmd_mask.conversion import convert

        output = self.directory / "single.pb"
        convert(self.model, output, precision="float32", compress=True)
        return output

    @cached_property
    def plain(self):
        """The model on the operators of the built-in."""
        from deepmd_mask.conversion import convert

        output = self.directory / "plain.pb"
        convert(self.model, output, operators="built-in")
        return output

    def evaluate(self, frames=None, **changes):
        """Return what the potential gives for frames, which keywords change."""
        from jobs import evaluate

        options = {name: changes.pop(name) for name in ("atomic", "batch") if name in changes}
        frames = (frames or self.frames)._replace(**changes)
        return evaluate(self.potential, frames.coord, frames.types, frames.mask, **options)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Train a small model for three steps, in this process."""
    from jobs import run

    directory = tmp_path_factory.mktemp("trained")
    frames = helpers.random_frames(nframes=4)
    system = helpers.write_system(directory / "system", frames)
    jdata = helpers.make_input([system], steps=3, descriptor={"resnet_dt": True})
    helpers.write_input(directory, jdata)
    run([[directory, "train", "input.json"], [directory, "freeze", "-o", "frozen.pb"]])
    return Trained(directory, frames)


@pytest.fixture(scope="session")
def zinc_model(tmp_path_factory):
    """Train the model of examples/zinc_protein, but a small one and for one step."""
    from jobs import run

    directory = tmp_path_factory.mktemp("zinc")
    example = SOURCE / "examples" / "zinc_protein"
    model = json.loads((example / "input.json").read_text())["model"]
    jdata = helpers.make_input(
        [example / "data" / "validation"],
        steps=1,
        sel=model["descriptor"]["sel"],
        model={"type_map": model["type_map"]},
        descriptor={"type_one_side": True},
    )
    helpers.write_input(directory, jdata)
    run([[directory, "train", "input.json"], [directory, "freeze", "-o", "model.pb"]])
    return directory / "model.pb"


@pytest.fixture(scope="module")
def solvated():
    """Fill a box, 1.02 nm wide, with 26 molecules."""
    from md import solvate

    return solvate(26)
