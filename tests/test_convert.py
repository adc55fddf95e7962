# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frozen models on other operators: the same forces, and refusals that leave files alone."""

import gzip
import json
import re
from dataclasses import replace

import helpers
import jobs
import numpy as np
import pytest
from click.testing import CliRunner
from frozen_models import (
    assert_potential_agrees,
    assert_same_potential,
    edited,
    evaluate,
    graph_of,
    with_input,
)

from deepmd_mask import Potential
from deepmd_mask.cli import main
from deepmd_mask.conversion import compare, convert
from deepmd_mask.conversion.rebuild import build_frozen
from deepmd_mask.frozen import info
from deepmd_mask.frozen.description import describe
from deepmd_mask.frozen.model_file import FrozenModel
from deepmd_mask.frozen.report import info_text
from deepmd_mask.potential.reading import RefusedModelError

SEL = (4, 3)
OPTIONS = {
    "one": {
        "descriptor": {"type_one_side": True, "resnet_dt": True, "exclude_types": [[0, 1]]},
        "fitting_net": {"resnet_dt": True, "atom_ener": [None, -3.0]},
    },
    "two": {
        "descriptor": {"type_one_side": False, "activation_function": "softplus"},
        "fitting_net": {"activation_function": "gelu", "use_aparam_as_mask": False},
    },
    "float32": {
        "descriptor": {"type_one_side": True, "precision": "float32"},
        "fitting_net": {"precision": "float32", "layer_name": ["first", "second", "last"]},
    },
}
TOLERANCE = {"float32": 1e-5}
ACTIVATIONS = [
    *("tanh", "relu", "relu6", "softplus", "sigmoid"),
    *("gelu", "gelu_tf", "silu", "silut:3.5", "none"),
]


class Builtin:
    """Models that the built-in has trained and frozen, and what it says of its frames."""

    def __init__(self, root):
        self.root = root
        self.frames = helpers.random_frames(slots=SEL, nframes=3)
        system = helpers.write_system(root / "system", self.frames, helpers.TYPE_MAP[:2])
        common = {"steps": 2, "sel": SEL, "model": {"type_map": helpers.TYPE_MAP[:2]}}
        steps = []
        for choice, options in OPTIONS.items():
            directory = helpers.write_input(
                root / choice, helpers.make_input([system], **common, **options)
            )
            steps += [
                [directory, "train", "input.json"],
                [directory, "freeze", "-o", "frozen.pb"],
                [directory, "eval", "frozen.pb", system],
            ]
        helpers.run_jobs(steps, root, builtin=True)

    def model(self, choice):
        return self.root / choice / "frozen.pb"

    def converted(self, choice):
        """Convert a model, the first time that it is asked for; return the path of the result."""
        fast = self.root / choice / "fast.pb"
        if not fast.exists():
            before = self.model(choice).read_bytes()
            convert(self.model(choice), fast)
            assert self.model(choice).read_bytes() == before
        return fast

    def evaluated(self, choice):
        with np.load(f"{self.model(choice)}.npz") as found:
            return dict(found)


@pytest.fixture(scope="module")
def builtin(tmp_path_factory):
    return Builtin(tmp_path_factory.mktemp("of_builtin"))


def operators(model):
    return FrozenModel(model).operators()


@pytest.mark.parametrize("choice", OPTIONS)
def test_model_of_the_builtin_keeps_its_forces(builtin, choice):
    fast = builtin.converted(choice)
    assert operators(fast) == "deepmd-mask"
    found = evaluate(fast, builtin.frames, batch=None)
    mask = builtin.frames.mask
    assert_same_potential(found, builtin.evaluated(choice), mask, TOLERANCE.get(choice, 1e-10))
    np.testing.assert_array_equal(found["atom_energy"][mask == 0], 0)


@pytest.mark.parametrize("choice", OPTIONS)
def test_potential_gives_what_the_builtin_does(builtin, choice):
    """Also with energies in vacuum, and where the mask is an input of the fitting nets."""
    tolerance = TOLERANCE.get(choice, 1e-10)
    wanted = builtin.evaluated(choice)
    assert_potential_agrees(builtin.model(choice), builtin.frames, tolerance, wanted)


def test_energy_no_longer_depends_on_padding(builtin):
    fast = builtin.converted("two")
    frames = builtin.frames
    padded = frames._replace(
        types=np.append(frames.types, [0, 1, 1]),
        coord=np.pad(frames.coord, ((0, 0), (0, 3), (0, 0))),
        mask=np.pad(frames.mask, ((0, 0), (0, 3))),
    )
    found, wanted = (evaluate(fast, f, batch=None) for f in (padded, frames))
    np.testing.assert_allclose(found["energy"], wanted["energy"], rtol=1e-13)
    np.testing.assert_allclose(wanted["energy"], wanted["atom_energy"].sum(axis=1), rtol=1e-13)


@pytest.mark.parametrize("choice", ["one", "two"])
def test_compressed_in_one_go(builtin, tmp_path, choice):
    output = tmp_path / "compressed.pb"
    with pytest.raises(ValueError, match="`min_distance`"):
        convert(builtin.model(choice), output, compress=True)
    assert not output.exists()
    convert(builtin.model(choice), output, compress=True, min_distance=0.7)
    assert FrozenModel(output).is_compressed()
    lines = info_text(output).splitlines()
    assert [line.split()[1] for line in lines if line.startswith("compressed")] == ["yes"]
    found = evaluate(output, builtin.frames, batch=None)
    assert_same_potential(found, builtin.evaluated(choice), builtin.frames.mask)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_table_that_is_not_the_nets_is_refused(builtin, tmp_path, precision):
    """It ends at a quarter of the s that the frame of the comparison has."""
    options = {"compress": True, "min_distance": 20, "precision": precision}
    message = r"changes forces by .* If 20 is not .* `min_distance`\..* --step of dp compress"
    assert_refused(message, builtin.model("two"), tmp_path, **options)


def test_model_for_the_builtin_cannot_be_compressed(trained, tmp_path):
    with pytest.raises(ValueError, match="only models on the operators of deepmd-mask"):
        convert(trained.model, tmp_path / "x.pb", operators="built-in", compress=True)


def test_model_of_the_plugin_runs_without_it(trained, tmp_path):
    convert(trained.model, tmp_path / "plain.pb", operators="built-in")
    model = FrozenModel(tmp_path / "plain.pb")
    assert not [node.op for node in model.graph.node if "DeepmdMask" in node.op]
    found = evaluate(tmp_path / "plain.pb", trained.frames)
    assert_same_potential(found, trained.evaluate(), trained.frames.mask)


def test_there_and_back_gives_the_same_variables(builtin, tmp_path):
    convert(builtin.converted("one"), tmp_path / "back.pb", operators="built-in")
    wanted, found = (
        FrozenModel(m).variables() for m in (builtin.model("one"), tmp_path / "back.pb")
    )
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)


def without_training_input(builtin, directory, activation):
    """Return a model of the built-in that carries none, and what it is."""
    source = FrozenModel(builtin.model("two"))
    known = describe(source)
    nets = {
        name: replace(getattr(known, name), activation=activation)
        for name in ("embedding", "fitting")
    }
    known = replace(known, exclude_types=[[0, 1]], **nets)
    excluded = re.compile(r"filter_type_(0/.*_1|1/.*_0)")
    variables = {n: v for n, v in source.variables().items() if not excluded.fullmatch(n)}
    build_frozen(known, variables, directory / "full.pb")
    dropped = ["train_attr/training_script"]
    return edited(directory / "full.pb", directory / "bare.pb", drop=dropped), known


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_graph_alone_tells_the_nets(builtin, tmp_path, activation):
    bare, known = without_training_input(builtin, tmp_path, activation)
    found = describe(FrozenModel(bare))
    assert (found.embedding, found.fitting) == (known.embedding, known.fitting)
    assert found.exclude_types == known.exclude_types


def test_graph_alone_tells_what_to_build(builtin, tmp_path):
    bare, _ = without_training_input(builtin, tmp_path, "silut:3.5")
    difference = convert(bare, tmp_path / "fast.pb")
    assert max(difference.force, difference.atom_energy) < 1e-10
    script = FrozenModel(tmp_path / "fast.pb").training_input()
    assert script["model"]["descriptor"]["sel"] == list(SEL)


def test_training_input_tells_what_the_graph_does_not(builtin, tmp_path):
    """Which pairs of types one-sided nets exclude, for instance."""
    script = FrozenModel(builtin.model("one")).training_input()
    bare = edited(builtin.model("one"), tmp_path / "bare.pb", drop=["train_attr/training_script"])
    with pytest.raises(ValueError, match=r"computes something else .* `training_input`"):
        convert(bare, tmp_path / "fast.pb")
    convert(bare, tmp_path / "fast.pb", training_input=script)
    found = evaluate(tmp_path / "fast.pb", builtin.frames)
    assert_same_potential(found, builtin.evaluated("one"), builtin.frames.mask)


@pytest.mark.parametrize("operators", ["deepmd-mask", "built-in"])
def test_other_precision(builtin, tmp_path, operators):
    fast = builtin.converted("two")
    convert(fast, tmp_path / "single.pb", operators=operators, precision="float32")
    found = info(tmp_path / "single.pb")
    assert found["operators"] == operators
    assert found["embedding"]["precision"] == found["fitting"]["precision"] == "float32"
    assert found["training_input"]["model"]["descriptor"]["precision"] == "float32"
    single = evaluate(tmp_path / "single.pb", builtin.frames)
    assert_same_potential(single, builtin.evaluated("two"), builtin.frames.mask, 1e-5)


def test_model_of_deepmd_kit_2_through_pbtxt(tmp_path):
    """Frozen by DeePMD-kit 2.2.11, brought here by dp convert-from."""
    packed = helpers.TESTS / "models" / "deepmd-kit-2.2.11.pbtxt.gz"
    (tmp_path / "old.pbtxt").write_bytes(gzip.decompress(packed.read_bytes()))
    jobs.run([[tmp_path, "convert-from", "pbtxt", "-i", "old.pbtxt", "-o", "old.pb"]])
    convert(tmp_path / "old.pb", tmp_path / "fast.pb")
    frames = helpers.random_frames(slots=SEL, nframes=3)
    wanted, found = (evaluate(tmp_path / name, frames) for name in ("old.pb", "fast.pb"))
    assert_same_potential(found, wanted, frames.mask)
    for name in ("old.pb", "fast.pb"):
        assert_potential_agrees(tmp_path / name, frames, 1e-10, wanted)


class Other(Potential):
    """Reads models otherwise than TensorFlow."""

    def evaluate(self, *arguments, **options):
        found = super().evaluate(*arguments, **options)
        return found._replace(forces=found.forces * (1 + 1e-7))


def test_result_that_potential_reads_otherwise_is_not_written(builtin, tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "Potential", Other)
    message = "Potential reads the result otherwise than TensorFlow does; it differs by 1.0e-07 of"
    assert_refused(message, builtin.converted("one"), tmp_path, operators="built-in")


def test_result_that_potential_refuses(builtin, tmp_path, monkeypatch):
    """It is written, and the command says so; one that is damaged is not."""

    def refuses(error):
        def potential(path, **_):
            raise error(path)

        return potential

    def damaged(path):
        return ValueError(f"model {path} is damaged: it lacks a net")

    def with_frame_parameters(path):
        return RefusedModelError(path, "it has fparam")

    model, output = builtin.converted("one"), tmp_path / "plain.pb"
    monkeypatch.setattr(compare, "Potential", refuses(damaged))
    assert_refused("is damaged: it lacks", model, tmp_path, operators="built-in")
    monkeypatch.setattr(compare, "Potential", refuses(with_frame_parameters))
    arguments = ["convert", str(model), "-o", str(output), "--builtin"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert re.search(r"energies to \S+; not compared with Potential: it has fparam\n$", done.output)
    assert operators(output) == "built-in"


def test_training_goes_on_from_a_converted_model(builtin, tmp_path):
    fast = builtin.converted("one")
    jdata = json.loads((builtin.root / "one" / "input.json").read_text())
    jdata["training"]["numb_steps"] = 0
    helpers.write_input(tmp_path, jdata)
    start = "--init-frz-model", str(fast)
    jobs.run([[tmp_path, "train", "input.json", *start], [tmp_path, "freeze", "-o", "again.pb"]])
    wanted, found = (helpers.parameters(model) for model in (fast, tmp_path / "again.pb"))
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)


# ---- Refusals ----------------------------------------------------------------------------------


def other_descriptor(node):
    if node.op == "DescrptSeAMask":
        node.op = "DescrptSeA"


def other_bias(node):
    """Let the graph do without one of the variables that se_a_mask has."""
    name = "layer_1_type_0/bias"
    node.name = node.name.replace(name, "layer_1_type_0/shift")
    node.input[:] = [source.replace(name, "layer_1_type_0/shift") for source in node.input]


def change_model(**options):
    """Return a function that changes the section "model" of a training input."""
    return lambda script: script["model"].update(options)


def change_descriptor(**options):
    return lambda script: script["model"]["descriptor"].update(options)


EDITS = {
    "is not a model with se_a_mask but with se_a_mask": {"change": other_descriptor},
    "it is compressed": {"model_type": b"compressed_model"},
    "it is not an energy model": {"model_attr__model_type": b"dos"},
    "it has spins": {"spin_attr__ntypes_spin": 1},
    "it has a data modifier": {"modifier_attr__type": b"dipole_charge"},
    "its numb_aparam is not 1": {"fitting_attr__daparam": 2},
    r"it lacks the variables \['layer_1_type_0/bias'\]": {"change": other_bias},
}
INPUTS = {
    "it has a hybrid descriptor": change_descriptor(type="hybrid"),
    "it has a type embedding": change_model(type_embedding={"neuron": [2]}),
    "it has a tabulated potential": change_model(use_srtab="table.txt"),
    "mixed precision": lambda script: script["training"].update(mixed_precision={"a": 1}),
    r"sel is \[9, 3\], but the sum of sel is 7": change_descriptor(sel=[9, 3]),
    'unknown activation function "foo"': change_descriptor(activation_function="foo"),
    "computes something else": change_descriptor(activation_function="relu"),
}


def assert_refused(message, model, directory, **options):
    """And nothing is left behind."""
    before = {path: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises((ValueError, OSError), match=message):
        convert(model, **{"output": directory / "fast.pb", **options})
    assert {path: path.read_bytes() for path in directory.iterdir()} == before


@pytest.mark.parametrize("message", EDITS)
def test_model_is_refused(builtin, tmp_path, message):
    model = edited(builtin.model("two"), tmp_path / "model.pb", **EDITS[message])
    assert_refused(message, model, tmp_path)


@pytest.mark.parametrize("message", INPUTS)
def test_training_input_is_refused(builtin, tmp_path, message):
    model = with_input(builtin.model("two"), tmp_path / "model.pb", INPUTS[message])
    assert_refused(message, model, tmp_path)


def test_variable_that_se_a_mask_does_not_know_is_refused(builtin, tmp_path):
    model = edited(builtin.model("two"), tmp_path / "model.pb", more=1.0)
    graph = graph_of(model)
    graph.node.add(name="more/read", op="Identity", input=["more"])
    model.write_bytes(graph.SerializeToString())
    assert_refused(r"beyond what se_a_mask knows, the variables \['more'\]", model, tmp_path)


def test_file_that_is_no_model_is_refused(tmp_path):
    for content in (b"", b"node { name: 'a' }", b"\x00" * 100):
        (tmp_path / "model.pb").write_bytes(content)
        assert_refused("is not a frozen model", tmp_path / "model.pb", tmp_path)


def test_nothing_to_convert(trained, tmp_path):
    assert_refused("already; nothing is to be done", trained.model, tmp_path)
    assert_refused("already", trained.model, tmp_path, precision="float64")


def test_output_is_not_replaced_unasked(builtin, tmp_path):
    (tmp_path / "fast.pb").write_text("precious")
    model = builtin.model("one")
    assert_refused("exists; name another output, or replace it with `overwrite`", model, tmp_path)
    assert_refused("must end in .pb", model, tmp_path, output=tmp_path / "fast")
    assert_refused("there is no folder", model, tmp_path, output=tmp_path / "a" / "fast.pb")
    convert(model, tmp_path / "fast.pb", overwrite=True)
    assert operators(tmp_path / "fast.pb") == "deepmd-mask"


def test_input_is_never_replaced(builtin, tmp_path):
    model = edited(builtin.model("two"), tmp_path / "model.pb")
    (tmp_path / "link.pb").hardlink_to(model)
    for output in (model, tmp_path / "link.pb"):
        assert_refused("never changed", model, tmp_path, output=output, overwrite=True)


def test_command(builtin, tmp_path):
    output = tmp_path / "fast.pb"
    arguments = ["convert", str(builtin.model("one")), "-o", str(output)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert f"{output} agrees with {builtin.model('one')}" in done.output
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1
    assert again.output.startswith("Error: ")
    back = CliRunner().invoke(
        main, ["convert", str(output), "-o", str(tmp_path / "back.pb"), "--builtin"]
    )
    assert back.exit_code == 0, back.output
    assert operators(tmp_path / "back.pb") == "built-in"
