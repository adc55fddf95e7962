# SPDX-License-Identifier: LGPL-3.0-or-later
"""Training that starts from another model: refused where its parameters would mean something else.

Valid starts, of this package and of the built-in, are in test_builtin.py.
"""

import logging
from pathlib import Path

import helpers
import jobs
import pytest
from deepmd.tf.utils.argcheck import normalize
from deepmd.tf.utils.compat import update_deepmd_input
from helpers import SLOTS, TYPE_MAP

from deepmd_mask.hooks.start import Start
from deepmd_mask.plugin import check

SAME = {"descriptor": {"resnet_dt": True}}  # as the fixture "trained" has it
# What is changed in the input, and what the error must say of it.
DIFFERENT = {
    "order-of-types": (
        {"model": {"type_map": ["O", "C", "ZN"]}, "sel": (4, 5, 2)},
        r'type_map: \["C", "O", "ZN"\] there, \["O", "C", "ZN"\] in the input',
    ),
    "another-type": (
        {"model": {"type_map": [*TYPE_MAP, "H"]}, "sel": (5, 4, 2, 0)},
        r'type_map: \["C", "O", "ZN"\] there, \["C", "O", "ZN", "H"\] in the input',
    ),
    "no-types": ({"model": {"type_map": None}}, r'type_map: \["C", .* there, nothing in the input'),
    "sum-of-sel": ({"sel": (6, 4, 2)}, "sum of sel: 11 there, 12 in the input"),
    "automatic-sel": ({"sel": "auto"}, "sum of sel: 11 there, 16 in the input"),
    "widths": (
        {"descriptor": {"neuron": [5, 10]}},
        r"descriptor/neuron: \[5, 10, 10\] there, \[5, 10\] in the input",
    ),
    "axis": ({"descriptor": {"axis_neuron": 4}}, "axis_neuron: 3 there, 4 in the input"),
    "activation": (
        {"descriptor": {"activation_function": "gelu"}},
        'descriptor/activation_function: "tanh" there, "gelu" in the input',
    ),
    "timesteps": (
        {"descriptor": {"resnet_dt": False}},
        "descriptor/resnet_dt: true there, false in the input",
    ),
    "one-side": (
        {"descriptor": {"type_one_side": True}},
        "type_one_side: false there, true in the input",
    ),
    "excluded": (
        {"descriptor": {"exclude_types": [[1, 0]]}},
        r"exclude_types: \[\] there, \[\[0, 1\]\] in the input",
    ),
    "precision": (
        {"descriptor": {"precision": "float32"}},
        'descriptor/precision: "float64" there, "float32" in the input',
    ),
    "fitting-widths": (
        {"fitting_net": {"neuron": [9, 9, 9]}},
        r"fitting_net/neuron: \[9, 9\] there, \[9, 9, 9\] in the input",
    ),
    "fitting-activation": (
        {"fitting_net": {"activation_function": "silut:3"}},
        'fitting_net/activation_function: "tanh" there, "silut:3" in the input',
    ),
    "fitting-timesteps": (
        {"fitting_net": {"resnet_dt": False}},
        "fitting_net/resnet_dt: true there, false in the input",
    ),
    "fitting-precision": (
        {"fitting_net": {"precision": "float32"}},
        'fitting_net/precision: "float64" there, "float32" in the input',
    ),
    "frame-parameters": (
        {"fitting_net": {"numb_fparam": 2}},
        "fitting_net/numb_fparam: 0 there, 2 in the input",
    ),
    "energies-in-vacuum": (
        {"fitting_net": {"atom_ener": [-5.0]}},
        r"fitting_net/atom_ener: \[\] there, \[-5.0\] in the input",
    ),
}


def starts(directory):
    return {
        "--init-frz-model": directory / "frozen.pb",
        "--init-model": directory / "model.ckpt",
        "--restart": directory / "model.ckpt",
    }


def check_start(trained, start, sel=SLOTS, **sections):
    """Check an input that has the training data of the fixture."""
    sections["descriptor"] = SAME["descriptor"] | sections.get("descriptor", {})
    jdata = helpers.make_input([trained.directory / "system"], sel=sel, **sections)
    if jdata["model"]["type_map"] is None:
        del jdata["model"]["type_map"]
    check(normalize(update_deepmd_input(jdata, warning=False)), start)


@pytest.mark.parametrize("option", ["--init-frz-model", "--init-model"])
@pytest.mark.parametrize("what", DIFFERENT)
def test_another_model_is_refused(trained, what, option):
    sections, message = DIFFERENT[what]
    with pytest.raises(ValueError, match=message) as raised:
        check_start(trained, Start(option, starts(trained.directory)[option]), **sections)
    assert f"{option} {trained.directory}" in str(raised.value)
    assert "--use-pretrain-script" in str(raised.value)


def test_all_that_differs_is_said_at_once(trained):
    """A restart has no --use-pretrain-script."""
    start = Start("--restart", trained.directory / "model.ckpt")
    wanted = r"(?s)--restart .*sum of sel.*axis_neuron.*fitting_net/neuron"
    with pytest.raises(ValueError, match=wanted) as raised:
        check_start(
            trained, start, sel=(9, 9, 9), descriptor={"axis_neuron": 2},
            fitting_net={"neuron": [3]},
        )  # fmt: skip
    assert "--use-pretrain-script" not in str(raised.value)


SAME_MODEL = {
    "as-it-is": {},
    "slots-between-types": {"sel": (5, 3, 3)},
    "names-of-the-same": {
        "descriptor": {"precision": "float64", "activation_function": "Tanh"},
        "fitting_net": {"precision": "default", "atom_ener": []},
    },
    "what-does-not-matter": {"descriptor": {"seed": 7, "trainable": False}},
}


@pytest.mark.parametrize("option", ["--init-frz-model", "--init-model", "--restart"])
@pytest.mark.parametrize("what", SAME_MODEL)
def test_the_same_model_is_taken(trained, what, option, caplog):
    with caplog.at_level(logging.WARNING):
        start = Start(option, starts(trained.directory)[option])
        check_start(trained, start, **SAME_MODEL[what])
    assert not [record for record in caplog.records if record.name == "deepmd.mask"]


@pytest.mark.parametrize("option", ["--init-frz-model", "--init-model", "--restart"])
def test_dp_train_refuses_before_it_writes(trained, tmp_path, option):
    """Systems may have their types in any order, so that only the model is to blame."""
    jdata = helpers.make_input(
        [trained.directory / "system"], sel=(4, 5, 2), model={"type_map": ["O", "C", "ZN"]}, **SAME
    )
    helpers.write_input(tmp_path, jdata)
    (tmp_path / "out.json").write_text("an old one")
    path = starts(trained.directory)[option]
    with pytest.raises(ValueError, match="type_map"):
        jobs.run([[tmp_path, "train", "input.json", option, str(path)]])
    assert {path.name for path in tmp_path.iterdir()} == {"input.json", "out.json"}
    assert (tmp_path / "out.json").read_text() == "an old one"


def test_no_start_after_a_start(trained, tmp_path):
    """A start is that of one training, not of the next in the same process."""
    jdata = helpers.make_input([trained.directory / "system"], steps=0, sel=(9, 9, 9))
    helpers.write_input(tmp_path, jdata)
    start = ["--init-model", str(trained.directory / "model.ckpt")]
    with pytest.raises(ValueError, match="sum of sel"):
        jobs.run([[tmp_path, "train", "input.json", *start]])
    jobs.run([[tmp_path, "train", "input.json"]])


def test_the_script_of_the_start(trained, tmp_path):
    """The remedy that the error names; the sum of sel and the order of the types are another."""
    jdata = helpers.make_input(
        [trained.directory / "system"], steps=0, sel=(9, 9, 9),
        model={"type_map": ["O", "C", "ZN"]},
    )  # fmt: skip
    helpers.write_input(tmp_path, jdata)
    start = ["--init-model", str(trained.directory / "model.ckpt"), "--use-pretrain-script"]
    jobs.run([[tmp_path, "train", "input.json", *start], [tmp_path, "freeze", "-o", "frozen.pb"]])
    found, wanted = (
        helpers.parameters(path / "frozen.pb") for path in (tmp_path, trained.directory)
    )
    assert found.keys() == wanted.keys()
    assert all((found[name] == wanted[name]).all() for name in wanted)


# ---- Starts that say little ----------------------------------------------------------------------


def without_script(path, output):
    """Write a frozen model or the graph of a checkpoint without the training input."""
    from deepmd.tf.env import tf

    graph = tf.MetaGraphDef() if path.suffix == ".meta" else tf.GraphDef()
    graph.ParseFromString(path.read_bytes())
    nodes = (graph.graph_def if path.suffix == ".meta" else graph).node
    [script] = [node for node in nodes if node.name == "train_attr/training_script"]
    nodes.remove(script)
    output.write_bytes(graph.SerializeToString())


def test_frozen_model_without_its_input(trained, tmp_path, caplog):
    """What runs tells all but what is said to be unknown."""
    without_script(trained.model, tmp_path / "frozen.pb")
    start = Start("--init-frz-model", tmp_path / "frozen.pb")
    for what in set(DIFFERENT) - {"energies-in-vacuum"}:
        sections, message = DIFFERENT[what]
        with pytest.raises(ValueError, match=message):
            check_start(trained, start, **sections)
    with caplog.at_level(logging.WARNING):
        check_start(trained, start)
    assert "does not tell its fitting_net/atom_ener, fitting_net/tot_ener_zero" in caplog.text


def test_checkpoint_without_its_input(trained, tmp_path, caplog):
    without_script(trained.directory / "model.ckpt.meta", tmp_path / "model.ckpt.meta")
    with caplog.at_level(logging.WARNING):
        check_start(trained, Start("--init-model", tmp_path / "model.ckpt"))
    assert "does not say what it was trained with" in caplog.text


def test_compressed_start_is_refused(trained):
    with pytest.raises(ValueError, match="is compressed, and a table cannot be trained"):
        check_start(trained, Start("--init-frz-model", trained.compressed))


@pytest.mark.parametrize("option", ["--init-frz-model", "--init-model"])
def test_missing_start_is_refused(trained, option):
    with pytest.raises(FileNotFoundError, match="there is no such"):
        check_start(trained, Start(option, Path("nowhere") / "model"))
