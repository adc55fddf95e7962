# SPDX-License-Identifier: LGPL-3.0-or-later
"""Where a loop stands: a table of iterations, and a figure."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.writer import put_in_place
from .config import Loop, read
from .select import DEVIATIONS, SHARES
from .tasks import RESULT, STAGES, TASK

_COLUMNS = ("iteration", "explored", *SHARES, "labelled", "failed labels", "steps", "force error",
            "deviation", "time")  # fmt: skip


FORMS = ("png", "pdf", "svg")


@dataclass(frozen=True)
class Status:
    """Where a loop stands.

    Attributes
    ----------
    loop
        The loop.
    iterations
        For each iteration that has begun, the summaries of its complete stages by name.
    doing
        What is done, or is to be done next.
    """

    loop: Loop
    iterations: list[dict[str, dict[str, Any]]]
    doing: str

    def as_json(self) -> str:
        """Return all of it."""
        return json.dumps({"iterations": self.iterations, "doing": self.doing}, indent=2)

    def as_text(self) -> str:
        """Return a table, and what comes next."""
        rows = [_COLUMNS, *(_row(k, stages) for k, stages in enumerate(self.iterations))]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
            for row in rows
        ]
        units = "force error and deviation of preferred atoms in held-out frames, in eV/Å"
        return "\n".join([*lines, f"({units})", self.doing])

    def draw(self, path: Path) -> None:
        """Draw the deviations, the shares and the errors by iteration.

        Raises
        ------
        ValueError
            If nothing has been selected yet, or the file is no figure by its suffix.
        """
        from .figure import draw  # noqa: PLC0415  Matplotlib takes its time

        form = path.suffix.removeprefix(".")
        if form not in FORMS:
            raise ValueError(f"{path} is no figure; give it the suffix .png, .pdf or .svg")
        deviations = {}
        for iteration, stages in enumerate(self.iterations):
            file = self.loop.stage(iteration, "select").folder / DEVIATIONS
            if "select" in stages and file.exists():
                values = np.load(file)
                if np.isfinite(values).any():
                    deviations[iteration] = values[np.isfinite(values)]
        judged = {
            k: stages["judge"] for k, stages in enumerate(self.iterations) if "judge" in stages
        }
        if not deviations and not judged:
            raise ValueError("there is nothing to draw yet: no iteration has models")
        select = self.loop.config["select"]
        with put_in_place(path, overwrite=True, folder=False) as part:
            draw(part, form, deviations, judged, (select["trust_lo"], select["trust_hi"]))


def status(folder: Path) -> Status:
    """Find where the loop in a folder stands."""
    loop = read(folder)
    iterations: list[dict[str, dict[str, Any]]] = []
    for number in range(loop.config["iterations"]):
        stages = {name: loop.stage(number, name) for name in STAGES}
        done = {name: stage.summary for name, stage in stages.items() if stage.is_complete}
        next_one = next((name for name in STAGES if name not in done), None)
        if not done and not stages[STAGES[0]].partial.exists():
            return Status(loop, iterations, f"iteration {number} is next; run `dp-mask learn run`")
        iterations.append(done)
        if next_one is not None:
            return Status(loop, iterations, _doing(number, next_one, stages[next_one].partial))
        if done["judge"]["converged"]:
            return Status(loop, iterations, f"converged in iteration {number}")
    return Status(loop, iterations, "all iterations are done, and it has not converged")


def _doing(iteration: int, name: str, partial: Path) -> str:
    """Return how far a stage is."""
    tasks = [path.parent for path in partial.glob(f"[0-9]*/{TASK}")]
    done = sum((task / RESULT).exists() for task in tasks)
    failed = sum(any(task.glob("failed.*")) and not (task / RESULT).exists() for task in tasks)
    text = f"iteration {iteration}, {name}: {done} of {len(tasks)} tasks done"
    return text + (f", {failed} failed; their logs are in {partial}" if failed else "")


def _row(iteration: int, stages: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    judge, select = stages.get("judge", {}), stages.get("select", {})
    label, train = stages.get("label", {}), stages.get("train", {})
    explored = select.get("frames")
    shares = [_share(select.get(name), explored) for name in SHARES]
    if judge and judge["accurate"] is None:
        shares = ["-"] * len(SHARES)
    seconds = sum(summary["seconds"] for summary in stages.values())
    cells = [iteration, explored, *shares, _total(label), label.get("failed"), train.get("steps")]
    cells += [
        _number(judge.get("force_error")),
        _number(judge.get("deviation")),
        f"{seconds:.0f} s",
    ]
    return tuple("-" if cell is None else str(cell) for cell in cells)


def _total(label: dict[str, Any]) -> int | None:
    return label["labelled"] + label["held_out"] if label else None


def _share(number: int | None, of: int | None) -> str:
    return f"{100 * number / of:.1f} %" if of and number is not None else "-"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
