# SPDX-License-Identifier: LGPL-3.0-or-later
"""The stage label: energies and forces of what was selected, by the user's levels of theory.

Frames are labelled one after the other by a process of their own. Each label is kept when it is
there, and a frame that ends the process, as a program's crash does, is put aside like one whose
calculator raises.
"""

import os
import sys
from pathlib import Path
from typing import Any

from . import levels, train
from .config import Loop
from .files import read_json, write_json
from .frames import read_frames, write_frames
from .processes import run
from .tasks import KEPT, Order, Task, TaskError

LABELLED, HELD_OUT, FAILED = "labelled.xyz", "held_out.xyz", "failed.xyz"
NOW = "now.json"
_INPUTS = ("candidates.xyz", "held_out.xyz")


def prepare(loop: Loop, iteration: int) -> list[Order]:
    """Return tasks of so many frames each."""
    selected = loop.stage(iteration, "select")
    counts, label = selected.summary, loop.config["label"]
    number = counts["chosen"] + counts["held_out"]
    wanted = {key: label[key] for key in ("levels", "largest_force") if key in label}
    inputs = {name: selected.folder / name for name in _INPUTS}
    size = label["frames_per_task"]
    return [
        Order({**wanted, "frames": [first, min(first + size, number)]}, inputs)
        for first in range(0, number, size)
    ]


def work(task: Task) -> None:
    """Label the task's frames, each unless that has been done."""
    levels.load(task.settings["levels"], task.common)  # what is wrong with all is said at once
    kept = task.folder / KEPT
    kept.mkdir(exist_ok=True)
    frames = frames_of(task)
    left = _left(kept, len(frames))
    while left:
        command = [sys.executable, "-m", "deepmd_mask.learning.labelling"]
        (kept / NOW).unlink(missing_ok=True)
        status = run([*command, str(task.folder), str(task.common)], cwd=kept)
        left = _left(kept, len(frames))
        if left:
            _blame(kept, left, status)
            left = _left(kept, len(frames))
    _sort(task, frames)


def frames_of(task: Task) -> "list[tuple[str, Any]]":
    """Return the task's frames: the file that each is of, and its atoms."""
    first, last = task.settings["frames"]
    every = [(name, atoms) for name in _INPUTS for atoms in read_frames(task.folder / name)]
    return every[first:last]


def kept_label(kept: Path, number: int) -> Path:
    """Return where the label of a frame is kept."""
    return kept / f"{number:04d}.xyz"


def kept_reason(kept: Path, number: int) -> Path:
    """Return where it is kept why a frame has no label."""
    return kept / f"{number:04d}.json"


def _left(kept: Path, number: int) -> list[int]:
    """Return the frames without label and reason."""
    both = kept_label, kept_reason
    return [k for k in range(number) if not any(where(kept, k).exists() for where in both)]


def _blame(kept: Path, left: list[int], status: int) -> None:
    """Put the frame aside that was being labelled when the process ended.

    Raises
    ------
    RuntimeError
        If no frame was.
    """
    how = f"by signal {-status}" if status < 0 else f"with status {status}"
    now = read_json(kept / NOW)
    if now not in left:
        raise RuntimeError(f"the process that labels ended {how} before the first frame")
    write_json(kept_reason(kept, now), {"reason": f"the process that labelled it ended {how}"})


def _sort(task: Task, frames: "list[tuple[str, Any]]") -> None:
    """Write the frames with labels, and those without with the reason."""
    labelled: dict[str, list] = {LABELLED: [], HELD_OUT: [], FAILED: []}
    for number, (name, atoms) in enumerate(frames):
        failure = read_json(kept_reason(task.folder / KEPT, number))
        if failure is not None:
            atoms.info["reason"] = failure["reason"]
            labelled[FAILED].append(atoms)
            print(f"frame {number}: {failure['reason']}")
        else:
            (found,) = read_frames(kept_label(task.folder / KEPT, number))
            labelled[LABELLED if name == _INPUTS[0] else HELD_OUT].append(found)
    for name, some in labelled.items():
        write_frames(task.result / name, some)


def collect(loop: Loop, iteration: int, folder: Path, results: list[Path]) -> dict[str, Any]:
    """Bring the tasks' frames together."""
    counts: dict[str, Any] = {}
    for name in (LABELLED, HELD_OUT, FAILED):
        frames = [atoms for result in results for atoms in read_frames(result / name)]
        write_frames(folder / name, frames)
        counts[name.partition(".")[0]] = len(frames)
    chosen = loop.stage(iteration, "select").summary["chosen"]
    # Where none was chosen, or there is something to train with, the loop goes on.
    can_go_on = not chosen or (counts["held_out"] and train.systems(loop, iteration - 1, "train"))
    if counts["failed"] and not counts["labelled"] and not can_go_on:
        reason = read_frames(folder / FAILED)[0].info["reason"]
        raise TaskError(
            f"iteration {iteration}, label: none of {chosen} candidates could be labelled; the "
            f"first frame that failed: {reason}\nRemove the cause and {os.path.relpath(folder)}, "
            "and run `dp-mask learn run` again"
        )
    return {**counts, "levels": loop.config["label"]["levels"]} if results else counts


def line(summary: dict[str, Any]) -> str:
    """Return what is to be told."""
    failed = f", {summary['failed']} failed" if summary["failed"] else ""
    return f"{summary['labelled']} labelled, {summary['held_out']} held out{failed}"
