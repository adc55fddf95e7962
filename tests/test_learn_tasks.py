# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tasks of ``dp-mask learn`` that fail, are killed, or are not what they were asked to be."""

import logging
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from learning import task_folder, wait_for_end_in
from pages import DOCS

from deepmd_mask.learning import (
    dispatcher,
    local,
)
from deepmd_mask.learning.files import bring, list_files, read_json, write_json
from deepmd_mask.learning.tasks import KEPT, RESULT, Order, Stage, TaskError
from deepmd_mask.learning.work import work

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


def test_a_copy_of_a_loop_goes_on(tmp_path):
    """Copies have other times of change; what was finished is of the same contents."""
    loop = tmp_path / "loop"
    (loop / "data").mkdir(parents=True)
    (loop / "data" / "coord.npy").write_text("coordinates")
    (loop / "module.py").write_text("1")

    def make(loop, told):
        stage = Stage(loop / "iter.000000" / "train", "")
        order = Order({}, {"coord.npy": loop / "data" / "coord.npy"})
        execute = lambda folder, names: (folder / "000" / KEPT).mkdir(exist_ok=True)  # noqa: E731
        own, common = {"module.py": loop / "module.py"}, {"data/000": loop / "data"}
        with pytest.raises(TaskError):
            stage.make([order], own, common, execute, dict, told.append)
        return told

    assert make(loop, []) == []
    shutil.copytree(loop, tmp_path / "copy", copy_function=shutil.copyfile)
    assert make(tmp_path / "copy", []) == []
    (tmp_path / "copy" / "data" / "coord.npy").write_text("coordinated")
    (line,) = make(tmp_path / "copy", [])
    assert "settings or data have changed" in line


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


class Busy:
    """A submission in whose folder jobs of before still write, for some time."""

    submission_hash = "1d74eb76"

    def __init__(self, times):
        self.times, self.tried = times, 0

    def clean_jobs(self):
        self.tried += 1
        if self.tried <= self.times:
            raise FileNotFoundError(2, "No such file or directory", "attempt.bcca9769")


@pytest.mark.parametrize("times", [0, 2, 99])
def test_what_is_left_where_tasks_ran_is_no_failure(monkeypatch, caplog, times):
    monkeypatch.setattr(dispatcher, "PAUSE", 0.0)
    # DPDispatcher, once imported, writes to a file and passes nothing on.
    monkeypatch.setattr(logging.getLogger("dpdispatcher"), "handlers", [caplog.handler])
    submission = Busy(times)
    dispatcher._clean(submission)
    assert submission.tried == min(times + 1, dispatcher.CLEANINGS)
    is_left = times >= dispatcher.CLEANINGS
    assert ("1d74eb76 is left there" in caplog.text) == is_left
