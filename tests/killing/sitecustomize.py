# SPDX-License-Identifier: LGPL-3.0-or-later
"""Kills a loop at a moment that DPMASK_TEST_KILL names; Python imports this when it starts.

The moment is STAGE:EVENT, or STAGE:EVENT:TASK for one task. The event "whole" is that before the
stage gets its name, "begun" that before a task of it starts DeePMD-kit, "submitted" that between a
submission and the record of it, and any other is the name of a file or folder that a task is about
to put in place. Who meets it kills the loop and itself. That all else ends, too, is what is tested,
so that only DeePMD-kit, which tasks start, may be a fork.
"""

import os
import runpy
import signal
import sys
from pathlib import Path

STAGE, EVENT, NUMBER, *_ = f"{os.environ.get('DPMASK_TEST_KILL', '')}:::".split(":")
TASK = "deepmd_mask.learning.work"


def _die(loop=None):
    if loop is not None:
        os.kill(loop, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _watch(event, arguments):
    if event == "subprocess.Popen" and EVENT == "begun" and "deepmd" in str(arguments):
        if _is_task():
            _die(os.getppid())
        return
    if event != "os.rename":
        return
    target = Path(os.fsdecode(arguments[1]))
    if _is_task() and target.name == EVENT:
        _die(os.getppid())
    if not _is_task() and EVENT == "whole" and target.name == STAGE:
        _die()
    stem = target.stem
    if not _is_task() and EVENT == "submitted" and target.suffix == ".json" and len(stem) == 40:
        _die()  # a loop's first submission


def _is_task():
    is_one = TASK in sys.orig_argv and STAGE in sys.orig_argv
    return is_one and NUMBER in ("", Path.cwd().name)


if STAGE:
    sys.addaudithook(_watch)
if "deepmd.main" in str(sys.orig_argv[1:3]) and "DPMASK_TEST_FORKS" in os.environ:
    runpy.run_path(str(Path(__file__).parent.parent / "forking" / "sitecustomize.py"))
