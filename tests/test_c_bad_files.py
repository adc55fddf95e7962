# SPDX-License-Identifier: LGPL-3.0-or-later
"""The library for C: files that are no models, that are cut or lie, and models that are refused."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import helpers
import numpy as np
import pytest
from c_library import LIBRARIES, CPotential
from frozen_models import REAL_ATOMS, edited

from deepmd_mask import Potential, _kernels
from deepmd_mask.frozen.model_file import FrozenModel

TYPES = np.array([[2, 0, 1, 0]])
POSITIONS = np.array([[[0, 0, 0], [1.6, 0.2, 0], [0.1, 1.8, 0.4], [-0.3, 0.2, 1.7]]])

pytestmark = pytest.mark.skipif(not LIBRARIES, reason="built with -DDPMASK_C=OFF")


def opened(files):
    """Open files in a process with little memory; return what is said of each, and new memory."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("c_library.py"), *files],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **helpers.LIMITS,
    )
    assert done.returncode == 0, done.stderr
    return [(said, grown) for said, grown in json.loads(done.stdout)]


def refused(files, *messages):
    """Open files, none of which must be a model."""
    for file, (said, grown) in zip(files, opened(files), strict=True):
        assert str(file) in said, said
        assert any(message in said for message in messages), said
        assert grown < (64 << 20) + 8 * file.stat().st_size


@pytest.mark.parametrize("kind", ["model", "compressed"])
def test_cut_files(trained, kind, tmp_path):
    """Anywhere, between fields too; a cut that leaves a whole message lacks nodes."""
    whole = getattr(trained, kind).read_bytes()
    files = []
    for k, size in enumerate(np.linspace(0, len(whole) - 1, 60).astype(int).tolist()):
        files.append(tmp_path / f"cut{k}.pb")
        files[-1].write_bytes(whole[:size])
    refused(files, "not a whole one", "lacks the node")


def test_no_models(trained, tmp_path):
    files = {"text.pb": b"a model\n", "zeros.pb": bytes(4096), "group.pb": b"\x0b" * 99}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    refused([tmp_path / name for name in files], "is not a frozen model")
    (folder, _), (absent, _) = opened([tmp_path, tmp_path / "none.pb"])
    assert f"{tmp_path}: it is no file" in folder
    assert f"{tmp_path / 'none.pb'}: there is no such model" in absent


def lying(source, target, name=None, op=None, change=None):
    """Write a model of which one node has been changed, and return its path."""
    seen = []

    def once(node):
        if (name is None or node.name == name) and (op is None or node.op == op) and not seen:
            seen.append(node.name)
            change(node)

    path = edited(source, target, change=once)
    assert seen, (name, op)
    return path


def set_sizes(*sizes):
    """Return a change of a constant's shape, not of its numbers."""

    def change(node):
        shape = node.attr["value"].tensor.tensor_shape
        del shape.dim[:]
        for size in sizes:
            shape.dim.add(size=size)

    return change


def set_list(attribute, values):
    def change(node):
        node.attr[attribute].list.i[:] = values

    return change


def set_number(attribute, value):
    def change(node):
        node.attr[attribute].i = value

    return change


def set_text(attribute, value):
    def change(node):
        node.attr[attribute].s = value

    return change


def take_inputs_often(node):
    """Let thousands of parameters be one constant, which the file has once."""
    node.input.extend(list(node.input[2:]) * 2000)


def keep_one_number(node):
    tensor = node.attr["value"].tensor
    tensor.tensor_content = b""
    tensor.double_val[:] = [1.0]


def say_integers(node):
    """Let the bytes of a matrix be those of integers."""
    node.attr["dtype"].type = node.attr["value"].tensor.dtype = 9


def of_size_of_all_memory(node):
    keep_one_number(node)
    set_sizes(1 << 40)(node)


MATRIX, BIAS = "layer_0_type_0/matrix", "fitting_attr/t_bias_atom_e"
EMBED, CONTRACT = "PipInstallDeepmdMask>Embed", "PipInstallDeepmdMask>Contract"
ENERGIES = "PipInstallDeepmdMask>Energies"
LIES = [
    ({"name": MATRIX, "change": set_sizes(10**9, 10**9)}, "more numbers than there are|numbers, b"),
    ({"name": MATRIX, "change": set_sizes(10**5, 10**4)}, "numbers, but"),
    ({"name": MATRIX, "change": set_sizes(-1)}, "a shape that is none"),
    ({"name": MATRIX, "change": set_sizes(*[1] * 300)}, "a shape that is none"),
    ({"name": MATRIX, "change": of_size_of_all_memory}, "numbers, but 1"),
    ({"name": MATRIX, "change": say_integers}, "has other numbers than a net"),
    ({"name": BIAS, "change": set_sizes(2)}, "numbers, but 3"),
    ({"op": REAL_ATOMS, "change": set_number("ops_version", -1)}, "ops_version is -1"),
    ({"op": EMBED, "change": set_list("neuron", [10**9] * 3)}, "differ in neuron"),
    ({"op": EMBED, "change": set_list("net", [7] * 9)}, "differ in net"),
    ({"op": REAL_ATOMS, "change": set_list("sel", [10**12, 1, 1])}, "sel is too large"),
    ({"op": REAL_ATOMS, "change": set_list("sel", [5, 4])}, "sel"),
    ({"op": REAL_ATOMS, "change": set_list("sel", [])}, "0 types"),
    ({"op": CONTRACT, "change": set_number("M2", 10**9)}, "differ in M2"),
    ({"op": ENERGIES, "change": set_list("neuron", [10**9])}, "wide|numbers"),
    ({"op": ENERGIES, "change": set_list("neuron", [9] * 100)}, "numbers"),
    ({"op": ENERGIES, "change": take_inputs_often}, "more numbers than the file can have"),
    ({"op": ENERGIES, "change": set_text("activation", b"tnh")}, 'unknown activation.*"tnh"'),
    ({"op": ENERGIES, "change": set_text("activation", b"\n" * 10**6)}, r"\?\.\.\.$"),
    ({"name": "train_attr/min_nbor_dist", "change": set_sizes(2)}, "numbers, but 1|not one number"),
]


@pytest.mark.parametrize("lie", range(len(LIES)))
def test_lying_files(trained, tmp_path, lie):
    changes, message = LIES[lie]
    file = lying(trained.model, tmp_path / "lying.pb", **changes)
    ((said, grown),) = opened([file])
    assert str(file) in said
    assert re.search(message, said), said
    assert grown < 64 << 20


def renamed(**ops):
    """Return a change of operators, by name of their nodes with "__" for "/"."""

    def change(node):
        node.op = ops.get(node.name.replace("/", "__"), node.op)

    return change


def of_op(op, change):
    """Return a change of the nodes of an operator alone."""
    return lambda node: change(node) if node.op == op else None


def rename_to(op):
    def change(node):
        node.op = op

    return change


LATER = f"it needs operators of version {_kernels.OPS_VERSION + 1}, and those installed have "
REFUSED = {
    LATER: {"change": of_op(REAL_ATOMS, set_number("ops_version", _kernels.OPS_VERSION + 1))},
    "it has the operator PipInstallDeepmdMask>Smear, which the installed version does not know": {
        "change": of_op(ENERGIES, rename_to("PipInstallDeepmdMask>Smear"))
    },
    "it is not a whole one, it lacks t_box, o_force": {"drop": ["o_force", "t_box"]},
    "it has 1 atomic and 2 frame parameters; a model with se_a_mask has the mask as its only": {
        "fitting_attr__dfparam": np.int32(2)
    },
    "it has 3 atomic and 0 frame parameters; ": {"fitting_attr__daparam": np.int32(3)},
    "it has 0 atomic and 0 frame parameters; ": {"drop": ["fitting_attr/daparam"]},
    "it has a hybrid descriptor": {
        "change": renamed(model_attr__model_version="DescrptSeA", descrpt_attr__rcut="DescrptSeR")
    },
    "it is not an energy model": {"model_attr__model_type": b"dipole"},
    "it has spins": {"spin_attr__ntypes_spin": np.int32(1)},
    "it has a data modifier": {"modifier_attr__type": b"dipole_charge"},
}


@pytest.mark.parametrize("message", REFUSED)
def test_models_that_are_refused_as_by_python(trained, tmp_path, message):
    """With the same sentence."""
    file = edited(trained.model, tmp_path / "model.pb", **REFUSED[message])
    ((said, _),) = opened([file])
    with pytest.raises(ValueError) as by_python:
        Potential(file, device="cpu")
    assert said == str(by_python.value)
    assert said.startswith(f"model {file} cannot be evaluated: {message}")


def test_models_of_nothing_known(trained, tmp_path):
    for op, message in {
        "DescrptSeAMask": "it is on the operators of the se_a_mask .* dp-mask convert puts it",
        "DescrptSeA": "it is not a model with se_a_mask",
    }.items():
        file = edited(trained.model, tmp_path / "model.pb", change=of_op(REAL_ATOMS, rename_to(op)))
        ((said, _),) = opened([file])
        assert re.search(rf"^model {file} cannot be evaluated: {message}", said), said


def takes_more(node):
    """Give fitting nets something else than D, as those that take the mask have."""
    node.input[1] = node.input[0]


OTHERWISE = {
    "it is not an energy model": {"drop": ["model_attr/model_type"]},
    "its fitting nets take more than D, the mask perhaps; Potential of Python reads": {
        "change": of_op(ENERGIES, takes_more)
    },
    "its output o_force does not come from": {"change": renamed(o_force="Neg")},
}


@pytest.mark.parametrize("message", OTHERWISE)
def test_models_that_compute_something_else(trained, tmp_path, message):
    file = edited(trained.model, tmp_path / "model.pb", **OTHERWISE[message])
    ((said, _),) = opened([file])
    assert said.startswith(f"model {file} cannot be evaluated: {message}"), said


def test_offsets_of_a_table_are_integers(trained, tmp_path):
    """Those that are none are refused by Python, too."""
    name = "descrpt_attr/table_first"
    first = FrozenModel(trained.compressed).constant(name).astype(float)
    file = edited(trained.compressed, tmp_path / "model.pb", **{name: first})
    refused([file], "has other numbers than integers")
    with pytest.raises(ValueError, match="its table has offsets of the type float64"):
        Potential(file, device="cpu")


def scale_by_a_bias(node):
    """Let a last layer be multiplied by what is not the scale of energies."""
    if node.op == "Mul" and node.input[0].startswith("final_layer_type_1/matrix"):
        node.input[1] = "layer_1_type_1/bias"


def test_scale_of_energies(trained, tmp_path):
    """Another factor is refused by both readers, of which Python's knows the scale by its name."""
    file = edited(trained.compressed, tmp_path / "model.pb", change=scale_by_a_bias)
    refused([file], "have different shapes")
    with pytest.raises(ValueError, match=r"what its operators take from \S+ is no constant"):
        Potential(file, device="cpu")


def test_one_number_that_stands_for_all(trained, tmp_path):
    """As TensorFlow writes constants whose numbers are all the same."""
    file = lying(trained.model, tmp_path / "ones.pb", MATRIX, change=keep_one_number)
    found = CPotential(file).evaluate(TYPES, POSITIONS)
    wanted = Potential(file, device="cpu").evaluate(TYPES, POSITIONS)
    np.testing.assert_array_equal(found["forces"], wanted.forces)
