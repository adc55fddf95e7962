# SPDX-License-Identifier: LGPL-3.0-or-later
"""What frozen models say of themselves, and models that need newer operators."""

import json

import helpers
import numpy as np
import pytest
from click.testing import CliRunner
from deepmd.infer import DeepPot
from frozen_models import REAL_ATOMS, edited, evaluate, of_first_version

import deepmd_mask
from deepmd_mask.cli import main
from deepmd_mask.frozen import info, info_text

RECENT = ["descrpt_attr/made_by", "descrpt_attr/sel", "train_attr/min_nbor_dist"]


def set_ops_version(version):
    """Return a function that sets the version of the operators, or takes it away, in a node."""

    def change(node):
        if node.op == REAL_ATOMS:
            node.attr["ops_version"].i = version or 0
            if version is None:
                del node.attr["ops_version"]

    return change


def rows(text):
    return dict(line.split("  ", 1) for line in text.splitlines())


def test_model_of_the_plugin(trained):
    found = info(trained.model)
    assert found["operators"] == "deepmd-mask"
    assert found["ops_version"] == 2
    assert found["compressed"] is False
    assert found["made_by"]["deepmd-mask"] == deepmd_mask.__version__
    assert found["made_by"]["DeePMD-kit"].startswith("3.")
    assert found["type_map"] == helpers.TYPE_MAP
    assert found["sel"] == list(helpers.SLOTS)
    assert found["n"] == sum(helpers.SLOTS)
    assert found["type_one_side"] is False
    assert found["axis_neuron"] == 3
    assert found["exclude_types"] == []
    assert found["embedding"] == {
        "neuron": [5, 10, 10], "activation": "tanh", "resnet_dt": True, "precision": "float64"
    }  # fmt: skip
    assert found["fitting"] == {
        "neuron": [9, 9], "activation": "tanh", "resnet_dt": True, "precision": "float64"
    }  # fmt: skip
    np.testing.assert_allclose(found["min_distance"], trained.frames.shortest())
    assert found["training_input"]["training"]["numb_steps"] == 3


def test_model_of_the_builtin(trained):
    wanted, found = info(trained.model), info(trained.plain)
    own = {"operators": "built-in", "ops_version": None, "made_by": {}}
    assert found == {**wanted, **own}


def test_model_older_than_these_records(trained, tmp_path):
    first = of_first_version(trained.model, tmp_path / "first.pb")
    model = edited(first, tmp_path / "old.pb", change=set_ops_version(None))
    script = edited(model, tmp_path / "older.pb", drop=[*RECENT, "train_attr/training_script"])
    wanted, found = info(trained.model), info(script)
    lacking = {"ops_version": 1, "made_by": {}, "min_distance": None, "training_input": {}}
    assert found == {**wanted, **lacking}
    assert rows(info_text(script))["made by"].strip() == "not recorded"
    np.testing.assert_array_equal(
        evaluate(model, trained.frames)["force"], evaluate(trained.model, trained.frames)["force"]
    )


def test_model_that_needs_newer_operators(trained, tmp_path):
    model = edited(trained.model, tmp_path / "new.pb", change=set_ops_version(7))
    assert rows(info_text(model))["operators"].strip() == "deepmd-mask, version 7"
    message = "needs operators of version 7, and those installed have version 2; run pip install -U"
    with pytest.raises(ValueError, match=message):
        DeepPot(str(model))


def test_text_for_readers(trained):
    found = rows(info_text(trained.model))
    assert found["type map"].strip() == "C O ZN"
    assert found["embedding nets"].strip() == "two-sided, 5-10-10, tanh, timestep, float64"
    assert found["compressed"].strip() == "no"


def test_other_models_are_refused(trained, tmp_path):
    def without_mask(node):
        if node.op == "DescrptSeAMask":
            node.op = "DescrptSeA"

    other = edited(trained.plain, tmp_path / "other.pb", change=without_mask)
    with pytest.raises(ValueError, match="is not a model with se_a_mask"):
        info(other)


def test_command(trained):
    def run(*options):
        done = CliRunner().invoke(main, ["info", str(trained.model), *options])
        assert done.exit_code == 0, done.output
        return done.output

    assert rows(run()) == rows(info_text(trained.model))
    found = json.loads(run("--json"))
    assert found == json.loads(json.dumps(info(trained.model)))
    assert json.loads(run("--training-input")) == found["training_input"]
