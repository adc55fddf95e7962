# SPDX-License-Identifier: LGPL-3.0-or-later
"""Processes that end with the one that started them."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

# What libraries read of it: OpenMP (tblite), BLAS, DeePMD-kit, OpenMM.
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "DP_INTRA_OP_PARALLELISM_THREADS",
    "OPENMM_CPU_THREADS",
)
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


def end_with(parent: int) -> None:
    """Let this process be killed when its parent, of this number, ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before
        os._exit(1)


def run(command: str | Sequence[str], **options: Any) -> int:
    """Run a command, of a shell if it is a text, and return its exit status.

    It ends with this process. Options are those of `subprocess.Popen`.
    """
    parent = os.getpid()
    return subprocess.run(
        command,
        shell=isinstance(command, str),
        check=False,
        preexec_fn=lambda: end_with(parent),
        **options,
    ).returncode


class CommandError(RuntimeError):
    """A command has failed."""


def run_or_raise(command: str | Sequence[str], **options: Any) -> None:
    """Run a command as `run` does.

    Raises
    ------
    CommandError
        Naming it, if it fails.
    """
    status = run(command, **options)
    if status:
        shown = command if isinstance(command, str) else " ".join(command)
        how = f"ended with status {status}" if status > 0 else f"was ended by signal {-status}"
        raise CommandError(f"{shown} {how}")


def threads_of(number: int) -> dict[str, str]:
    """Return the environment of a process that is to use so many cores."""
    return {**dict.fromkeys(THREADS, str(number)), "DP_INTER_OP_PARALLELISM_THREADS": "1"}


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
