# SPDX-License-Identifier: LGPL-3.0-or-later
"""Stages as folders of tasks: prepared, run, kept.

A stage is made in ``NAME.partial`` and gets its name when all is there. In it, ``common`` has what
all tasks need, and each task has a folder of its own, ``000`` and so on: ``task.json`` says what is
to be done, ``log`` what was printed. A task computes in ``attempt.…``, which becomes ``result`` at
its end. So two that do the same, as a cluster's queue may start them after a crash, do no harm.
What a task has finished by settings that have changed since is in ``aside``.
"""

import itertools
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import (
    bring,
    contents,
    has_all_files,
    put_folder_in_place,
    read_json,
    to_disk,
    write_json,
)

STAGES = ("explore", "select", "label", "pack", "train", "judge")
COMMON, RESULT, ASIDE = "common", "result", "aside"
KEPT = "kept"  # what of a task's work is of use before it has its result
LAST = "last"  # what the same task has left in the last iteration, among its inputs
TASK, FAILURE, SUMMARY = "task.json", "failure.json", "stage.json"
FILES = "files"  # of a task's file: contents of the user's files, by name
COLLECTING = "collecting.json"  # what was there before results were collected


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
        tell: Callable[[str], object] = print,
    ) -> dict[str, Any]:
        """Make the stage, or go on with what is there of it.

        Parameters
        ----------
        wanted
            Its tasks.
        own
            The user's files, by name. They are brought anew each time, so that a script that was
            mended after a failure serves what is still to be done. What was done before stays.
        common
            What else all tasks share, by name.
        execute
            Runs tasks, given the folder of the stage and names of tasks.
        collect
            Makes of the results, given the folder and the tasks' results, what the next stages
            read, and says what is to be told.
        tell
            Is called with a line if work that was finished is put aside, or is by other files.

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
        self._forget_collected()
        (self.partial / COMMON).mkdir(parents=True, exist_ok=True)
        for name, source in own.items():
            bring(source, self.partial / COMMON / name, linked=False)
        for name, source in common.items():
            bring(source, self.partial / COMMON / name)
        names = [f"{number:03d}" for number in range(len(wanted))]
        self._prepare(dict(zip(names, wanted, strict=True)), own, common, tell)
        left = [name for name in names if not self._has_result(name)]
        earlier = read_json(self.partial / "seconds.json") or 0.0
        if left:
            try:
                execute(self.partial, left)
            finally:
                write_json(self.partial / "seconds.json", earlier + time.time() - began)
        self._require_success(names)
        results = [self.partial / name / RESULT for name in names]
        write_json(self.partial / COLLECTING, os.listdir(self.partial))
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

    def _forget_collected(self) -> None:
        """Remove what was collected before a kill; by now it may be of other tasks."""
        before = read_json(self.partial / COLLECTING)
        if before is None:
            return
        for path in self.partial.iterdir():
            if path.name not in (*before, COLLECTING):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        (self.partial / COLLECTING).unlink()

    def _prepare(
        self,
        wanted: dict[str, Order],
        own: dict[str, Path],
        common: dict[str, Path],
        tell: Callable[[str], object],
    ) -> None:
        """Make the folders of tasks, unless they are there for the same tasks."""
        files = {name: contents(path) for name, path in own.items()}
        shared = self._sources(common)  # read once for all tasks
        wanted_now = {
            name: {
                "settings": task.settings,
                "inputs": sorted(task.inputs),
                "sources": {**shared, **self._sources(task.inputs)},
                FILES: files,
            }
            for name, task in wanted.items()
        }
        aside = self.partial / ASIDE
        moved = 0
        for folder in sorted(self.partial.glob("[0-9]*")):
            if not folder.is_dir():
                continue
            if _but_files(read_json(folder / TASK)) == _but_files(wanted_now.get(folder.name, {})):
                continue
            if (folder / RESULT).exists() or (folder / KEPT).exists():
                aside.mkdir(exist_ok=True)
                _rename_to_next(folder, aside / folder.name)
                moved += 1
            else:
                shutil.rmtree(folder)
        if moved:
            tell(
                f"{self.title}: settings or data have changed; what {moved} tasks had finished by "
                f"those of before is in {os.path.relpath(aside)}, and is taken up if they come back"
            )
        for name, task in wanted.items():
            if not (self.partial / name).exists():
                content = _but_files(wanted_now[name])
                olds = sorted(aside.glob("*"))
                same = (old for old in olds if _but_files(read_json(old / TASK)) == content)
                _make_folder(self.partial / name, task, wanted_now[name], next(same, None))
        self._tell_of_files(wanted_now, tell)

    def _sources(self, paths: dict[str, Path]) -> dict[str, list[str]]:
        """Return, by name, where files and folders are from, and a digest of their contents."""
        loop = self.folder.parents[1]
        return {name: [os.path.relpath(path, loop), contents(path)] for name, path in paths.items()}

    def _tell_of_files(
        self, wanted: dict[str, dict[str, Any]], tell: Callable[[str], object]
    ) -> None:
        """Tell which tasks have finished something by other files of the user's.

        It stays: who mends a script after a failure of one task wants the others' results.
        """
        kept, changed = [], set()
        for name, content in wanted.items():
            folder = self.partial / name
            before, now = read_json(folder / TASK)[FILES], content[FILES]
            if before == now:
                continue
            has_result = self._has_result(name)
            if has_result or (folder / KEPT).exists():
                kept.append(name)
                changed |= {file for file in {**before, **now} if before.get(file) != now.get(file)}
            if not has_result:
                write_json(folder / TASK, content)
        if kept:
            tell(
                f"{self.title}: {', '.join(sorted(changed))} changed; what tasks "
                f"{', '.join(kept)} had finished before stays. If it is not what it would be now, "
                f"remove their folders in {os.path.relpath(self.partial)} and run again"
            )

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
                _rename_to_next(folder / RESULT, folder / "failed")
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


def _but_files(content: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what makes a task the same task, whatever the user's files are by now."""
    return content and {name: value for name, value in content.items() if name != FILES}


def _rename_to_next(path: Path, target: Path) -> None:
    """Give a folder a name with the first number that is free."""
    names = (target.with_name(f"{target.name}.{number}") for number in itertools.count())
    os.rename(path, next(name for name in names if not name.exists()))


def _make_folder(folder: Path, task: Order, content: dict[str, Any], aside: Path | None) -> None:
    """Make the folder of a task, or take that which was put aside."""
    if aside is not None:
        os.rename(aside, folder)
        return
    folder.mkdir()
    for name, source in task.inputs.items():
        bring(source, folder / name)
    to_disk(folder)
    write_json(folder / TASK, content)  # last: with it, all is there
