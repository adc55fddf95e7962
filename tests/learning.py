# SPDX-License-Identifier: LGPL-3.0-or-later
"""Small loops of ``dp-mask learn``, and how they are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import forks
import yaml
from helpers import LIMITS, tail

from deepmd_mask.learning import config
from deepmd_mask.learning.example import init
from deepmd_mask.learning.files import write_json
from deepmd_mask.learning.frames import write_frames

DP_MASK = [sys.executable, "-c", "from deepmd_mask.cli import main; main()"]
KILLING = Path(__file__).parent / "killing"
# What makes the example that `init` writes run in seconds.
TINY = {
    "models": 2,
    "iterations": 2,
    "workers": 1,
    "explore": {"tasks": 2, "options": {"steps": 15, "interval": 3}},
    "select": {"trust_lo": 0.001, "trust_hi": 10.0, "frames": 3, "held_out_frames": 1},
    "train": {"reuse_numb_steps": 2},
}


def write(folder, **changes):
    """Write the example to a folder, made tiny, and change more of its learn.yaml."""
    init(folder)
    shrink(folder, **changes)
    return folder


def shrink(folder, **changes):
    """Make the example in a folder tiny, and change more of its learn.yaml."""
    config = yaml.safe_load((folder / "learn.yaml").read_text())
    for more in (TINY, changes):
        _update(config, more)
    (folder / "learn.yaml").write_text(yaml.safe_dump(config))
    script = json.loads((folder / "input.json").read_text())
    script["training"].update(numb_steps=4, disp_freq=1)
    script["model"]["descriptor"].update(neuron=[4, 8], axis_neuron=4)
    script["model"]["fitting_net"].update(neuron=[8])
    (folder / "input.json").write_text(json.dumps(script))


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


def changed_input(folder, section, **changes):
    """Change a section of the input in a folder."""
    script = json.loads((folder / "input.json").read_text())
    script[section] |= changes
    (folder / "input.json").write_text(json.dumps(script))


def _update(config, more):
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(config.get(name), dict):
            _update(config[name], value)
        else:
            config[name] = value


def learn(folder, *arguments, kill=None, status=0, environment=None):
    """Run `dp-mask learn` in a folder and return what it printed.

    Parameters
    ----------
    folder
        Of the loop.
    arguments
        Of the command.
    kill
        The moment at which it is killed, see killing/sitecustomize.py; the processes that it has
        started must end, too.
    status
        The exit status that is expected.
    environment
        In the place of that of the tests.
    """
    environment = {**(environment or os.environ), **forks.environment()}
    if kill is not None:
        environment |= {"DPMASK_TEST_KILL": kill, "PYTHONPATH": str(KILLING)}
        status = -signal.SIGKILL
    done = subprocess.run(
        [*DP_MASK, "learn", *arguments],
        cwd=folder,
        env=environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **LIMITS,
    )
    assert done.returncode == status, tail(done.stdout, 40) + logs(folder)
    return done.stdout


def logs(folder):
    """Return the ends of the logs of all tasks that are not complete."""
    found = sorted(folder.glob("iter.*/*.partial/*/log"))
    return "".join(f"\n-- {path}\n{tail(path.read_text(), 15)}" for path in found)


def wait_for_end_in(folder):
    """Wait until no process works in a folder."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        busy = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if Path(os.readlink(process / "cwd")).is_relative_to(folder):
                    busy.append(process.name)
            except OSError:
                continue
        if not busy:
            return
        time.sleep(0.1)
    raise AssertionError(f"processes {busy} still work in {folder}")


def task_folder(tmp_path, stage, settings, **inputs):
    """Make the folder of a task."""
    folder = tmp_path / stage / "000"
    folder.mkdir(parents=True)
    (tmp_path / stage / "common").mkdir()
    for name, frames in inputs.items():
        write_frames(folder / f"{name}.xyz", frames)
    nothing = {"committee": [], "task": 0, "seed": 0, "options": {}}
    write_json(folder / "task.json", {"settings": {**nothing, **settings}, "inputs": []})
    return folder
