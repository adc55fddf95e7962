# SPDX-License-Identifier: LGPL-3.0-or-later
"""The stage pack: labelled frames become masked systems, by `dp-mask pack`."""

import shutil
from pathlib import Path
from typing import Any

from .. import data
from .config import Loop
from .files import bring, read_json, write_json
from .label import HELD_OUT, LABELLED
from .tasks import Order, Task

SYSTEMS = {"train": LABELLED, "test": HELD_OUT}


def prepare(loop: Loop, iteration: int) -> list[Order]:
    """Return the one task; none where nothing was labelled."""
    labelled = loop.stage(iteration, "label")
    if not labelled.summary["labelled"] + labelled.summary["held_out"]:
        return []
    config = loop.config
    settings = {name: config["pack"][name] for name in ("precision", "external_field")}
    settings |= {"type_map": config["type_map"], "preference": config["preference"]}
    return [Order(settings, {name: labelled.folder / name for name in SYSTEMS.values()})]


def work(task: Task) -> None:
    """Pack what is for training and what is held out."""
    counts = {}
    for name, source in SYSTEMS.items():
        if not (task.folder / source).stat().st_size:
            continue
        packed = data.pack([task.folder / source], task.result / name, part=True, **task.settings)
        counts[name] = sum(packed.systems.values())
        counts["with_net"] = counts.get("with_net", 0) + packed.with_net
    write_json(task.result / "counts.json", counts)


def collect(loop: Loop, iteration: int, folder: Path, results: list[Path]) -> dict[str, Any]:
    """Bring the systems to the folder of the stage."""
    counts: dict[str, Any] = {"train": 0, "test": 0, "with_net": 0}
    for name in SYSTEMS:
        shutil.rmtree(folder / name, ignore_errors=True)
    for result in results:
        counts |= read_json(result / "counts.json")
        for name in SYSTEMS:
            if counts[name]:
                bring(result / name, folder / name)
        counts["preference"] = loop.config["preference"]
    return counts


def line(summary: dict[str, Any]) -> str:
    """Return what is to be told."""
    net = f"; {summary['with_net']} with a net force or torque" if summary["with_net"] else ""
    return f"{summary['train']} for training, {summary['test']} held out{net}"
