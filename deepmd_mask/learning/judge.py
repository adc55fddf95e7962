# SPDX-License-Identifier: LGPL-3.0-or-later
"""The stage judge: how good the committee is, and whether that is enough."""

import math
from pathlib import Path
from typing import Any

from ..data.systems import systems_in
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
    frames, weight, square, spread, of_energy = 0, 0.0, 0.0, 0.0, 0.0
    for path in [system for each in paths for system in systems_in(each)]:
        found = evaluate(committee, path)
        overall = found.overall
        if not overall.energy.count or found.by_deviation is None:
            raise ValueError(f"system {path} has no energies or forces to judge by")
        frames += found.nframes
        of_energy += found.nframes * overall.energy.rmse**2
        atoms = found.by_deviation.of_atoms
        if atoms.weight:  # some are preferred; where a system does not say which, all are
            force = overall.preferred if overall.preferred.count else overall.force
            of_system = atoms.weight * force.rmse**2
            weight, square = weight + atoms.weight, square + of_system
            spread += of_system / atoms.ratio**2 if atoms.ratio > 0 else 0.0
    if not frames or not weight:
        return {"test_frames": frames, "force_error": None, "deviation": None, "energy_error": None}
    return {
        "test_frames": frames,
        "force_error": math.sqrt(square / weight),
        "deviation": math.sqrt(spread / weight),
        "energy_error": math.sqrt(of_energy / frames),
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
