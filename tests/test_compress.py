# SPDX-License-Identifier: LGPL-3.0-or-later
"""dp compress: a table in the place of the embedding nets."""

import re

import numpy as np
import pytest
import tensorflow as tf
from frozen_models import assert_potential_agrees, edited, graph_of
from helpers import make_input, random_frames, write_input, write_system
from jobs import OUTPUTS, evaluate, run

NETS = {
    "one side": {},
    # test_table.py has tables of all other activation functions.
    "two sides, kinks": {"type_one_side": False, "activation_function": "relu"},
    "float32": {"precision": "float32"},
    "float32 in all nets": {"precision": "float32"},
    "energies in vacuum": {"resnet_dt": True},
    "excluded types, gelu": {"exclude_types": [[0, 1]], "activation_function": "gelu"},
}
FITTING_NETS = {
    "float32 in all nets": {"precision": "float32"},
    "energies in vacuum": {"atom_ener": [-5.0, None, -11.0]},
    "two sides, kinks": {"neuron": [9, 9], "layer_name": ["first", "second", "last"]},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """For each of NETS a folder with frozen.pb and compressed.pb, and the frames."""
    home = tmp_path_factory.mktemp("compress")
    frames = random_frames(nframes=3)
    write_system(home / "system", frames)
    jobs = []
    for name, options in NETS.items():
        folder = home / name.replace(" ", "_")
        folder.mkdir()
        jdata = make_input([str(home / "system")], steps=3)
        jdata["model"]["descriptor"] |= {"type_one_side": True, "neuron": [5, 10], **options}
        jdata["model"]["fitting_net"] |= {"neuron": [9], **FITTING_NETS.get(name, {})}
        write_input(folder, jdata)
        for arguments in (
            ["train", "input.json"],
            ["freeze", "-o", "frozen.pb"],
            ["compress", "-i", "frozen.pb", "-o", "compressed.pb"],
        ):
            jobs.append([str(folder), *arguments])
    run(jobs)
    return home, frames


def assert_same_results(wanted, found, frames, tolerance=1e-9):
    results = [evaluate(m, frames.coord, frames.types, frames.mask) for m in (wanted, found)]
    for output in OUTPUTS:
        wanted, found = (result[output] for result in results)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize("name", NETS)
def test_forces_are_those_of_the_model(models, name):
    home, frames = models
    folder = home / name.replace(" ", "_")
    tolerance = 1e-5 if name.startswith("float32") else 1e-9
    assert_same_results(folder / "frozen.pb", folder / "compressed.pb", frames, tolerance)


@pytest.mark.parametrize("name", NETS)
def test_potential_gives_the_same(models, name):
    """From the frozen model, whose tables it makes, and from the compressed one, which has them.

    With the same tables, bit for bit; but nets of two precisions are all in float64.
    """
    home, frames = models
    folder = home / name.replace(" ", "_")
    tolerance = 1e-5 if "float32" in name else 1e-10
    assert_potential_agrees(folder / "frozen.pb", frames, tolerance)
    of_all = evaluate(folder / "compressed.pb", frames.coord, frames.types, frames.mask)
    tolerance = 1e-5 if name == "float32" else 0
    assert_potential_agrees(folder / "compressed.pb", frames, tolerance, of_all)


@pytest.mark.parametrize("name", NETS)
def test_one_operator_does_it_all(models, name):
    """But for nets of two precisions, for which there are the operators of the original."""
    home, _ = models
    graph = graph_of(home / name.replace(" ", "_") / "compressed.pb")
    found = {node.op.split(">")[1] for node in graph.node if ">" in node.op}
    if name == "float32":
        assert found == {"RealAtoms", "Embed", "Contract", "Energies", "ContractReverse", "Force"}
    else:
        once = {"Energies"} if name == "energies in vacuum" else set()  # when the model is loaded
        assert found == {"RealAtoms", "Potential", *once}


def test_scale_and_shift_of_energies_stay(models):
    """The model's own variables for that, which training leaves alone."""
    home, frames = models
    folder = home / "energies_in_vacuum"
    scale = {"model_attr__t_out_std": np.reshape([2.0, 0.5, 3.0], (1, 3, 1))}
    shift = {"model_attr__t_out_bias": np.reshape([1.0, -2.0, 4.0], (1, 3, 1))}
    scaled = edited(folder / "frozen.pb", folder / "scaled.pb", **scale, **shift)
    run([[folder, "compress", "-i", "scaled.pb", "-o", "scaled_compressed.pb"]])
    assert_same_results(scaled, folder / "scaled_compressed.pb", frames)


def test_frames_without_real_atoms_have_no_energy(models):
    home, frames = models
    model = home / "one_side" / "compressed.pb"
    found = evaluate(model, frames.coord, frames.types, np.zeros_like(frames.mask))
    assert not any(found[output].any() for output in OUTPUTS)


def test_size_and_time_are_printed(models, capfd):
    home, _ = models
    run([[home / "one_side", "compress", "-i", "frozen.pb", "-o", "again.pb"]])
    output = capfd.readouterr().err
    assert re.search(r"se_a_mask: table of 3 nets .* \d+\.\d\d MB, built in \d+\.\d s\n", output)


def test_dp_test_runs_it(models, capfd):
    home, _ = models
    run([[home, "test", "-m", "one_side/compressed.pb", "-s", "system"]])
    assert "Force  RMSE" in capfd.readouterr().err


def test_model_devi_finds_what_it_finds_of_the_models(models):
    home, _ = models
    for kind in ("frozen", "compressed"):
        pair = [f"{folder}/{kind}.pb" for folder in ("one_side", "excluded_types,_gelu")]
        run([[home, "model-devi", "-m", *pair, "-s", "system", "-o", f"{kind}.out"]])
    wanted, found = (np.loadtxt(home / f"{kind}.out") for kind in ("frozen", "compressed"))
    assert len(wanted) == 3
    assert wanted[:, 4].min() > 1e-3  # the largest deviation of forces
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-9)


def test_text_form_comes_back_by_convert_from(models):
    home, frames = models
    folder = home / "one_side"
    graph = graph_of(folder / "compressed.pb")
    tf.io.write_graph(graph, str(folder), "compressed.pbtxt")
    run([[folder, "convert-from", "pbtxt", "-i", "compressed.pbtxt", "-o", "back.pb"]])
    wanted, found = (
        evaluate(folder / name, frames.coord, frames.types, frames.mask)
        for name in ("compressed.pb", "back.pb")
    )
    for output in OUTPUTS:
        np.testing.assert_array_equal(found[output], wanted[output])


def test_training_cannot_go_on_from_it(models):
    home, _ = models
    message = r"compressed\.pb is compressed, and a table cannot be trained"
    start = ["--init-frz-model", "compressed.pb"]
    with pytest.raises(ValueError, match=message):
        run([[home / "one_side", "train", "input.json", *start]])


def test_compressed_models_are_not_compressed_again(models):
    home, _ = models
    with pytest.raises(RuntimeError, match="already been compressed"):
        run([[home / "one_side", "compress", "-i", "compressed.pb"]])
