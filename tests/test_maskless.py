# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models without a mask, through all dp commands: with the plugin as with DP_MASK=builtin.

Not for an emulated GPU, which DeePMD-kit's own kernels would take for a real one.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import helpers
import jobs
import numpy as np
import pytest
from deepmd.dpmodel.utils.serialization import load_dp_model
from deepmd.tf.descriptor.descriptor import Descriptor
from deepmd.tf.descriptor.se_a import DescrptSeA
from deepmd.tf.env import tf
from deepmd.tf.fit.ener import EnerFitting
from deepmd.tf.fit.fitting import Fitting
from deepmd.tf.model.dos import DOSModel
from deepmd.tf.model.ener import EnerModel
from deepmd.tf.model.model import Model, StandardModel
from deepmd.tf.model.tensor import DipoleModel
from graphs import as_built

NFRAMES, TYPES = 3, np.repeat([0, 1], [2, 4])
# Few nets of few layers: what takes time is to build graphs, net by net and layer by layer.
SE_A = {
    "type": "se_e2_a", "sel": [6, 12], "rcut": 3.0, "rcut_smth": 1.0, "neuron": [3, 6],
    "axis_neuron": 2, "type_one_side": True, "seed": 1,
}  # fmt: skip
SE_R = {
    "type": "se_e2_r", "sel": [6, 12], "rcut": 3.0, "rcut_smth": 1.0, "neuron": [3, 6],
    "type_one_side": True, "seed": 1,
}  # fmt: skip
HYBRID = {"type": "hybrid", "list": [SE_A, SE_R]}
ENERGY = {"type": "ener", "neuron": [4], "seed": 1}
STANDARD = {"descriptor": SE_A, "fitting_net": ENERGY}
MODELS = {
    "energy": STANDARD,
    "attention": {
        "descriptor": {
            "type": "se_atten", "sel": 18, "rcut": 3.0, "rcut_smth": 1.0, "neuron": [3, 6],
            "axis_neuron": 2, "attn_layer": 0, "seed": 1, "set_davg_zero": True,
        },
        "fitting_net": ENERGY,
        "type_embedding": {"neuron": [2], "seed": 1},
    },
    "linear": {
        "type": "linear_ener",
        "models": [
            {"type_map": ["O", "H"], "descriptor": SE_R, "fitting_net": ENERGY},
            {"type": "frozen", "model_file": "../energy/frozen.pb"},
        ],
        "weights": "mean",
    },
    "dipole": {
        "descriptor": SE_A,
        "fitting_net": {"type": "dipole", "neuron": [4], "sel_type": [0], "seed": 1},
    },
}  # fmt: skip
STATES = {"type": "dos", "neuron": [4], "numb_dos": 5, "seed": 1}
LOSS = {"dipole": {"type": "tensor", "pref": 1.0, "pref_atomic": 0.0}}


def write_system(path):
    """Write a periodic system with labels for all models."""
    rng = np.random.default_rng(0)
    lattice = 2.0 * np.stack(np.unravel_index(np.arange(8), (2, 2, 2)), axis=1)[: len(TYPES)]
    arrays = {
        "coord": lattice + rng.uniform(-0.3, 0.3, size=(NFRAMES, len(TYPES), 3)),
        "box": np.tile(4.0 * np.eye(3), (NFRAMES, 1, 1)),
        "energy": rng.normal(size=NFRAMES),
        "force": rng.normal(size=(NFRAMES, len(TYPES), 3)),
        "virial": rng.normal(size=(NFRAMES, 9)),
        "dipole": rng.normal(size=(NFRAMES, 3)),
    }
    (path / "set.000").mkdir(parents=True)
    np.savetxt(path / "type.raw", TYPES, fmt="%d")
    (path / "type_map.raw").write_text("O\nH\n")
    for name, array in arrays.items():
        np.save(path / "set.000" / f"{name}.npy", array.reshape(NFRAMES, -1))
    return path


class Side:
    """The directories of the plugin, or of the built-in, each with a model of one kind."""

    def __init__(self, root, system):
        self.root, self.system = root, system

    def directory(self, kind, run="", steps=2):
        """Return a directory with an input for a kind of model."""
        jdata = {
            "model": {"type_map": ["O", "H"], **MODELS[kind]},
            "learning_rate": {"type": "exp", "decay_steps": 5, "start_lr": 1e-2, "stop_lr": 1e-3},
            "loss": LOSS.get(kind, {"type": "ener", "start_pref_v": 1.0}),
            "training": {
                "training_data": {"systems": [str(self.system)], "batch_size": 1},
                "validation_data": {"systems": [str(self.system)], "batch_size": 1},
                "numb_steps": steps, "seed": 1, "disp_freq": 1,
            },
        }  # fmt: skip
        return helpers.write_input(self.root / (kind + run), jdata)

    def jobs(self):
        """Return all jobs, those of models and those of what becomes of them."""
        return [*self.models(), *self.conversions(), *self.starts(), *self.biases()]

    def models(self):
        for kind in MODELS:
            directory = self.directory(kind)
            with_statistics = kind == "energy"  # which is compressed
            options = [] if with_statistics else ["--skip-neighbor-stat"]
            yield [directory, "train", "input.json", *options]
            yield [directory, "freeze", "-o", "frozen.pb"]
            yield from self.evaluations(kind, directory)

    def evaluations(self, kind, directory):
        yield [directory, "test", "-m", "frozen.pb", "-s", self.system, "-d", "test"]
        if kind == "attention":
            yield [directory, "eval-desc", "-m", "frozen.pb", "-s", self.system, "-o", "desc"]
        if kind == "energy":
            yield [directory, "compress", "-i", "frozen.pb", "-o", "compressed.pb"]
            yield [directory, "test", "-m", "compressed.pb", "-s", self.system, "-d", "small"]

    def conversions(self):
        directory = self.root / "energy"
        yield [directory, "convert-backend", "frozen.pb", "portable.dp"]
        yield [directory, "convert-backend", "portable.dp", "back.pb"]
        yield [directory, "test", "-m", "back.pb", "-s", self.system, "-d", "back"]

    def starts(self):
        for kind, option, start in (
            ("energy", "--init-frz-model", "../energy/frozen.pb"),
            ("attention", "--finetune", "../attention/frozen.pb"),
        ):
            directory = self.directory(kind, option, steps=4)
            yield [directory, "train", "input.json", option, start, "--skip-neighbor-stat"]
            yield [directory, "freeze", "-o", "frozen.pb"]
        models = ["frozen.pb", "../energy/frozen.pb"]
        yield [
            self.root / "energy--init-frz-model", "model-devi", "-m", *models, "-s", self.system,
            "-o", "devi.out",
        ]  # fmt: skip

    def biases(self):
        """Yield those for dp change-bias, elsewhere since it empties lcurve.out."""
        directory = self.root / "bias"
        directory.mkdir()
        options = ["-m", "set", "-s", self.system, "-o", "changed.pb"]
        yield [directory, "change-bias", "../energy/model.ckpt", *options]


def test_registered_classes_are_those_of_deepmd_kit():
    assert Fitting.get_class_by_type("ener") is EnerFitting
    assert Model.get_class_by_type("standard") is StandardModel
    assert Descriptor.get_class_by_type("se_e2_a") is DescrptSeA


def test_models_are_those_of_deepmd_kit():
    for fitting_net, wanted in (
        (ENERGY, EnerModel),
        (STATES, DOSModel),
        (MODELS["dipole"]["fitting_net"], DipoleModel),
    ):
        for maker in (Model, StandardModel):
            for descriptor in (SE_A, HYBRID):
                nets = deepcopy({"descriptor": descriptor, "fitting_net": fitting_net})
                assert type(maker(**nets, type_map=["O", "H"])) is wanted
    assert type(Model(**deepcopy(STANDARD), type_map=["O", "H"]).get_fitting()) is EnerFitting


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """Run everything on both sides, one beside the other."""
    root = tmp_path_factory.mktemp("maskless")
    system = write_system(root / "system")
    plugin, builtin = (Side(root / side, system) for side in ("plugin", "builtin"))

    with ThreadPoolExecutor() as pool:
        running = pool.submit(helpers.run_jobs, builtin.jobs(), root, builtin=True)
        with as_built():
            jobs.run([[str(word) for word in job] for job in plugin.jobs()])
        running.result()
    return plugin, builtin


def files(side):
    """Return the files that dp wrote, but for checkpoints, which frozen models show."""
    written = (path.relative_to(side.root) for path in side.root.rglob("*") if path.is_file())
    return sorted(path for path in written if "ckpt" not in path.name and path.name != "checkpoint")


def rounded(array):
    """Return an array as a list; DeePMD-kit's training adds up in any order, so to 9 decimals."""
    array = np.asarray(array)
    return (np.round(array, 9) + 0.0 if array.dtype.kind == "f" else array).tolist()


def nodes(path):
    """Return the nodes of a frozen model as text."""
    graph = tf.GraphDef()
    graph.ParseFromString(path.read_bytes())
    found = []
    for node in graph.node:
        value = ""
        if node.op == "Const":
            value = rounded(tf.make_ndarray(node.attr["value"].tensor))
            node.attr["value"].Clear()
        found.append(f"{node}{value}")
    return found


def portable(path):
    """Return the parts of a model for any backend, without the time when it was written."""
    model = load_dp_model(str(path))
    model.pop("time", None)
    return json.dumps(model, default=rounded, indent=1).split("\n")


def lines(path):
    return path.read_text().splitlines()


READERS = {".pb": nodes, ".dp": portable, ".json": lines}


def test_files_are_the_same(sides):
    plugin, builtin = sides
    names = files(builtin)
    assert files(plugin) == names
    assert len([name for name in names if name.suffix == ".pb"]) == 9
    for name in set(names) - set(numbers(names)):
        found, wanted = (READERS.get(name.suffix, lines)(side.root / name) for side in sides)
        assert len(found) == len(wanted), name
        different = [k for k, line in enumerate(wanted) if found[k] != line]
        assert not different, f"{name}, {different[0]}: {wanted[different[0]][:200]}"


def numbers(names):
    """Return the tables of numbers; lcurve.out in bias is the one that is empty."""
    tables = (name for name in names if name.suffix in (".out", ".npy"))
    return [name for name in tables if name.parent.name != "bias"]


def test_numbers_are_the_same(sides):
    """But for the last digits of virials, which DeePMD-kit adds up in any order."""
    names = numbers(files(sides[1]))
    assert len(names) > 20
    for name in names:
        load = np.load if name.suffix == ".npy" else np.loadtxt
        found, wanted = (load(side.root / name) for side in sides)
        assert np.isfinite(wanted).all() or name.name == "lcurve.out"  # which lacks some labels
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-11, err_msg=str(name))
