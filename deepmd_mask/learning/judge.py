# SPDX-License-Identifier: LGPL-3.0-or-later
"""The stage judge: how good the committee is, and whether that is enough."""

from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation import evaluate
from .config import Loop
from .files import read_json, write_json
from .select import SHARES
from .tasks import Order, Task
from .train import systems


def common(loop: Loop, iteration: int) -> dict[str, Path]:
    """Return the held-out systems by name."""
    return {f"test/{k:03d}": path for k, path in enumerate(systems(loop, iteration, "test"))}


def prepare(loop: Loop, iteration: int) -> list[Order]:
    """Return the one task."""
    settings = {
        "committee": [path.name for path in loop.models(iteration)],
        "test": list(common(loop, iteration)),
    }
    return [Order(settings, {})]


def work(task: Task) -> None:
    """Compare the committee with the labels of held-out frames."""
    paths = [str(task.common / name) for name in task.settings["test"]]
    write_json(task.result / "errors.json", errors(task.committee, paths))


def errors(committee: list[str], paths: list[str]) -> dict[str, Any]:
    """Return the errors of a committee on systems.

    Returns
    -------
    dict
        test_frames, their number; force_error, the root mean square error of force components of
        preferred atoms, eV/Å; deviation, the root mean square of the deviation of these atoms'
        forces, divided by sqrt(3) so that it is of components, too; energy_error, that of the
        energy for each atom, eV. Errors are None without frames.
    """
    none = dict.fromkeys(("force_error", "deviation", "energy_error"))
    if not paths:
        return {"test_frames": 0, **none}
    found = evaluate(committee, paths)
    for name, metrics in found.systems.items():
        if not (metrics.energy.count and metrics.force.count):
            raise ValueError(f"system {name} has no energies or forces to judge by")
    assert found.by_deviation is not None  # there are forces, and several models
    atoms = found.by_deviation.of_atoms
    if not atoms.weight:
        return {"test_frames": found.nframes, **none}
    deviation, error = np.sqrt(atoms.squares / (3 * atoms.weight)).tolist()
    return {
        "test_frames": found.nframes,
        "force_error": error,
        "deviation": deviation,
        "energy_error": found.overall.energy.rmse,
    }


def collect(loop: Loop, iteration: int, folder: Path, results: list[Path]) -> dict[str, Any]:
    """Say whether it is enough: enough frames accurate, and errors small enough."""
    found, wanted = read_json(results[0] / "errors.json"), loop.config["judge"]
    selected = loop.stage(iteration, "select").summary
    explored = selected["frames"]
    shares = {name: selected[name] / explored if explored else None for name in SHARES}
    had_models = bool(loop.models(iteration - 1))
    converged = had_models and shares["accurate"] is not None
    converged = converged and shares["accurate"] >= wanted["accurate"]
    bound = wanted.get("force_error")
    if bound is not None:
        converged = converged and found["force_error"] is not None
        converged = converged and found["force_error"] <= bound
    return {**(shares if had_models else dict.fromkeys(SHARES)), **found, "converged": converged}


def line(summary: dict[str, Any]) -> str:
    """Return what is to be told."""
    parts = []
    if summary["accurate"] is not None:
        parts.append(", ".join(f"{100 * summary[name]:.1f} % {name}" for name in SHARES))
    if summary["force_error"] is not None:
        parts.append(
            f"held-out force error {summary['force_error']:.3g} eV/Å in {summary['test_frames']} "
            "frames"
        )
    parts.append("converged" if summary["converged"] else "not converged")
    return "; ".join(parts)
