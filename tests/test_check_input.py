# SPDX-License-Identifier: LGPL-3.0-or-later
"""dp-mask check of systems together with an input, and the command."""

import json
from functools import partial

import helpers
import numpy as np
import pytest
from spoiling import (
    FRAMES,
    GHOST,
    NFRAMES,
    replacing,
    run,
    setting,
)

from deepmd_mask import data

check = partial(data.check, external_field=True)  # forces here are random
pytestmark = pytest.mark.filterwarnings("ignore::deepmd_mask.data.balance.NetForceWarning")


@pytest.fixture
def system(tmp_path):
    """Write a good system, which tests then spoil; its path has spaces and a letter with a dot."""
    return helpers.write_system(tmp_path / "мокрая вода ä", FRAMES)


# ---- With an input -------------------------------------------------------------------------------


def check_input(directory, systems, more=(), **options):
    jdata = helpers.make_input(systems, **options)
    helpers.write_input(directory, jdata)
    return check(more, directory / "input.json").findings


def test_good_input(tmp_path, system):
    assert check_input(tmp_path, [system], validation=[system])[0].code == "repeated"
    assert check_input(tmp_path, [system.parent]) == []


def test_arguments_that_the_builtin_lacks(tmp_path, system):
    """In a process that has not loaded the plugin, which lets `dp train` take them."""
    options = {"start": "spread", "even_steps": True}
    helpers.write_input(tmp_path, helpers.make_input([system.parent], descriptor=options))
    program = "from deepmd_mask.data import check; print(check([], 'input.json').as_text())"
    assert "0 errors," in helpers.run_python(["-c", program], tmp_path, forked=True)


def test_more_atoms_than_sel(tmp_path, system):
    findings = check_input(tmp_path, [system], sel=[4, 4, 2])
    many = np.flatnonzero(FRAMES.counts()[:, 0] == 5).tolist()
    assert len(many) > 1
    assert [(f.level, f.code, f.frame) for f in findings] == [("error", "sel", k) for k in many]
    assert "5 real atoms of type 0 (C), but sel allows 4" in findings[0].message


def test_sel_of_the_training_data_bounds_the_other(tmp_path):
    small = helpers.write_system(tmp_path / "small", helpers.random_frames(nreal=[[1, 1, 1]] * 2))
    large = helpers.write_system(
        tmp_path / "large", helpers.random_frames(slots=(9, 4, 2), nreal=[[9, 1, 1]], seed=1)
    )
    (finding,) = check_input(tmp_path, [small], validation=[large], sel="auto")
    assert (finding.code, finding.system) == ("sel", str(large))
    (finding,) = check_input(tmp_path, [small], more=[large, small], sel="auto")
    assert (finding.code, finding.system) == ("sel", str(large))


def test_type_that_the_model_lacks(tmp_path, system):
    (system / "type_map.raw").write_text("C\nO\nZn\n")
    (finding,) = check_input(tmp_path, [system])
    assert (finding.level, finding.code, finding.file) == ("error", "type-map", "type_map.raw")
    assert "mind capital letters" in finding.message


def test_preference_that_the_loss_needs(tmp_path, system):
    (system / "set.000/atom_pref.npy").unlink()
    (finding,) = check_input(tmp_path, [system])
    assert (finding.level, finding.code) == ("error", "missing-file")
    loss = {"start_pref_pf": 0.0, "limit_pref_pf": 0.0, "start_pref_e": 1.0}
    assert check_input(tmp_path, [system], loss=loss) == []
    (system / "set.000/energy.npy").unlink()
    (finding,) = check_input(tmp_path, [system], loss=loss)
    assert (finding.level, finding.file) == ("warning", "set.000/energy.npy")


@pytest.mark.parametrize(
    ("message", "options"),
    {
        "axis_neuron (12) is larger than M1": {"descriptor": {"axis_neuron": 12}},
        "descriptor is not se_a_mask": {"descriptor": {"type": "se_e2_a", "rcut": 6.0}},
        "numb_aparam": {"fitting_net": {"numb_aparam": 0, "use_aparam_as_mask": False}},
        "undefined key `colour`": {"descriptor": {"colour": "red"}},
        "neuron of fitting_net is [8, 0]": {"fitting_net": {"neuron": [8, 0]}},
        "neuron of descriptor is []; it must": {"descriptor": {"neuron": []}},
        "axis_neuron is 0": {"descriptor": {"axis_neuron": 0}},
        "sel is [9, 9, -1]": {"descriptor": {"sel": [9, 9, -1]}},
        '`sel` is "autoo"': {"descriptor": {"sel": "autoo"}},
        "exclude_types has [0, 3]; it must hold pairs": {"descriptor": {"exclude_types": [[0, 3]]}},
        "exclude_types has [0];": {"descriptor": {"exclude_types": [[1, 1], [0]]}},
        "training_data/batch_size is 0": {"training_data": {"batch_size": 0}},
        'training_data/batch_size is "autoo"': {"training_data": {"batch_size": "autoo"}},
        "no system; name one in training/training_data": {"training_data": {"systems": []}},
        "start_lr is -1": {"learning_rate": {"start_lr": -1.0}},
        "numb_steps is -1": {"training": {"numb_steps": -1}},
        "limit_pref_f is -1": {"loss": {"limit_pref_f": -1.0}},
        "start_pref_e is nan": {"loss": {"start_pref_e": float("nan")}},
        "all prefactors of loss are 0": {
            "loss": {
                f"{when}_pref_{of}": 0.0 for when in ("start", "limit") for of in ("e", "f", "pf")
            }
        },
    }.items(),
)
def test_options(tmp_path, system, message, options):
    (finding,) = check_input(tmp_path, [system], **options)
    assert (finding.level, finding.code) == ("error", "input")
    assert finding.file == str(tmp_path / "input.json")
    assert message in finding.message


def test_no_training_data(tmp_path, system):
    jdata = helpers.make_input([system])
    del jdata["training"]["training_data"]
    helpers.write_input(tmp_path, jdata)
    (finding,) = check((), tmp_path / "input.json").findings
    assert "there is no system; name one in training/training_data" in finding.message


def test_input_that_is_none(tmp_path):
    (tmp_path / "empty.json").write_text("{}")
    (finding,) = check((), tmp_path / "empty.json").findings
    assert "it has no section model" in finding.message
    (finding,) = check((), tmp_path / "none.json").findings
    assert "not found" in finding.message
    (tmp_path / "bad.json").write_text("{")
    (finding,) = check((), tmp_path / "bad.json").findings
    assert "cannot be read" in finding.message
    with pytest.raises(ValueError, match="nothing to check"):
        check()


def test_systems_that_the_input_names_and_that_are_not_there(tmp_path, system):
    findings = check_input(tmp_path, [tmp_path / "gone", system, tmp_path / "lost"])
    assert [(f.code, f.system) for f in findings] == [
        ("no-system", str(tmp_path / "gone")),
        ("no-system", str(tmp_path / "lost")),
    ]


def test_relative_paths_of_an_input_in_another_folder(tmp_path, system, monkeypatch):
    """They begin in the working directory, as for dp train, and the message says so."""
    helpers.write_input(tmp_path, helpers.make_input([system.name]))
    monkeypatch.chdir(tmp_path)
    assert check((), "input.json").findings == []
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (finding,) = check((), "../input.json").findings
    assert (finding.code, finding.system) == ("no-system", system.name)
    assert f"now {tmp_path / 'elsewhere'}; run it in the folder that is meant" in finding.message


# ---- The command ---------------------------------------------------------------------------------


def test_command(system):
    code, output = run(system)
    assert code == 0
    assert "0 errors, 0 warnings" in output
    assert "shortest distance" in output
    setting("force", {3 * GHOST: 1}, frame=1)(system)
    code, output = run(system)
    assert code == 0
    assert f"warning [virtual-force] system {system}, set.000/force.npy, frame 1, atom" in output
    setting("aparam", {4: 0.9})(system)
    code, output = run(system)
    assert code == 1
    assert f"error [mask] system {system}, set.000/aparam.npy, frame 1, atom 4: mask" in output
    assert run()[0] == 2


def test_command_prints_ten_of_a_kind(system):
    replacing("aparam", lambda mask: np.full_like(mask, 0.5))(system)
    _, output = run(system)
    assert output.count("error [mask]") == 11
    assert f"{NFRAMES - 10} more of this kind" in output
    assert run("--all", system)[1].count("error [mask]") == NFRAMES


def test_json(system):
    setting("energy", {0: np.nan})(system)
    code, output = run("--json", system)
    assert code == 1
    found = json.loads(output)
    assert found["errors"] == 1
    finding = found["findings"][0]
    place = {name: finding[name] for name in ("system", "file", "frame", "atom")}
    assert place == {
        "system": str(system), "file": "set.000/energy.npy", "frame": 1, "atom": None
    }  # fmt: skip
    assert finding["frame_of_system"] == 1
    assert found["systems"][0]["frames"] == NFRAMES
    assert found["systems"][0]["atoms"]["C"][2] == 5
