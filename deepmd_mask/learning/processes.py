# SPDX-License-Identifier: LGPL-3.0-or-later
"""Processes that end with the one that started them."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
# Kills a group of processes, of the number that it is told, at the end of the pipe: when the
# process that holds the other end closes it, or ends, in whatever way.
_WATCH = "read -r group && ! read -r more && kill -s KILL -- -$group"


def end_with(parent: int) -> None:
    """Let this process be killed when its parent, of this number, ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before
        os._exit(1)


@contextmanager
def started(command: str | Sequence[str], **options: Any) -> Iterator[subprocess.Popen]:
    """Start a command, of a shell if it is a text, in a group of processes of its own.

    It and all that it starts end with the context, or with this process. Options are those of
    `subprocess.Popen`.
    """
    options |= {"shell": isinstance(command, str), "start_new_session": True}
    with subprocess.Popen(
        ["sh", "-c", _WATCH],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # not reached by what the terminal sends
    ) as watcher:
        assert watcher.stdin is not None
        process = subprocess.Popen(command, **options)
        try:
            watcher.stdin.write(b"%d\n" % process.pid)
            watcher.stdin.flush()
            yield process
        finally:
            watcher.stdin.close()
            process.wait()


def run(command: str | Sequence[str], **options: Any) -> int:
    """Run a command as `started` does, and return its exit status."""
    parent = os.getpid()
    with started(command, preexec_fn=lambda: end_with(parent), **options) as process:
        return process.wait()


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
