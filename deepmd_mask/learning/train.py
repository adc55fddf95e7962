# SPDX-License-Identifier: LGPL-3.0-or-later
"""The stage train: the models of the committee, alike but for their seeds, by `dp`."""

import copy
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..data.training import auto_sel, scan_systems
from .config import Loop, read_file
from .files import bring, write_json
from .processes import run_or_raise
from .tasks import COMMON, LAST, Order, Task

CHECKPOINT, WEIGHTS = "model.ckpt", "weights"
# One process for all commands: to start TensorFlow takes as long as a small training.
_DP = "import sys, json; from deepmd.main import main; [*map(main, json.loads(sys.argv[1]))]"


def systems(loop: Loop, iteration: int, name: str) -> list[Path]:
    """Return what there is to train with up to an iteration, or, "test", to judge by."""
    given = loop.config["data" if name == "train" else "test"]
    made = [loop.stage(k, "pack").folder / name for k in range(iteration + 1)]
    return [loop.path(text) for text in given] + [path for path in made if path.exists()]


def common(loop: Loop, iteration: int) -> dict[str, Path]:
    """Return the systems by the names that inputs have for them."""
    return {f"data/{k:03d}": path for k, path in enumerate(systems(loop, iteration, "train"))}


def prepare(loop: Loop, iteration: int) -> list[Order]:
    """Return a task for each model; none where there is nothing new to learn."""
    last = loop.models(iteration - 1)
    if last and not loop.stage(iteration, "pack").summary["train"]:
        return []
    names = list(common(loop, iteration))
    if not names:
        raise ValueError(
            f"iteration {iteration}: there is nothing to train with; all candidates may be held "
            "out, or none was chosen: look at `dp-mask learn status`"
        )
    before = iteration - 1 if last and loop.config["train"]["init_model"] else None
    base = _base(loop, iteration)
    sel = base["model"]["descriptor"]["sel"]
    if before is not None and sel != loop.stage(before, "train").summary["sel"]:
        before = None  # other nets: they begin anew
    return [
        Order(*_one(loop, iteration, number, base, names, before))
        for number in range(loop.config["models"])
    ]


def _one(
    loop: Loop, iteration: int, number: int, base: dict, names: list[str], before: int | None
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Return settings and inputs of the training of one model."""
    script, train = copy.deepcopy(base), loop.config["train"]
    model, training = script["model"], script["training"]
    for part, section in enumerate((model["descriptor"], model["fitting_net"], training)):
        section["seed"] = loop.seed(iteration, 1, number, part)
    training["training_data"]["systems"] = [f"../../{COMMON}/{name}" for name in names]
    inputs = {}
    if before is not None:
        inputs[LAST] = _checkpoint(loop, before, number)
        if "reuse_numb_steps" in train:
            training["numb_steps"] = train["reuse_numb_steps"]
        if "reuse_start_lr" in train:
            script.setdefault("learning_rate", {})["start_lr"] = train["reuse_start_lr"]
    return {"input": script, "compress": train["compress"]}, inputs


def read_input(loop: Loop) -> dict[str, Any]:
    """Return the user's input.

    Raises
    ------
    ValueError
        Naming the file, if it cannot be read or is none.
    """
    path = loop.path(loop.config["train"]["input"])
    script = read_file(path)
    try:
        script["model"]["descriptor"], script["model"]["fitting_net"]
        script["training"]["numb_steps"]
    except (KeyError, TypeError):
        raise ValueError(
            f"{path} is no input of dp train: it lacks model/descriptor, model/fitting_net or "
            "training/numb_steps"
        ) from None
    return script


def _base(loop: Loop, iteration: int) -> dict[str, Any]:
    """Return the user's input with type map and sel."""
    script = read_input(loop)
    descriptor = script["model"]["descriptor"]
    script["model"]["type_map"] = loop.config["type_map"]
    script["training"].setdefault("training_data", {})
    if isinstance(descriptor.get("sel", "auto"), str):
        wanted = descriptor.get("sel", "auto")
        descriptor["sel"] = _sel(loop, iteration, wanted)
    return script


def _sel(loop: Loop, iteration: int, wanted: str) -> list[int]:
    """Return the slots of each type: those of the last iteration, as long as frames fit."""
    paths = [str(path) for path in systems(loop, iteration, "train")]
    most = scan_systems(paths, loop.config["type_map"]).max_count
    last = loop.stage(iteration - 1, "train").summary if iteration else {}
    if last and np.all(most <= last["sel"]):
        return last["sel"]
    return auto_sel(wanted, most)


def _checkpoint(loop: Loop, iteration: int, number: int) -> Path:
    """Return the folder with the checkpoint that a model has come out of."""
    return loop.stage(iteration, "train").folder / f"{WEIGHTS}.{number:03d}"


def work(task: Task) -> None:
    """Train, freeze, and compress if that is wanted."""
    write_json(task.result / "input.json", task.settings["input"])
    train = ["train", "input.json"]
    if (task.folder / LAST).exists():
        train += ["--init-model", f"../{LAST}/{CHECKPOINT}"]
    commands = [train, ["freeze", "-o", "graph.pb"]]
    if task.settings["compress"]:
        commands.append(["compress", "-i", "graph.pb", "-o", "compressed.pb"])
    run_or_raise([sys.executable, "-c", _DP, json.dumps(commands)], cwd=task.result)
    if task.settings["compress"]:
        os.replace(task.result / "compressed.pb", task.result / "graph.pb")
    kept = task.result / WEIGHTS
    for path in task.result.glob(f"{CHECKPOINT}.*"):
        bring(path, kept / path.name)
    for path in [*task.result.glob(f"{CHECKPOINT}*"), *task.result.glob("model-compression*")]:
        path.unlink() if path.is_file() or path.is_symlink() else shutil.rmtree(path)


def collect(loop: Loop, iteration: int, folder: Path, results: list[Path]) -> dict[str, Any]:
    """Bring models and checkpoints to the folder of the stage, or those of the last iteration."""
    for number in range(loop.config["models"]):
        name = f"graph.{number:03d}.pb"
        if results:
            bring(results[number] / "graph.pb", folder / name)
            bring(results[number] / WEIGHTS, folder / f"{WEIGHTS}.{number:03d}")
        else:
            bring(loop.models(iteration - 1)[number], folder / name)
            checkpoint = _checkpoint(loop, iteration - 1, number)
            bring(checkpoint, folder / checkpoint.name)
    if not results:
        return {"models": 0, "sel": loop.stage(iteration - 1, "train").summary["sel"]}
    first = json.loads((results[0] / "input.json").read_text())
    return {
        "models": len(results),
        "sel": first["model"]["descriptor"]["sel"],
        "steps": first["training"]["numb_steps"],
    }


def line(summary: dict[str, Any]) -> str:
    """Return what is to be told."""
    if not summary["models"]:
        return "nothing new to learn: the models stay"
    return f"{summary['models']} models of {summary['steps']} steps"
