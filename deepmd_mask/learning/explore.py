# SPDX-License-Identifier: LGPL-3.0-or-later
"""The stage explore: the user's function or command makes frames with the committee."""

import os
from pathlib import Path
from typing import Any

from ..data.packing.preferences import Preference
from .calling import function_of
from .config import OPENMM, Loop
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
    given, last = explore["options"], _last(loop, iteration)
    wanted["options"] = {k: bounds.get(v, v) if isinstance(v, str) else v for k, v in given.items()}
    if (
        explore.get("function") == OPENMM
        and Preference.parse(loop.config["preference"]).array is None
    ):
        wanted["options"].setdefault("preference", loop.config["preference"])
    return [
        Order(
            {
                **wanted,
                "committee": [path.name for path in committee],
                "task": number,
                "seed": loop.seed(iteration, 0, number),
            },
            {LAST: last[number][0]} if number in last and last[number][1] else {},
        )
        for number in range(explore["tasks"])
    ]


def held_out(loop: Loop, iteration: int) -> range:
    """Return the tasks that were held out in an iteration which has explored."""
    summary = loop.stage(iteration, "explore").summary
    tasks = summary.get("tasks", 0)
    return range(tasks - summary.get("held_out", loop.config["explore"]["held_out"]), tasks)


def _last(loop: Loop, iteration: int) -> dict[int, tuple[Path, bool]]:
    """Return, by task, what it has left in the last iteration, and whether it goes on from that.

    What was held out stays so, and what was trained with is not held out: a trajectory that is to
    be the other begins anew.
    """
    explore, before = loop.config["explore"], held_out(loop, iteration - 1)
    first = explore["tasks"] - explore["held_out"]
    folder = loop.stage(iteration - 1, "explore").folder
    return {
        number: (path, (number in before) == (number >= first))
        for number in range(explore["tasks"])
        if (path := folder / f"{number:03d}" / RESULT).exists()
    }


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
    counts, ended = [], dict[str, str]()
    for number, result in enumerate(results):
        bring(result / FRAMES, folder / f"{number:03d}.xyz")
        frames = read_frames(result / FRAMES)
        counts.append(len(frames))
        ended |= {f"{number:03d}": str(a.info["ended"]) for a in frames if "ended" in a.info}
    held_out_tasks = loop.config["explore"]["held_out"] if results else 0
    if results and not sum(counts[: len(counts) - held_out_tasks]):
        raise ValueError(
            f"iteration {iteration}, explore: no task for training has written a frame; look into "
            f"{os.path.relpath(folder)} and remove it before you go on"
        )
    anew = sum(not goes_on for _, goes_on in _last(loop, iteration).values()) if results else 0
    return {
        "frames": sum(counts),
        "by_task": counts,
        "held_out": held_out_tasks,
        "anew": anew,
        "ended": ended,
    }


def line(summary: dict[str, Any]) -> str:
    """Return what is to be told."""
    text = f"{summary['frames']} frames of {summary['tasks']} tasks"
    if summary["anew"]:
        text += f"; {summary['anew']} begin anew, as others are held out than before"
    for number, reason in [*summary["ended"].items()][:1]:
        text += f"; {len(summary['ended'])} ended early, task {number}: {reason}"
    return text
