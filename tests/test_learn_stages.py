# SPDX-License-Identifier: LGPL-3.0-or-later
"""Stages of ``dp-mask learn``, one by one: what they refuse, put aside, choose; how they fail."""

import inspect
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from helpers import TYPE_MAP, random_frames, write_system
from learning import DP_MASK, task_folder, wait_for_end_in, write
from pages import DOCS
from plain_models import random_nets, write_model

from deepmd_mask.data import open_system
from deepmd_mask.data.training import auto_sel
from deepmd_mask.learning import (
    config,
    dispatcher,
    explore,
    label,
    levels,
    local,
    loop,
    pack,
    select,
    train,
)
from deepmd_mask.learning import openmm as of_openmm
from deepmd_mask.learning.arguments import table
from deepmd_mask.learning.calling import require_module
from deepmd_mask.learning.example import init
from deepmd_mask.learning.files import bring, list_files, only_one, read_json, write_json
from deepmd_mask.learning.frames import read_frames, write_frames
from deepmd_mask.learning.loop import run
from deepmd_mask.learning.tasks import KEPT, RESULT, Order, Stage, Task, TaskError
from deepmd_mask.learning.work import work
from deepmd_mask.openmm import DeviationError
from deepmd_mask.shared.missing import MissingError


def read(folder, **changes):
    """Write the example with changes and read its arguments."""
    if not (folder / "learn.yaml").exists():
        init(folder)
    given = yaml.safe_load((folder / "learn.yaml").read_text())
    for name, value in changes.items():
        given[name] = {**given[name], **value} if isinstance(given.get(name), dict) else value
    (folder / "other").mkdir(exist_ok=True)
    (folder / "other" / "learn.yaml").write_text(yaml.safe_dump(given))
    return config.read(folder / "other")


# ---- Arguments -----------------------------------------------------------------------------------


def test_the_page_has_the_arguments():
    page = (DOCS / "learning.md").read_text()
    (shown,) = re.findall(r"<!-- arguments -->\n(.*?)<!-- end -->", page, re.DOTALL)
    assert shown == table()


def test_the_page_has_the_options_of_openmm():
    page = (DOCS / "learning.md").read_text()
    (shown,) = re.findall(r"<!-- options -->\n(.*?)<!-- end -->", page, re.DOTALL)
    found = dict(re.findall(r"^\| `(\w+)` \| `?([^|`]*)`? \|", shown, re.MULTILINE))
    wanted = {
        name: {one.empty: "needed", None: ""}.get(one.default, str(one.default))
        for name, one in inspect.signature(of_openmm.explore).parameters.items()
        if one.kind is one.KEYWORD_ONLY
    }
    assert {name: default.strip() for name, default in found.items()} == wanted


def test_every_yaml_of_the_page_is_read(tmp_path):
    page = (DOCS / "learning.md").read_text()
    for text in re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        found = yaml.safe_load(text)
        label = found.pop("label", "levels:gfn2")
        found.pop("files", None)
        loop = read(tmp_path, **found, label=label, files=[])
        levels.parse(loop.config["label"]["levels"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iteratons": 3}, "iteratons"),
        ({"select": {"trust_lo": "small"}}, "trust_lo"),
        ({"select": {"trust_lo": 0.9, "trust_hi": 0.1}}, "trust_lo is 0.9 and trust_hi 0.1"),
        ({"explore": {"held_out": 6}}, "held_out is 6 of 6 tasks"),
        ({"explore": {"command": "true"}}, "either function or command"),
        ({"models": 1}, "models is too small"),
        ({"preference": "near:ZN"}, "near:ZN"),
        ({"judge": {"accurate": 95}}, "between 0 and 1"),
        ({"train": {"init_model": False}}, "reuse_numb_steps and reuse_start_lr"),
        ({"preference": "within:2.8:ZN,FE"}, "preference names FE, which type_map"),
    ],
)
def test_wrong_arguments(tmp_path, changes, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read(tmp_path, **changes)
    assert "learn.yaml" in str(error.value)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match="dp-mask learn init"):
        config.read(tmp_path)
    (tmp_path / "learn.yaml").write_text("type_map: [O\n")
    with pytest.raises(ValueError, match=r"learn\.yaml cannot be read"):
        config.read(tmp_path)
    (tmp_path / "learn.yaml").write_text("type_map: [O]\n")
    with pytest.raises(ValueError, match="explore"):
        config.read(tmp_path)


@pytest.mark.parametrize("label", ["levels", {"program": "orca"}, [{"minus": "levels:low"}], []])
def test_wrong_levels(label):
    with pytest.raises(ValueError, match=r"^label: "):
        levels.parse(label)


def test_machines_of_dpgen(tmp_path):
    """Its machine.json serves as it is; a stage may have its own machine."""
    slurm = {"batch_type": "Slurm", "context_type": "SSHContext"}
    part = {"command": "dp", "machine": slurm, "resources": {"group_size": 5}}
    dpgen = {"api_version": "1.0", "train": part, "model_devi": [part], "fp": [part]}
    loop = read(tmp_path, machine=dpgen, train={"machine": {"batch_type": "PBS"}})
    assert loop.machine("explore") == (slurm, {"group_size": 5}) == loop.machine("judge")
    assert loop.machine("train")[0] == {"batch_type": "PBS"}
    assert read(tmp_path).machine("label") is None


def test_init_replaces_nothing(tmp_path):
    write(tmp_path)
    (tmp_path / "zinc_waters.py").write_text("mine")
    with pytest.raises(FileExistsError, match=r"exists; choose another folder"):
        init(tmp_path)
    assert (tmp_path / "zinc_waters.py").read_text() == "mine"


def test_a_second_loop_is_refused(tmp_path):
    """As long as the first one runs, in another process; a lock of one that was killed is none."""
    write(tmp_path)
    command = [*DP_MASK, "learn", "run", str(tmp_path)]
    with only_one(tmp_path):
        done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 1 and "a loop runs here already (process" in done.stderr
    assert not list(tmp_path.glob("iter.*"))
    with only_one(tmp_path):
        pass


# ---- Tasks that fail -----------------------------------------------------------------------------


def test_a_stage_with_a_failedtask_folder(tmp_path):
    """The others are kept; it tells which, where its log is, and goes on with mended scripts."""
    user = tmp_path / "user.py"
    text = "def explore(committee, folder, task, seed):\n    print('began')\n"
    text += "    (folder / 'frames.xyz').touch()\n"
    user.write_text(text + "    assert task != 1, 'no such task'\n")
    stage = Stage(tmp_path / "iter.000000" / "explore", "iteration 0, explore")
    settings = {"function": "user:explore", "options": {}, "committee": []}
    wanted = [Order({**settings, "task": k, "seed": k}, {}) for k in range(2)]
    execute = partial(local.execute, "explore", 2)

    def make():
        return stage.make(wanted, {"user.py": user}, {}, execute, lambda *_: {})

    with pytest.raises(TaskError) as error:
        make()
    message = str(error.value)
    assert message.startswith("iteration 0, explore: 1 of 2 tasks failed\n  task 001: Assertion")
    assert "no such task" in message and "explore.partial/001/log" in message
    assert "run `dp-mask learn run` again" in message
    assert "Traceback" in (stage.partial / "001" / "log").read_text()
    first = (stage.partial / "000" / RESULT).stat().st_mtime_ns
    assert not stage.is_complete
    user.write_text(text)
    assert make()["tasks"] == 2
    assert stage.is_complete and not stage.partial.exists()
    assert (stage.folder / "000" / RESULT).stat().st_mtime_ns == first
    assert (stage.folder / "001" / "failed.0").is_dir()


def test_a_command_that_fails_is_quoted(tmp_path):
    """The message has what it said last, so that nobody must look into the log for it."""
    command = "python -c \"raise ValueError('no such system')\"; exit 3"
    settings = {"command": command, "options": {}, "committee": [], "task": 0, "seed": 0}
    stage = Stage(tmp_path / "iter.000000" / "explore", "iteration 0, explore")
    execute = partial(local.execute, "explore", 1)
    with pytest.raises(TaskError, match="ended with status 3, after ValueError: no such system\n"):
        stage.make([Order(settings, {})], {}, {}, execute, lambda *_: {})


class Unfinished:
    """A stage whose last task never finishes, unless it is told to; settings are a bound."""

    def __init__(self, tmp_path):
        self.stage = Stage(tmp_path / "iter.000000" / "label", "iteration 0, label")
        self.told, self.executed = [], []

    def execute(self, folder, names, number):
        self.executed.append(names)
        for name in names:
            bound = (folder / name / "task.json").read_text()
            result = folder / name / (RESULT if int(name) < number - 1 else KEPT)
            if not result.exists():
                result.mkdir()
                (result / "bound").write_text(bound)
                list_files(result)

    def make(self, bound, number, collect=lambda *_: {}, unfinished=1):
        orders = [Order({"bound": bound, "task": k}, {}) for k in range(number)]
        execute = partial(self.execute, number=number + 1 - unfinished)
        return self.stage.make(orders, {}, {}, execute, collect, self.told.append)


def test_what_was_finished_by_other_settings_is_put_aside(tmp_path):
    """With a line that says so; and it is taken up if they come back."""
    one = Unfinished(tmp_path)
    with pytest.raises(TaskError):
        one.make(1, 3)
    assert one.told == []
    times = [path.stat().st_mtime_ns for path in sorted(one.stage.partial.glob("*/*/bound"))]
    with pytest.raises(TaskError):
        one.make(2, 2)
    (line,) = one.told
    assert line.startswith("iteration 0, label: settings or data have changed; what 3 tasks had")
    assert "label.partial/aside" in line
    aside = one.stage.partial / "aside"
    kept = sorted(aside.glob("*/*/bound"))
    assert [str(path.parent.relative_to(aside)) for path in kept] == [
        f"000.0/{RESULT}", f"001.0/{RESULT}", f"002.0/{KEPT}"]  # fmt: skip
    with pytest.raises(TaskError):
        one.make(1, 3)
    assert one.executed == [["000", "001", "002"], ["000", "001"], ["002"]]
    kept = [one.stage.partial / name for name in ("000/result", "001/result", "002/kept")]
    assert [(path / "bound").stat().st_mtime_ns for path in kept] == times
    assert sorted(path.name for path in aside.iterdir()) == ["000.1", "001.1"]  # of the second


def test_what_was_collected_before_a_kill_is_not_of_other_tasks(tmp_path):
    """Nor is what has a name like a task's, as DPDispatcher's files may, in the way."""
    one = Unfinished(tmp_path)

    def collect(folder, results):
        for number, _ in enumerate(results):
            (folder / f"{number:03d}.xyz").touch()
        return {}

    def killed(folder, results):
        collect(folder, results)
        raise KeyboardInterrupt

    (one.stage.partial).mkdir(parents=True)
    (one.stage.partial / "0a1b.sub").touch()
    with pytest.raises(KeyboardInterrupt):
        one.make(1, 3, killed, unfinished=0)
    one.make(1, 2, collect, unfinished=0)
    assert sorted(path.name for path in one.stage.folder.glob("*.*") if path.suffix != ".json") == [
        "000.xyz", "001.xyz", "0a1b.sub"]  # fmt: skip


def test_other_data_are_noticed(tmp_path):
    """A half-done stage begins anew with them, and has no file of those before."""
    data, stage = tmp_path / "data", Stage(tmp_path / "iter.000000" / "train", "")
    for name in ("set.000", "set.001"):
        (data / name).mkdir(parents=True)
        (data / name / "coord.npy").write_text(name)

    def make(told):
        execute = lambda folder, names: (folder / "000" / KEPT).mkdir(exist_ok=True)  # noqa: E731
        with pytest.raises(TaskError):
            stage.make([Order({}, {})], {}, {"data/000": data}, execute, dict, told.append)
        return told

    assert make([]) == make([]) == []
    shutil.rmtree(data / "set.001")
    (data / "set.000" / "coord.npy").write_text("others")
    (line,) = make([])
    assert "settings or data have changed; what 1 tasks" in line
    brought = stage.partial / "common" / "data" / "000"
    assert [path.name for path in brought.iterdir()] == ["set.000"]
    assert (brought / "set.000" / "coord.npy").read_text() == "others"
    assert [path.name for path in brought.parent.iterdir()] == ["000"]


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    """Jobs may be reading it."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").touch()
    for linked in (True, False):
        target = tmp_path / f"target_{linked}"
        bring(tmp_path / "source", target, linked)
        inode = target.stat().st_ino
        bring(tmp_path / "source", target, linked)
        assert target.stat().st_ino == inode
        (target.with_name(f".{target.name}.partial")).mkdir()  # of one that was killed
        (target / "more").touch()
        bring(tmp_path / "source", target, linked)
        assert [path.name for path in target.iterdir()] == ["file"]


def test_what_was_finished_by_other_scripts_is_told(tmp_path):
    """It stays, as who mends a script after a failure wants it; each time until it is removed."""
    user, stage = tmp_path / "user.py", Stage(tmp_path / "iter.000000" / "label", "label")

    def execute(folder, names):
        result = folder / "000" / RESULT
        if not result.exists():
            result.mkdir()
            list_files(result)

    def make(text, told):
        user.write_text(text)
        with pytest.raises(TaskError):
            orders = [Order({"task": k}, {}) for k in range(2)]
            stage.make(orders, {"user.py": user}, {}, execute, dict, told.append)
        return told

    assert make("first", []) == make("first", []) == []
    for _ in range(2):
        (line,) = make("second", [])
        assert line.startswith("label: user.py changed; what tasks 000 had finished before stays")
        assert "label.partial" in line
    first, second = (read_json(stage.partial / name / "task.json") for name in ("000", "001"))
    assert first["files"] != second["files"]
    shutil.rmtree(stage.partial / "000")
    assert make("second", []) == []


def test_jobs_of_other_tasks_are_not_taken_up(tmp_path):
    """Of the same names, but with other settings, inputs or scripts; of the same ones they are."""
    for name in ("000", "001"):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "task.json", {"settings": {"levels": "my:low"}})
    first = dispatcher._submitted(tmp_path, ["000", "001"])
    assert dispatcher._submitted(tmp_path, ["001"]) == first
    write_json(tmp_path / "001" / "task.json", {"settings": {"levels": "my:high"}})
    second = dispatcher._submitted(tmp_path, ["001"])
    assert (first["number"], second["number"], second["tasks"]) == (0, 1, ["001"])
    assert dispatcher._submitted(tmp_path, ["001"]) == second


def test_a_job_that_is_not_what_is_asked_any_more(tmp_path):
    """Where files are shared one may end after the loop was begun again with other settings."""
    settings = {"command": "touch frames.xyz; echo '{}' > ../task.json"}
    folder = task_folder(tmp_path, "explore", settings)
    work("explore", folder)
    assert [path.name for path in folder.iterdir()] == ["task.json"]


LOOP = """
import signal
import sys
from pathlib import Path
from deepmd_mask.learning.local import execute
# In the background of a shell without a terminal it is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
execute("explore", 1, Path(sys.argv[1]), ["000"])
"""
SLEEP = "touch began; sleep 100; true"
FUNCTION = f"""
import subprocess
def explore(committee, folder, task, seed):
    subprocess.run(["bash", "-c", {SLEEP!r}], cwd=folder)
"""


@pytest.mark.parametrize(
    ("how", "settings"),
    [
        (signal.SIGKILL, {"command": f"bash -c '{SLEEP}'; true"}),
        (signal.SIGINT, {"function": "user:explore"}),  # of the loop alone
    ],
)
def test_all_that_a_task_has_started_ends_with_the_loop(tmp_path, how, settings):
    """Also what its commands have started; or a restart would begin it a second time."""
    folder = task_folder(tmp_path, "explore", settings)
    (folder.parent / "common" / "user.py").write_text(FUNCTION)
    command = [sys.executable, "-c", LOOP, str(folder.parent)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not list(folder.glob("attempt.*/began")):
        assert process.poll() is None and time.monotonic() < end, (folder / "log").read_text()
        time.sleep(0.05)
    process.send_signal(how)
    assert process.wait() == -how
    wait_for_end_in(tmp_path)


def test_the_command_of_the_page_that_explores(tmp_path):
    page = (DOCS / "learning.md").read_text()
    (command,) = re.findall(r"`command: (bash \{common\}/explore\.sh [^`]*)`", page)
    models = ["graph.000.pb", "graph.001.pb"]
    settings = {"command": command, "committee": models, "task": 3, "seed": 7}
    folder = task_folder(tmp_path, "explore", settings)
    common = folder.parent / "common"
    (common / "explore.sh").write_text('echo "$@" > words; touch frames.xyz\n')
    work("explore", folder)
    words = (folder / RESULT / "words").read_text().split()
    assert words == ["3", "7", *(str(common / name) for name in models)]


def test_two_processes_with_one_task_do_no_harm(tmp_path):
    """As a queue may start them: the result is that of the first."""
    settings = {"command": "touch frames.xyz; echo $$ > who; sleep 1"}
    folder = task_folder(tmp_path, "explore", settings)
    command = [sys.executable, "-m", "deepmd_mask.learning.work", "explore"]
    both = [subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert (folder / RESULT / "who").exists()
    assert not list(folder.glob("attempt.*"))


# ---- Selection -----------------------------------------------------------------------------------


def explored(deviations, seed):
    """Return frames of water with deviations of their first atom, and smaller ones of others."""
    rng = np.random.default_rng(seed)
    frames = []
    for deviation in deviations:
        atoms = molecule("H2O")
        atoms.positions += rng.normal(scale=0.05, size=(3, 3))
        atoms.set_array("deviation", np.array([deviation, 0.01, 0.01]))
        frames.append(atoms)
    return frames


def selected(tmp_path, files, **changes):
    settings = {"trust_lo": 0.1, "trust_hi": 0.5, "frames": 2, "held_out_frames": 2, "held_out": 1}
    settings |= {"committee": ["none.pb"], "preference": "all", "type_map": ["O", "H"], **changes}
    folder = task_folder(tmp_path, "select", settings, **files)
    select.work(Task(folder, folder.parent / "common", folder, settings))
    return json.loads((folder / "counts.json").read_text()), folder


def test_shares_and_choice(tmp_path):
    """Bounds are DP-GEN's; what is held out is not chosen; what is lost has failed."""
    training = explored([0.05, 0.1, 0.2, 0.3, 0.5, 0.7], 1)
    training[-1].info["lost"] = 4
    training.append(training[2].copy())  # the same once more
    held_out = explored([0.05, 0.2, 0.9], 2)
    counts, folder = selected(tmp_path, {"000": training, "001": held_out})
    shares = {"accurate": 2, "candidate": 5, "failed": 7}
    assert counts == {"frames": 14, **shares, "chosen": 2, "held_out": 2, "missing": []}
    chosen = read_frames(folder / "candidates.xyz")
    assert all(0.1 <= atoms.info["max_devi_f"] < 0.5 for atoms in chosen)
    assert not np.allclose(chosen[0].positions, chosen[1].positions)
    test = read_frames(folder / "held_out.xyz")
    np.testing.assert_allclose([a.positions for a in test], [a.positions for a in held_out[:2]],
                               atol=1e-7)  # fmt: skip


def test_what_a_chosen_frame_says_is_lost_has_failed(tmp_path):
    training = explored([0.2], 1)
    training[0].info["lost"] = 9
    counts, folder = selected(tmp_path, {"000": training, "001": []})
    assert (counts["chosen"], counts["failed"], counts["frames"]) == (1, 9, 10)
    assert "lost" not in read_frames(folder / "candidates.xyz")[0].info


def test_deviations_are_of_preferred_atoms(tmp_path):
    counts, _ = selected(tmp_path, {"000": explored([0.7], 1), "001": []}, preference="element:H")
    assert counts["accurate"] == 1


def test_frames_like_those_of_before_are_not_chosen(tmp_path):
    training = explored([0.2, 0.2], 1)
    files = {"000": training, "001": [], "before_000000": training[:1]}
    counts, folder = selected(tmp_path, files)
    assert counts["chosen"] == 1
    (chosen,) = read_frames(folder / "candidates.xyz")
    np.testing.assert_allclose(chosen.positions, training[1].positions, atol=1e-7)


def test_frames_that_no_model_takes(tmp_path):
    """NaN has failed; a box and an element that no model knows are errors."""
    broken = molecule("H2O")
    broken.positions[0] = np.nan
    counts, _ = selected(tmp_path / "nan", {"000": [broken], "001": []})
    assert counts["failed"] == 1
    boxed = molecule("H2O")
    boxed.set_cell([9, 9, 9])
    boxed.pbc = True
    with pytest.raises(ValueError, match="frame 0 of task 0 is periodic"):
        selected(tmp_path / "box", {"000": [boxed], "001": []})
    nets = random_nets(2, neuron=[4, 8], M2=2, fitting_neuron=[4])
    models = [str(write_model(tmp_path / f"{k}.pb", nets, ["O", "H"])) for k in range(2)]
    with pytest.raises(ValueError, match="explored frame 0, atom 0: the models do not know Ar"):
        select.deviations(models, [Atoms("Ar")], [np.ones(1)])
    assert select.deviations(models, [molecule("H2O")], [np.ones(3)]).tolist() == [0.0]


def test_deviations_that_are_no_numbers_have_failed(tmp_path):
    """Of models, that is; without a committee all frames are candidates."""
    frames = explored([np.nan, 0.2], 1)
    counts, _ = selected(tmp_path / "models", {"000": frames, "001": []})
    assert (counts["candidate"], counts["failed"], counts["chosen"]) == (1, 1, 1)
    counts, _ = selected(tmp_path / "none", {"000": frames, "001": []}, committee=[])
    assert (counts["candidate"], counts["failed"]) == (2, 0)


def test_units_of_explored_frames(tmp_path):
    """What a frame says of those of its labels is not of the new ones; positions are in Å."""
    (atoms,) = explored([0.2], 1)
    atoms.info |= {"energy-unit": "hartree", "force-unit": "hartree/bohr", "length-unit": "Å"}
    _, folder = selected(tmp_path / "energy", {"000": [atoms], "001": []})
    (chosen,) = read_frames(folder / "candidates.xyz")
    assert not any("unit" in name for name in chosen.info)
    atoms.info["length-unit"] = "bohr"
    message = "explored frame 0 of task 0: it says length-unit=bohr; write positions in Å"
    with pytest.raises(ValueError, match=message):
        selected(tmp_path / "length", {"000": [atoms], "001": []})


def test_what_preference_names_and_no_frame_has_is_told(tmp_path):
    files = {"000": explored([0.2], 1), "001": []}
    rule = {"preference": "element:O,ZN", "type_map": ["O", "H", "ZN"]}
    counts, _ = selected(tmp_path, files, **rule)
    assert counts["missing"] == ["ZN"]
    assert select.line(counts).endswith("; no frame has ZN, which preference names")


def test_a_part_may_lack_what_preference_names(tmp_path):
    """An iteration may have few frames; the rule was held to the type map."""
    frames = explored([0.2], 1)
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((3, 3)))
    settings = {"preference": "element:O,ZN", "type_map": ["O", "H", "ZN"], "precision": "float64"}
    settings |= {"external_field": False}
    folder = task_folder(tmp_path, "pack", settings, labelled=frames, held_out=[])
    pack.work(Task(folder, folder.parent / "common", folder, settings))
    (chunk,) = open_system(str(folder / "train"), ("coord",)).chunks()
    assert chunk.preference.sum() == 1


# ---- Between iterations --------------------------------------------------------------------------


def done(found, iteration, name, **summary):
    """Write the summary of a stage, as if it had been made."""
    folder = found.stage(iteration, name).folder
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "stage.json", summary)
    return folder


def test_a_label_that_fails_does_not_end_the_loop(tmp_path):
    """But if candidates are there, and nothing at all can be labelled."""
    found = read(tmp_path)
    result = tmp_path / "result"
    result.mkdir()
    (atoms,) = explored([0.2], 1)
    for chosen, held_out, is_good in ((0, [], True), (2, [atoms], True), (2, [], False)):
        done(found, 0, "select", chosen=chosen, held_out=1)
        failed = atoms.copy()
        failed.info["reason"] = "no"
        for name, some in {"labelled": [], "held_out": held_out, "failed": [failed]}.items():
            (result / f"{name}.xyz").unlink(missing_ok=True)
            write_frames(result / f"{name}.xyz", some)
        if is_good:
            assert label.collect(found, 0, tmp_path, [result])["failed"] == 1
        else:
            with pytest.raises(TaskError, match="none of 1 frames could be labelled"):
                label.collect(found, 0, tmp_path, [result])


def test_what_was_held_out_goes_on_held_out(tmp_path):
    """A trajectory that was not begins anew, and the other way round; a line says so."""
    found = read(tmp_path, explore={"tasks": 4, "held_out": 1})
    before = done(found, 0, "explore", tasks=4, held_out=1)
    for number in range(4):
        (before / f"{number:03d}" / RESULT).mkdir(parents=True)

    def continued(**changes):
        orders = explore.prepare(read(tmp_path, explore=changes), 1)
        return [bool(order.inputs) for order in orders]

    assert continued(tasks=4, held_out=1) == [True] * 4
    assert continued(tasks=4, held_out=2) == [True, True, False, True]
    assert continued(tasks=5, held_out=1) == [True] * 3 + [False] * 2
    assert continued(tasks=3, held_out=1) == [True, True, False]
    more = read(tmp_path, explore={"tasks": 4, "held_out": 2})
    results = [before / f"{number:03d}" / RESULT for number in range(4)]
    for result in results:
        write_frames(result / "frames.xyz", explored([0.2], 1))
    summary = {"tasks": 4, **explore.collect(more, 1, tmp_path, results)}
    assert explore.line(summary) == (
        "4 frames of 4 tasks; 1 begin anew, as others are held out than before"
    )
    (before / "000.xyz").touch()
    done(found, 0, "explore", tasks=4, held_out=2)  # what held_out was then
    (order,) = select.prepare(found, 0)
    assert order.settings["held_out"] == 2


def test_why_trajectories_ended_is_told(tmp_path):
    found = read(tmp_path, explore={"tasks": 2, "held_out": 1})
    reason = 'region "site": 3 Å, no such=thing'
    frames = explored([0.2, 0.2], 1)
    frames[-1].info["ended"] = reason
    results = [tmp_path / str(number) for number in range(2)]
    for result, some in zip(results, (frames, frames[:1]), strict=True):
        result.mkdir()
        write_frames(result / "frames.xyz", some)
    summary = {"tasks": 2, **explore.collect(found, 0, tmp_path, results)}
    assert explore.line(summary) == f"3 frames of 2 tasks; 1 ended early, task 000: {reason}"


class Failing:
    """A simulation that fails in its second interval."""

    def __init__(self, error):
        self.errors = [None, error]

    def step(self, _):
        error = self.errors.pop(0)
        if error is not None:
            raise error


def test_a_trajectory_that_fails_says_why(tmp_path):
    setup = of_openmm.Setup(None, None, None, None)
    for error, reason in (
        (ValueError("the region is too large\nfor it"), "the region is too large"),
        (DeviationError("step 4"), ""),
    ):
        frames = 2 if isinstance(error, DeviationError) else 1
        found = of_openmm._run(Failing(error), setup, None, 2, 9)
        assert found == (frames, False, reason)
    of_openmm._write(tmp_path, explored([0.2], 1), 8, "the region is too large")
    (atoms,) = read_frames(tmp_path / "frames.xyz")
    assert (atoms.info["lost"], atoms.info["ended"]) == (8, "the region is too large")


def test_preference_of_the_loop_is_that_of_explore(tmp_path):
    """Of the one with OpenMM, unless it has its own, or the rule is of an array of frames."""
    function = {"function": explore.OPENMM, "options": {"build": "system:build"}}

    def given(rule, **options):
        section = {**function, "options": {**function["options"], **options}}
        orders = explore.prepare(read(tmp_path, preference=rule, explore=section), 0)
        return orders[0].settings["options"].get("preference")

    assert given("element:ZN") == "element:ZN"
    assert given("element:ZN", preference="all") == "all"
    assert given("array:preference") is None
    assert "preference" not in explore.prepare(read(tmp_path), 0)[0].settings["options"]


def test_levels_and_types_stay(tmp_path):
    """Or it is an error before anything is done; another preference is told."""
    told = []
    found = read(tmp_path)
    done(found, 0, "label", levels="zinc_waters:gfn2")
    done(found, 0, "pack", preference="all")
    done(found, 0, "train", type_map=["O", "H", "ZN"], sel=[4, 8, 4])
    for changes in ({}, {"label": ["zinc_waters:gfn2"]}, {"type_map": ["O", "H", "ZN", "S"]}):
        loop._require_same(read(tmp_path, **changes), told.append)
    assert told == []
    for name, changes in {
        "label": {"label": "zinc_waters:gfn1"},
        "type_map": {"type_map": ["H", "O", "ZN"]},
    }.items():
        with pytest.raises(ValueError, match=rf"^{name} is .* iteration 0.*[Ss]et it back"):
            loop._require_same(read(tmp_path, **changes), told.append)
    loop._require_same(read(tmp_path, preference="element:ZN"), told.append)
    assert told[0].startswith("preference is element:ZN, and was all when iteration 0 was packed")


# ---- What is asked for at once -------------------------------------------------------------------


SLURM = {"batch_type": "Slurm", "context_type": "LazyLocalContext"}


@pytest.mark.parametrize(
    ("machine", "resources", "message"),
    [
        ({"context_type": "LazyLocalContext"}, {}, r"machine of explore: .*batch_type"),
        ({**SLURM, "batch_type": "Slrum"}, {}, "batch_type is Slrum; DPDispatcher has .*Slurm"),
        (SLURM, {"group_size": "two"}, r"resources of explore: .*group_size"),
    ],
)
def test_machines_that_dpdispatcher_does_not_take(tmp_path, machine, resources, message):
    """File, stage and argument are named, and nothing is done."""
    pytest.importorskip("dpdispatcher")
    write(tmp_path, machine="machine.json", resources={**config._ONE_EACH, **resources})
    write_json(tmp_path / "machine.json", machine)
    with pytest.raises(ValueError, match=message) as error:
        run(tmp_path)
    named = config.NAMES[0] if resources else "machine.json"
    assert str(tmp_path / named) in str(error.value)
    assert not list(tmp_path.glob("iter.*"))


def changed_input(folder, section, **changes):
    script = json.loads((folder / "input.json").read_text())
    script[section] |= changes
    (folder / "input.json").write_text(json.dumps(script))


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("model", {"type_map": ["H", "O", "ZN"]}, r"input.json: model/type_map is \['H', 'O'"),
        ("model", {"descriptor": {"sel": [6, 12]}}, "sel has 2 numbers, and type_map of the loop"),
        ("training", {"validation_data": {"systems": ["val"]}}, "training/validation_data: .*/val"),
    ],
)
def test_inputs_that_are_for_something_else(tmp_path, section, changes, message):
    write(tmp_path)
    changed_input(tmp_path, section, **changes)
    with pytest.raises(ValueError, match=message):
        run(tmp_path)
    assert not list(tmp_path.glob("iter.*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "nowhere:level"}, "nowhere:level: there is no module nowhere"),
        ({"explore": {"function": "nowhere:frames"}}, "there is no module nowhere"),
        ({"train": {"input": "none.json"}}, "none.json cannot be read"),
        ({"files": ["*.py", "site.pdb"]}, "has no site.pdb"),
        ({"test": ["tset"]}, "test: .*/tset is no folder of a system"),
        ({"data": ["first"]}, "data: .*/first is no folder of a system"),
        ({"judge": {"force_error": 0.1}, "explore": {"held_out": 0}}, "force_error is never met"),
    ],
)
def test_what_later_stages_need_is_asked_for_at_once(tmp_path, changes, message):
    write(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        run(tmp_path)
    assert not list(tmp_path.glob("iter.*"))


def test_a_module_with_a_finder_of_its_own_is_there(tmp_path, monkeypatch):
    """So are packages that are installed to be edited."""

    class Finder:
        @staticmethod
        def find_spec(name, *_):
            return ModuleSpec(name, None) if name == "edited" else None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    require_module("edited.levels:gfn2", tmp_path)
    with pytest.raises(ValueError, match="there is no module nowhere"):
        require_module("nowhere:gfn2", tmp_path)


def test_files_of_the_user_are_there(tmp_path):
    loop = read(tmp_path, files=["site.pdb"])
    with pytest.raises(ValueError, match=r"has no site.pdb"):
        loop.files()
    shutil.copy(Path(__file__), loop.folder / "site.pdb")
    assert list(loop.files()) == ["site.pdb"]


def test_without_dpdispatcher(tmp_path, monkeypatch):
    """The extra to install is named before anything is done."""
    write(tmp_path, machine={"batch_type": "Shell"})
    monkeypatch.setitem(sys.modules, "dpdispatcher", None)
    with pytest.raises(MissingError, match=r'pip install "deepmd-mask\[learn\]"'):
        run(tmp_path)
    assert not list(tmp_path.glob("iter.*"))


# ---- Training ------------------------------------------------------------------------------------


def test_data_to_begin_with(tmp_path):
    """The first iteration explores nothing; slots are counted once, and anew if need be."""
    loop = read(tmp_path, type_map=TYPE_MAP, data=["first"])
    script = json.loads((tmp_path / "input.json").read_text())
    script["model"]["descriptor"]["sel"] = "auto"
    (loop.folder / "input.json").write_text(json.dumps(script))
    frames = random_frames(nframes=4)
    most = frames.counts().max(axis=0)
    write_system(loop.folder / "first", frames)
    for iteration in range(2):
        for stage in (explore, select, label, pack):
            if iteration == 0:
                assert stage.prepare(loop, 0) == []
            collect = partial(stage.collect, loop, iteration)
            _empty(loop.stage(iteration, stage.__name__.rpartition(".")[2]), collect)
        orders = _packed(loop, iteration, frames if iteration else None)
        assert len(orders) == 3
        sel = orders[0].settings["input"]["model"]["descriptor"]["sel"]
        assert sel == auto_sel("auto", most)
        assert [bool(order.inputs) for order in orders] == [iteration == 1] * 3
        trained = loop.stage(iteration, "train").folder
        trained.mkdir(parents=True, exist_ok=True)
        write_json(trained / "stage.json", {"sel": sel})
        for number in range(3):
            (trained / f"graph.{number:03d}.pb").touch()
    write_json(loop.stage(0, "train").folder / "stage.json", {"sel": [1, 1, 1]})
    assert [bool(order.inputs) for order in train.prepare(loop, 1)] == [False] * 3


@pytest.fixture
def trained(tmp_path):
    """Return a function that reads a loop which has been trained once, with data."""
    frames = random_frames(nframes=4)

    def again(**changes):
        found = read(tmp_path, **{"type_map": TYPE_MAP, "data": ["first"], **changes})
        shutil.copy(tmp_path / "input.json", found.folder)
        changed_input(found.folder, "model", descriptor={"sel": "auto"})
        if not (found.folder / "first").exists():
            write_system(found.folder / "first", frames)
        sel = auto_sel("auto", frames.counts().max(axis=0))
        folder = done(found, 0, "train", sel=sel, type_map=TYPE_MAP)
        for number in range(3):
            (folder / f"graph.{number:03d}.pb").touch()
            (folder / f"weights.{number:03d}").mkdir(exist_ok=True)
        done(found, 1, "pack", train=0, test=0)
        return found

    return again


def test_models_that_are_added(trained):
    """They begin from nothing, and the others go on, also without new data."""
    assert train.prepare(trained(), 1) == []
    orders = train.prepare(trained(models=5), 1)
    assert [bool(order.inputs) for order in orders] == [True] * 3 + [False] * 2
    steps = [order.settings["input"]["training"]["numb_steps"] for order in orders]
    assert steps == [1000] * 3 + [3000] * 2


def test_a_type_map_that_has_grown(trained):
    """Its slots are counted, and other nets begin from nothing."""
    found = trained(type_map=[*TYPE_MAP, "S"])
    done(found, 1, "pack", train=4, test=0)
    last = found.stage(0, "train").summary["sel"]
    orders = train.prepare(found, 1)
    assert [order.inputs for order in orders] == [{}] * 3
    assert orders[0].settings["input"]["model"]["descriptor"]["sel"] == [*last, 0]


def test_names_and_paths_of_the_input(trained):
    """Checkpoints have the name that the next iteration looks for; systems are found by tasks."""
    found = trained()
    write_system(found.folder / "more" / "val", random_frames(nframes=1))
    changed_input(found.folder, "training", save_ckpt="mine", validation_data={"systems": "more"})
    train.require_systems(found)
    training = train.prepare(found, 0)[0].settings["input"]["training"]
    assert training["save_ckpt"] == train.CHECKPOINT
    assert training["training_data"]["systems"] == ["../../common/data/000"]
    assert training["validation_data"]["systems"] == ["../../common/validation/000"]
    common = train.common(found, 0)
    assert common["validation/000"] == found.folder / "more" / "val"
    assert list(common) == ["data/000", "validation/000"]


def _empty(stage, collect):
    """Make a stage without tasks."""
    stage.make([], {}, {}, lambda *_: None, collect)


def _packed(loop, iteration, frames):
    """Return the tasks of a training; with frames as what was packed in this iteration."""
    if frames is not None:
        packed = loop.stage(iteration, "pack").folder
        write_system(packed / "train", frames)
        write_json(packed / "stage.json", {"train": len(frames.mask), "test": 0})
    return train.prepare(loop, iteration)
