# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tasks through DPDispatcher: Slurm, PBS, LSF, SSH, a shell."""

import json
import logging
import os
import shlex
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from dargs.dargs import ArgumentError

from ..shared.missing import MissingError
from ..shared.reason import reason_of
from .files import digest, read_json, write_json
from .processes import threads_of
from .tasks import COMMON, RESULT, TASK

SUBMITTED = "submitted.json"
CLEANINGS, PAUSE = 5, 1.0  # how often it is tried, and seconds between


def require(folder: Path) -> ModuleType:
    """Return DPDispatcher, which logs to dpdispatcher.log in a folder and nowhere else.

    Raises
    ------
    MissingError
        If it is not installed.
    """
    here = os.getcwd()
    try:
        os.chdir(folder)  # where it is imported it begins its log
        import dpdispatcher  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingError(
            f"machine needs DPDispatcher, and {error.name} is not installed: "
            'pip install "deepmd-mask[learn]"',
            name=error.name,
        ) from error
    finally:
        os.chdir(here)
    log = logging.getLogger("dpdispatcher")
    for handler in list(log.handlers):
        if not isinstance(handler, logging.FileHandler):
            log.removeHandler(handler)
    return dpdispatcher


def require_known(
    stage: str,
    machine: dict[str, Any],
    resources: dict[str, Any],
    files: dict[str, str],
    root: Path,
) -> None:
    """Refuse machine and resources that DPDispatcher would not take, when a stage comes to them.

    Parameters
    ----------
    stage
        Its name.
    machine, resources
        As for `execute`.
    files
        That say "machine" and "resources".
    root
        Of the loop.

    Raises
    ------
    ValueError
        Naming file, stage and argument.
    """
    dpdispatcher = require(root)
    kinds = dpdispatcher.Machine.subclasses_dict
    for part, given, base in (
        ("machine", {**machine, "local_root": str(root)}, dpdispatcher.Machine.arginfo()),
        ("resources", resources, dpdispatcher.Resources.arginfo("batch_type" in resources)),
    ):
        begin = f"{files[part]}, {part} of {stage}"
        try:
            base.check_value(base.normalize_value(given, trim_pattern="_*"), strict=False)
        except ArgumentError as error:
            raise ValueError(f"{begin}: {reason_of(error)}") from error
        if part == "machine" and given["batch_type"] not in kinds:
            raise ValueError(
                f"{begin}: batch_type is {given['batch_type']}; DPDispatcher has "
                f"{', '.join(sorted({kind.__name__ for kind in kinds.values()}))}"
            )


def execute(
    stage: str,
    machine: dict[str, Any],
    resources: dict[str, Any],
    poll: float,
    command: str | None,
    root: Path,
    folder: Path,
    names: list[str],
) -> None:
    """Submit the tasks of a stage and wait for them, or wait for those that were submitted.

    Parameters
    ----------
    stage
        Its name.
    machine, resources
        As DPDispatcher reads them; local_root of the machine is the folder of the loop.
    poll
        Seconds between looks at the queue.
    command
        How dp-mask is called where tasks run; None for this one where files are shared.
    root, folder
        Of the loop and of the stage.
    names
        Of the tasks that have no result.

    Raises
    ------
    RuntimeError
        Of DPDispatcher, if a job cannot be submitted or dies again and again.
    """
    dpdispatcher = require(root)
    submitted = _submitted(folder, names)
    # Else each process takes all cores of the machine that others use, too.
    envs = {**threads_of(resources.get("cpu_per_node", 1)), **resources.get("envs", {})}
    tasks = [
        dpdispatcher.Task(
            command=f"{command or _command_on(machine)} {stage} --attempt {submitted['number']}",
            task_work_path=name,
            forward_files=[TASK, *read_json(folder / name / TASK)["inputs"]],
            backward_files=[RESULT],
            outlog="log",
            errlog="err",
        )
        for name in submitted["tasks"]
    ]
    submission = dpdispatcher.Submission(
        work_base=os.path.relpath(folder, root),
        machine=dpdispatcher.Machine.load_from_dict({**machine, "local_root": str(root)}),
        resources=dpdispatcher.Resources.load_from_dict({**resources, "envs": envs}),
        forward_common_files=[COMMON],
        task_list=tasks,
    )
    try:
        submission.run_submission(check_interval=poll, clean=False)
    except (RuntimeError, FileNotFoundError) as error:
        _end(folder, submitted)  # the next one is to begin anew
        raise ValueError(
            f"DPDispatcher gave up on {os.path.relpath(folder)}: {error}\nIts own log is "
            f"{root / 'dpdispatcher.log'}. Run `dp-mask learn run` again when the cause is removed"
        ) from error
    _end(folder, submitted)
    _clean(submission)


def _clean(submission: Any) -> None:
    """Remove what a submission that is done has left where tasks run.

    Jobs of a loop that was killed may still write there, and be in the way.
    """
    for _ in range(CLEANINGS):
        try:
            submission.clean_jobs()
            return
        except (OSError, RuntimeError) as error:
            reason = reason_of(error)
        time.sleep(PAUSE)
    log = logging.getLogger("dpdispatcher")
    log.warning("%s is left there: %s", submission.submission_hash, reason)


def _command_on(machine: dict[str, Any]) -> str:
    """Return what runs a task: this Python, if that is where tasks run."""
    if "local" in str(machine.get("context_type", "")).lower():
        return f"{shlex.quote(sys.executable)} -m deepmd_mask.learning.work"
    return "dp-mask learn task"


def _submitted(folder: Path, names: list[str]) -> dict[str, Any]:
    """Return the number and the tasks of the submission that goes on, or of a new one.

    The same tasks and number mean the same submission to DPDispatcher, which then finds its jobs
    again. Another number makes it another one, so that nothing of a failed one counts, nor of one
    whose tasks had other settings, inputs or files.
    """
    found = read_json(folder / SUBMITTED) or {"number": -1, "tasks": [], "ended": True}
    if (
        not found["ended"]
        and set(names) <= set(found["tasks"])
        and found.get("asked") == _asked(folder, found["tasks"])
    ):
        return found
    asked = _asked(folder, names)
    found = {"number": found["number"] + 1, "tasks": names, "asked": asked, "ended": False}
    write_json(folder / SUBMITTED, found)
    return found


def _asked(folder: Path, names: list[str]) -> str:
    """Return a digest of what tasks are to do, with what and by which files."""
    tasks = [read_json(folder / name / TASK) for name in names]
    return digest(json.dumps(tasks, sort_keys=True).encode())


def _end(folder: Path, submitted: dict[str, Any]) -> None:
    write_json(folder / SUBMITTED, {**submitted, "ended": True})
