# SPDX-License-Identifier: LGPL-3.0-or-later
"""The stage judge: how good the committee is, and whether that is enough."""

from pathlib import Path
from typing import Any

import numpy as np

from ..data.scan import Wanted, scan_system
from ..data.systems import systems_in
from ..potential import Potential
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
    potential = Potential(committee)
    frames, weight, square, spread, of_energy = 0, 0.0, 0.0, 0.0, 0.0
    for path in [system for each in paths for system in systems_in(each)]:
        wanted = Wanted(tuple(potential.type_map), to_evaluate=True)
        system = scan_system(path, wanted).system
        numbers = np.array(
            [potential.type_map.index(n) for n in system.names or potential.type_map]
        )
        for chunk in system.chunks():
            types = np.where(chunk.types < 0, 0, numbers[chunk.types])
            found = potential.evaluate(types, chunk.coord, chunk.mask)
            if chunk.force is None or chunk.energy is None:
                raise ValueError(f"system {path} has no energies or forces to judge by")
            w = chunk.mask * (1.0 if chunk.preference is None else chunk.preference)
            frames, weight = frames + len(chunk), weight + float(w.sum())
            square += float((w[:, :, None] * (found.forces - chunk.force) ** 2).sum())
            if found.deviation is not None:
                spread += float((w * found.deviation**2).sum())
            per_atom = (found.energy - chunk.energy) / np.maximum(chunk.mask.sum(axis=1), 1)
            of_energy += float((per_atom**2).sum())
    if not frames or not weight:
        return {"test_frames": frames, "force_error": None, "deviation": None, "energy_error": None}
    return {
        "test_frames": frames,
        "force_error": np.sqrt(square / (3 * weight)).item(),
        "deviation": np.sqrt(spread / (3 * weight)).item(),
        "energy_error": np.sqrt(of_energy / frames).item(),
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
