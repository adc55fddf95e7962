# SPDX-License-Identifier: LGPL-3.0-or-later
"""dp compress: a table in the place of the embedding nets."""

import numpy as np
import pytest
from helpers import make_input, random_frames, run_dp, run_jobs, write_input, write_system
from jobs import OUTPUTS, evaluate

NETS = {
    "one side": {},
    "two sides": {"type_one_side": False},
    "float32": {"precision": "float32"},
    **{a: {"activation_function": a} for a in ("gelu", "silu", "softplus", "sigmoid", "none")},
    "relu": {"activation_function": "relu"},
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
        jdata = make_input([str(home / "system")], steps=20)
        jdata["model"]["descriptor"] |= options
        write_input(folder, jdata)
        for arguments in (
            ["train", "input.json"],
            ["freeze", "-o", "frozen.pb"],
            ["compress", "-i", "frozen.pb", "-o", "compressed.pb"],
        ):
            jobs.append([str(folder), *arguments])
    output = run_jobs(jobs, home)
    return home, frames, output


@pytest.mark.parametrize("name", NETS)
def test_forces_are_those_of_the_model(models, name):
    home, frames, _ = models
    folder = home / name.replace(" ", "_")
    results = [
        evaluate(folder / model, frames.coord, frames.types, frames.mask)
        for model in ("frozen.pb", "compressed.pb")
    ]
    # A kink is rendered to the width of a panel; float32 to its rounding.
    tolerance = {"relu": 1e-2, "float32": 1e-5}.get(name, 1e-9)
    for output in OUTPUTS:
        wanted, found = (result[output] for result in results)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def test_size_and_time_are_printed(models):
    _, _, output = models
    lines = [line for line in output.splitlines() if "se_a_mask: table of" in line]
    assert len(lines) == len(NETS)
    assert all("MB" in line and "built in" in line for line in lines)


def test_dp_test_and_model_devi_run_it(models):
    home, _, _ = models
    output = run_dp(["test", "-m", "one_side/compressed.pb", "-s", "system"], home)
    assert "Force  RMSE" in output
    models = ["one_side/compressed.pb", "gelu/compressed.pb"]
    run_dp(["model-devi", "-m", *models, "-s", "system", "-o", "devi.out"], home)
    assert len(np.loadtxt(home / "devi.out")) == 3


def test_training_cannot_go_on_from_it(models):
    home, _, _ = models
    folder = home / "one_side"
    output = run_dp(
        ["train", "input.json", "--init-frz-model", "compressed.pb"], folder, succeeds=False
    )
    assert "cannot start from a compressed model" in output


def test_compressed_models_are_not_compressed_again(models):
    home, _, _ = models
    output = run_dp(["compress", "-i", "compressed.pb"], home / "one_side", succeeds=False)
    assert "already been compressed" in output
