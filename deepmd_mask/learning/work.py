# SPDX-License-Identifier: LGPL-3.0-or-later
"""What runs a task, on this machine or on another: in its folder, with the stage's name."""

import importlib
import os
import re
import shutil
import sys
import traceback
import uuid
from pathlib import Path

import click

from ..shared.reason import reason_of
from .files import list_files, put_folder_in_place, read_json, write_json
from .processes import CommandError, end_with
from .tasks import COMMON, FAILURE, RESULT, STAGES, TASK, Task


@click.command(hidden=True)
@click.argument("stage", type=click.Choice(STAGES))
@click.option("--parent", type=int, help="Process that this one ends with.")
@click.option("--attempt", type=int, help="Number of the submission; for DPDispatcher alone.")
def task(stage: str, parent: int | None, attempt: int | None) -> None:
    """Run the task in this folder; `dp-mask learn run` calls this."""
    if parent is not None:
        end_with(parent)
    os.dup2(1, 2)  # one log
    folder = Path.cwd()
    work(stage, folder)


def work(stage: str, folder: Path) -> None:
    """Run a task; what it raises is a result, too, with the reason.

    Parameters
    ----------
    stage
        Its name.
    folder
        Of the task.
    """
    if (folder / RESULT).exists():
        return
    result = folder / f"attempt.{uuid.uuid4().hex[:8]}"
    result.mkdir()
    common, log = (folder.parent / COMMON).resolve(), folder / "log"
    begins = log.stat().st_size if log.exists() else 0  # after what attempts before have left
    sys.path.insert(0, str(common))  # the user's modules
    content = read_json(folder / TASK)
    try:
        settings = content["settings"]
        run = importlib.import_module(f"{__package__}.{stage}").work
        run(Task(folder, common, result, settings))
    except Exception as error:
        reason = f"{type(error).__name__}: {reason_of(error)}"
        if isinstance(error, CommandError):
            reason += _last_error(log, begins)
        traceback.print_exc()
        write_json(result / FAILURE, {"reason": reason})
    sys.stdout.flush()
    if read_json(folder / TASK) != content:  # a job of a queue that is not what is asked any more
        print("settings have changed since it began; this result does not count")
        shutil.rmtree(result)
        return
    list_files(result)  # a queue may bring half of it back
    try:
        put_folder_in_place(result, folder / RESULT)
    except OSError:
        if not (folder / RESULT).exists():
            raise
        shutil.rmtree(result)  # another process was faster, with the same


def _last_error(log: Path, begins: int) -> str:
    """Return, as the end of a sentence, the last exception that a command has put into the log."""
    text = log.read_bytes()[begins:].decode(errors="replace") if log.exists() else ""
    found = re.findall(r"^(?:\w+\.)*\w*(?:Error|Exception): .+$", text, re.MULTILINE)
    return f", after {found[-1]}" if found else ""


if __name__ == "__main__":
    task()
