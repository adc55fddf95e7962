# SPDX-License-Identifier: LGPL-3.0-or-later
"""Stages as folders of tasks: prepared, run, kept.

A stage is made in ``NAME.partial`` and gets its name when all is there. In it, ``common`` has what
all tasks need, and each task has a folder of its own, ``000`` and so on: ``task.json`` says what is
to be done, ``log`` what was printed. A task computes in ``attempt.…``, which becomes ``result`` at
its end. So two that do the same, as a cluster's queue may start them after a crash, do no harm.
"""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import bring, has_all_files, put_folder_in_place, read_json, to_disk, write_json

STAGES = ("explore", "select", "label", "pack", "train", "judge")
COMMON, RESULT = "common", "result"
LAST = "last"  # what the same task has left in the last iteration, among its inputs
TASK, FAILURE, SUMMARY = "task.json", "failure.json", "stage.json"


@dataclass(frozen=True)
class Task:
    """What a task finds when it runs.

    Attributes
    ----------
    folder
        Its own, with its inputs.
    common
        What all tasks of the stage share: models, the user's files.
    result
        Where it writes.
    settings
        What `prepare` of the stage has said.
    """

    folder: Path
    common: Path
    result: Path
    settings: dict[str, Any]

    @property
    def committee(self) -> list[str]:
        """Return the frozen models, none in the beginning."""
        return [str(self.common / name) for name in self.settings["committee"]]


@dataclass(frozen=True)
class Order:
    """A task that is to be prepared.

    Attributes
    ----------
    settings
        What goes into its file.
    inputs
        Files and folders that it needs, by their names in the task's folder.
    """

    settings: dict[str, Any]
    inputs: dict[str, Path]


class TaskError(ValueError):
    """Tasks of a stage have failed."""


class Stage:
    """A stage of an iteration.

    Parameters
    ----------
    folder
        Where it is when it is complete.
    title
        What messages call it, as in "iteration 0, explore".
    """

    def __init__(self, folder: Path, title: str) -> None:
        self.folder, self.title = folder, title
        self.partial = folder.with_name(f"{folder.name}.partial")

    @property
    def is_complete(self) -> bool:
        """Return whether it is there."""
        return (self.folder / SUMMARY).exists()

    @property
    def summary(self) -> dict[str, Any]:
        """Return what the stage says of itself; nothing if it is not complete."""
        return read_json(self.folder / SUMMARY) or {}

    def make(
        self,
        wanted: Sequence[Order],
        own: dict[str, Path],
        common: dict[str, Path],
        execute: Callable[[Path, list[str]], None],
        collect: Callable[[Path, list[Path]], dict[str, Any]],
    ) -> dict[str, Any]:
        """Make the stage, or go on with what is there of it.

        Parameters
        ----------
        wanted
            Its tasks.
        own
            The user's files, by name. They are brought anew each time, so that a script that was
            mended after a failure serves what is still to be done.
        common
            What else all tasks share, by name.
        execute
            Runs tasks, given the folder of the stage and names of tasks.
        collect
            Makes of the results, given the folder and the tasks' results, what the next stages
            read, and says what is to be told.

        Returns
        -------
        dict
            The summary.

        Raises
        ------
        TaskError
            Naming the tasks that failed and their logs.
        """
        began = time.time()
        (self.partial / COMMON).mkdir(parents=True, exist_ok=True)
        for name, source in own.items():
            bring(source, self.partial / COMMON / name, linked=False)
        for name, source in common.items():
            bring(source, self.partial / COMMON / name)
        names = [f"{number:03d}" for number in range(len(wanted))]
        for name, task in zip(names, wanted, strict=True):
            _prepare(self.partial / name, task)
        for folder in self.partial.glob("[0-9]*"):
            if folder.name not in names:
                shutil.rmtree(folder)
        left = [name for name in names if not self._has_result(name)]
        earlier = read_json(self.partial / "seconds.json") or 0.0
        if left:
            try:
                execute(self.partial, left)
            finally:
                write_json(self.partial / "seconds.json", earlier + time.time() - began)
        self._require_success(names)
        results = [self.partial / name / RESULT for name in names]
        summary = {
            **collect(self.partial, results),
            "tasks": len(names),
            "seconds": round(earlier + time.time() - began, 1),
        }
        write_json(self.partial / SUMMARY, summary)
        for attempt in self.partial.glob("[0-9]*/attempt.*"):  # of processes that were killed
            shutil.rmtree(attempt, ignore_errors=True)
        put_folder_in_place(self.partial, self.folder)
        return summary

    def _has_result(self, name: str) -> bool:
        """Return whether a task has a result; remove half of one."""
        result = self.partial / name / RESULT
        if result.exists() and not has_all_files(result):
            shutil.rmtree(result)
        return result.exists()

    def _require_success(self, names: list[str]) -> None:
        """Put the results of failed tasks aside, and refuse to go on."""
        reasons = {}
        for name in names:
            folder = self.partial / name
            failure = read_json(folder / RESULT / FAILURE)
            if failure is not None:
                _put_aside(folder / RESULT, folder)
                reasons[name] = failure["reason"]
            elif not self._has_result(name):
                reasons[name] = "it ended without a result"
        if reasons:
            where = os.path.relpath(self.partial)
            shown = [
                f"  task {name}: {reason}\n    its log: {where}/{name}/log"
                for name, reason in reasons.items()
            ]
            raise TaskError(
                f"{self.title}: {len(reasons)} of {len(names)} tasks failed\n"
                + "\n".join(shown[:10])
                + (f"\n  and {len(shown) - 10} more" if len(shown) > 10 else "")
                + "\nRemove the cause and run `dp-mask learn run` again: tasks that have finished "
                "are kept, the others begin anew"
            )


def _put_aside(result: Path, folder: Path) -> None:
    os.rename(result, folder / f"failed.{len(list(folder.glob('failed.*')))}")


def _prepare(folder: Path, task: Order) -> None:
    """Make the folder of a task, unless it is there for the same task."""
    content = {"settings": task.settings, "inputs": sorted(task.inputs)}
    if read_json(folder / TASK) == content:
        return
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    for name, source in task.inputs.items():
        bring(source, folder / name)
    to_disk(folder)
    write_json(folder / TASK, content)  # last: with it, all is there
