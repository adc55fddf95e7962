# SPDX-License-Identifier: LGPL-3.0-or-later
"""Sides of a comparison: processes that do what they are asked for, all in turn."""

import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models import HERE, threads_in_environment
from tqdm import tqdm

# What NumPy's products, the measure of a machine, are to use.
CORE_OF_BLAS = {"avx2": "Haswell", "avx512": "SkylakeX"}
FLAGS = {"avx2": "avx2", "avx512": "avx512f"}


@dataclass
class Setting:
    """What the processes of a comparison have in common."""

    threads: int
    isa: str

    def notes(self) -> dict[str, Any]:
        """Return what a table says of it."""
        return {"threads": self.threads, "isa": self.isa}


class Side:
    """A process of its own.

    Parameters
    ----------
    setting
        Threads and instruction set.
    builtin
        Whether DeePMD-kit's own se_a_mask is at work.
    kernels
        Another build of the kernels, a file or a package.
    """

    def __init__(
        self, setting: Setting, builtin: bool = False, kernels: Path | None = None
    ) -> None:
        environment = threads_in_environment(setting.threads) | {
            "DP_MASK": "builtin" if builtin else "",
            "DP_MASK_ISA": setting.isa,
            "OPENBLAS_CORETYPE": CORE_OF_BLAS[setting.isa],
            "DP_MASK_BENCHMARK_KERNELS": str(kernels.resolve()) if kernels else "",
        }
        self.folder = tempfile.TemporaryDirectory()  # where training puts its files
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py")],
            env=environment,
            cwd=self.folder.name,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def ask(self, do: str, **request: Any) -> Any:
        """Return the answer of a method of worker.Worker."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps({"do": do, **request}), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            self.log.seek(0)
            raise RuntimeError(self.log.read()[-3000:])
        return json.loads(answer)

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.folder.cleanup()


@dataclass
class Job:
    """Work that is compared: a row of a table.

    Attributes
    ----------
    notes
        What the table says of it.
    requests
        For each column, the name of a side and what it is asked for.
    """

    notes: dict[str, Any]
    requests: dict[str, tuple[str, dict[str, Any]]]


def in_turn(
    sides: dict[str, Side], jobs: list[Job], rounds: int, seconds: float, name: str
) -> list[dict[str, Any]]:
    """Time jobs, all in turn, round after round, so that a busy machine slows all of them.

    Returns
    -------
    list of dict
        A row for each job: its notes, and the median of each column in ms; a list of such where
        the answer has several numbers for each repetition.
    """
    found: list[dict[str, list]] = [{column: [] for column in job.requests} for job in jobs]
    turns = list(itertools.product(range(rounds), range(len(jobs))))
    for _, k in tqdm(turns, desc=name):
        for column, (side, request) in jobs[k].requests.items():
            found[k][column] += sides[side].ask(**request, seconds=seconds)
    rows = []
    for job, answers in zip(jobs, found, strict=True):
        row = dict(job.notes)
        for column, values in answers.items():
            if isinstance(values[0], list):
                row[column] = [1e3 * statistics.median(part) for part in zip(*values, strict=True)]
            else:
                row[column] = 1e3 * statistics.median(values)
        rows.append(row)
    return rows


def instruction_sets() -> list[str]:
    """Return which of those that the kernels are compiled for, besides the oldest, are here."""
    flags = _of_processor().get("flags", "").split()
    return [name for name, flag in FLAGS.items() if flag in flags]


def machine() -> dict[str, Any]:
    """Return what the processor is called, and what it has."""
    fields = _of_processor()
    name = fields.get("model name", platform.machine())
    return {"processor": " ".join([name, *instruction_sets()]), "cores": os.cpu_count()}


def _of_processor() -> dict[str, str]:
    """Return what Linux knows of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = (line.split(":", 1) for line in lines if ":" in line)
    return {name.strip(): value.strip() for name, value in fields}
