# SPDX-License-Identifier: LGPL-3.0-or-later
"""The stage explore: the user's function or command makes frames with the committee."""

import os
from pathlib import Path
from typing import Any

from .calling import function_of
from .config import Loop
from .files import bring
from .frames import read_frames
from .levels import environment
from .processes import run_or_raise
from .tasks import LAST, RESULT, Order, Task

FRAMES = "frames.xyz"


def prepare(loop: Loop, iteration: int) -> list[Order]:
    """Return the tasks; none where there are data, but no models yet."""
    committee = loop.models(iteration - 1)
    if not committee and loop.config["data"]:
        return []
    explore = loop.config["explore"]
    wanted = {key: explore[key] for key in ("function", "command") if key in explore}
    bounds = {name: loop.config["select"][name] for name in ("trust_lo", "trust_hi")}
    given, before = explore["options"], loop.stage(iteration - 1, "explore").folder
    wanted["options"] = {k: bounds.get(v, v) if isinstance(v, str) else v for k, v in given.items()}
    return [
        Order(
            {
                **wanted,
                "committee": [path.name for path in committee],
                "task": number,
                "seed": loop.seed(iteration, 0, number),
            },
            {LAST: last} if (last := before / f"{number:03d}" / RESULT).exists() else {},
        )
        for number in range(explore["tasks"])
    ]


def work(task: Task) -> None:
    """Call the user's function, or run the command."""
    settings = task.settings
    if "function" in settings:
        function = function_of(settings["function"])
        given = settings["task"], settings["seed"]
        function(task.committee, task.result, *given, **settings["options"])
    else:
        words = {
            "committee": " ".join(task.committee),
            "task": str(settings["task"]),
            "seed": str(settings["seed"]),
            "common": str(task.common),
        }
        command = settings["command"]
        for name, text in words.items():
            command = command.replace(f"{{{name}}}", text)
        run_or_raise(command, cwd=task.result, env=environment(task.common))
    if not (task.result / FRAMES).exists():
        raise ValueError(f"explore has written no {FRAMES} into its folder")
    print(f"{len(read_frames(task.result / FRAMES))} frames")


def collect(loop: Loop, iteration: int, folder: Path, results: list[Path]) -> dict[str, Any]:
    """Bring the tasks' frames together, as `000.xyz` and so on."""
    counts = []
    for number, result in enumerate(results):
        bring(result / FRAMES, folder / f"{number:03d}.xyz")
        counts.append(len(read_frames(result / FRAMES)))
    if results and not sum(counts[: len(counts) - loop.config["explore"]["held_out"]]):
        raise ValueError(
            f"iteration {iteration}, explore: no task for training has written a frame; look into "
            f"{os.path.relpath(folder)} and remove it before you go on"
        )
    return {"frames": sum(counts), "by_task": counts}


def line(summary: dict[str, Any]) -> str:
    """Return what is to be told."""
    return f"{summary['frames']} frames of {summary['tasks']} tasks"
