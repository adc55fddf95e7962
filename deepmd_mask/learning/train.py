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

from ..data.systems import systems_in
from ..data.training import auto_sel, scan_systems, training_systems
from .config import Loop, read_file
from .files import bring, contents, digest, read_json, write_json
from .processes import run_or_raise
from .tasks import COMMON, LAST, TASK, Order, Task

CHECKPOINT, WEIGHTS = "model.ckpt", "weights"
LEARNED = "learned"  # what of the user's, of tasks and of the stage
# One process for all commands: to start TensorFlow takes as long as a small training.
_DP = "import sys, json; from deepmd.main import main; [*map(main, json.loads(sys.argv[1]))]"


def systems(loop: Loop, iteration: int, name: str) -> list[Path]:
    """Return what there is to train with up to an iteration, or, "test", to judge by."""
    given = loop.config["data" if name == "train" else "test"]
    made = [loop.stage(k, "pack").folder / name for k in range(iteration + 1)]
    return [loop.path(text) for text in given] + [path for path in made if path.exists()]


def validation(loop: Loop) -> list[Path]:
    """Return the systems of the input's own validation_data; paths begin at the loop's folder."""
    data = read_input(loop)["training"].get("validation_data")
    found = training_systems({"training": {"validation_data": data}}, loop.folder)
    return [Path(path) for path in found.get("validation_data", [])]


def require_systems(loop: Loop) -> None:
    """Refuse paths that lead to no system.

    Raises
    ------
    ValueError
        Naming path and argument.
    """
    wanted = {
        name: [Path(path) for text in loop.config[name] for path in systems_in(loop.path(text))]
        for name in ("data", "test")
    }
    own = f"{loop.config['train']['input']}, training/validation_data"
    wanted[own] = validation(loop)
    for name, paths in wanted.items():
        for path in paths:
            if not (path / "type.raw").is_file():
                raise ValueError(
                    f"{name}: {path} is no folder of a system, which has a file type.raw; mend the "
                    f"path, which begins at {loop.folder}, or unpack a group of HDF5 to folders"
                )
    data = read_input(loop)["training"].get("validation_data")
    if data and not wanted[own]:
        raise ValueError(
            f"{own}: there is no system in {data.get('systems')}; mend the path, which begins at "
            f"{loop.folder}, or the patterns"
        )


def common(loop: Loop, iteration: int) -> dict[str, Path]:
    """Return the systems by the names that inputs have for them."""
    of = {"data": systems(loop, iteration, "train"), "validation": validation(loop)}
    return {f"{name}/{k:03d}": path for name, paths in of.items() for k, path in enumerate(paths)}


def prepare(loop: Loop, iteration: int) -> list[Order]:
    """Return a task for each model; none where there is nothing new to learn, and no model more."""
    last = loop.models(iteration - 1)
    enough = last and len(last) >= loop.config["models"]
    learned = loop.stage(iteration - 1, "train").summary.get(LEARNED)
    given = _given(loop)
    as_before = learned in (None, given)
    if enough and as_before and not loop.stage(iteration, "pack").summary["train"]:
        return []
    names = list(common(loop, iteration))
    if not systems(loop, iteration, "train"):
        raise ValueError(
            f"iteration {iteration}: there is nothing to train with; all candidates may be held "
            "out, none was chosen, or no label has succeeded: look at `dp-mask learn status`"
        )
    before = iteration - 1 if last and loop.config["train"]["init_model"] else None
    base = _base(loop, iteration)
    sel = base["model"]["descriptor"]["sel"]
    if before is not None and sel != loop.stage(before, "train").summary["sel"]:
        before = None  # other nets: they begin anew
    every = [
        _one(loop, iteration, number, base, names, before)
        for number in range(loop.config["models"])
    ]
    return [Order({**settings, LEARNED: given}, inputs) for settings, inputs in every]


def _one(
    loop: Loop, iteration: int, number: int, base: dict, names: list[str], before: int | None
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Return settings and inputs of the training of one model."""
    script, train = copy.deepcopy(base), loop.config["train"]
    model, training = script["model"], script["training"]
    for k, section in enumerate((model["descriptor"], model["fitting_net"], training)):
        section["seed"] = loop.seed(iteration, 1, number, k)
    for part, folder in {"training_data": "data/", "validation_data": "validation/"}.items():
        paths = [f"../../{COMMON}/{name}" for name in names if name.startswith(folder)]
        if part in training and (paths or part == "training_data"):
            training[part]["systems"] = paths
            training[part].pop("rglob_patterns", None)
    inputs = {}
    # A model that was not there before, as `models` has been raised, begins from nothing.
    if before is not None and number < len(loop.models(before)):
        inputs[LAST] = _checkpoint(loop, before, number)
        if "reuse_numb_steps" in train:
            training["numb_steps"] = train["reuse_numb_steps"]
        if "reuse_start_lr" in train:
            script.setdefault("learning_rate", {})["start_lr"] = train["reuse_start_lr"]
    return {"input": script, "compress": train["compress"]}, inputs


def _given(loop: Loop) -> str:
    """Return a digest of what the user has given to learn: systems, input and type map."""
    paths = map(loop.path, loop.config["data"])
    found = [[os.path.relpath(path, loop.folder), contents(path)] for path in paths]
    return digest(json.dumps([found, read_input(loop), loop.config["type_map"]]).encode())


def read_input(loop: Loop) -> dict[str, Any]:
    """Return the user's input.

    Raises
    ------
    ValueError
        Naming the file, if it cannot be read or is none, or is for other types.
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
    _require_types(path, script["model"], loop.config["type_map"])
    return script


def _require_types(path: Path, model: dict[str, Any], type_map: list[str]) -> None:
    """Refuse other types: sel, exclude_types and atom_ener are in their order."""
    own, sel = model.get("type_map"), model["descriptor"].get("sel")
    if own and [name.upper() for name in own] != [name.upper() for name in type_map]:
        raise ValueError(
            f"{path}: model/type_map is {own}, and type_map of the loop {type_map}; make them "
            "alike, with all that is in this order, or leave the first one out"
        )
    if isinstance(sel, list) and len(sel) != len(type_map):
        raise ValueError(
            f"{path}: model/descriptor/sel has {len(sel)} numbers, and type_map of the loop "
            f'{len(type_map)} names, {type_map}; give one for each, or "auto"'
        )


def _base(loop: Loop, iteration: int) -> dict[str, Any]:
    """Return the user's input with type map and sel."""
    script = read_input(loop)
    descriptor = script["model"]["descriptor"]
    script["model"]["type_map"] = loop.config["type_map"]
    script["training"].setdefault("training_data", {})
    script["training"]["save_ckpt"] = CHECKPOINT  # which models go on from
    if isinstance(descriptor.get("sel", "auto"), str):
        wanted = descriptor.get("sel", "auto")
        descriptor["sel"] = _sel(loop, iteration, wanted)
    return script


def _sel(loop: Loop, iteration: int, wanted: str) -> list[int]:
    """Return the slots of each type: those of the last iteration, as long as frames fit.

    The type map may have grown at its end since.
    """
    paths = [str(path) for path in systems(loop, iteration, "train")]
    most = scan_systems(paths, loop.config["type_map"]).max_count
    last = loop.stage(iteration - 1, "train").summary.get("sel", [])
    known = [*last, *[0] * (len(most) - len(last))]
    return known if last and np.all(most <= known) else auto_sel(wanted, most)


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
        last = loop.stage(iteration - 1, "train").summary
        return {"models": 0, **{key: last.get(key) for key in ("sel", "type_map", LEARNED)}}
    first = json.loads((results[0] / "input.json").read_text())
    return {
        LEARNED: read_json(results[0].parent / TASK)["settings"][LEARNED],
        "type_map": first["model"]["type_map"],
        "models": len(results),
        "sel": first["model"]["descriptor"]["sel"],
        "steps": first["training"]["numb_steps"],
    }


def line(summary: dict[str, Any]) -> str:
    """Return what is to be told."""
    if not summary["models"]:
        return "nothing new to learn: the models stay"
    return f"{summary['models']} models of {summary['steps']} steps"
