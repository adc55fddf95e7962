# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tasks as processes of this machine, on all its cores."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tqdm import tqdm

from .processes import cores, started, threads_of


def execute(stage: str, workers: int | None, folder: Path, names: list[str]) -> None:
    """Run tasks of a stage.

    Parameters
    ----------
    stage
        Its name.
    workers
        How many run at once; None for as many as there are cores. Those that run share the cores.
    folder
        Of the stage.
    names
        Of the tasks.
    """
    at_once = min(workers or cores(), len(names))
    environment = {**threads_of(max(1, cores() // at_once)), **os.environ}
    running: set[subprocess.Popen] = set()
    with ThreadPoolExecutor(at_once) as pool:
        one = partial(_execute_one, stage, folder, environment, running)
        try:
            # A bar if there is a terminal, which goes when the line of the stage comes.
            bar = tqdm(total=len(names), desc=stage, unit="task", leave=False, disable=None)
            with bar:
                for _ in pool.map(one, names):
                    bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.kill()
            raise


def _execute_one(
    stage: str, folder: Path, environment: dict[str, str], running: set, name: str
) -> None:
    command = [sys.executable, "-m", "deepmd_mask.learning.work", stage]
    command += ["--parent", str(os.getpid())]
    where = {"cwd": folder / name, "env": environment, "stdin": subprocess.DEVNULL}
    with (
        (folder / name / "log").open("a") as log,
        started(command, **where, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        running.add(process)
        process.wait()
        running.discard(process)
