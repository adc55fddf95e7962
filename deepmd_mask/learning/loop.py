# SPDX-License-Identifier: LGPL-3.0-or-later
"""The loop: stage after stage, iteration after iteration, until the models agree."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType

from . import dispatcher, explore, judge, label, levels, local, pack, select, train
from .calling import require_module
from .config import Loop, read
from .files import only_one
from .tasks import STAGES, Stage

MODULES: Mapping[str, ModuleType] = dict(
    zip(STAGES, (explore, select, label, pack, train, judge), strict=True)
)
WITH_FILES = ("explore", "label")  # stages whose tasks call what is the user's
WITH_LAST_COMMITTEE = ("explore", "select")


def run(folder: Path, tell: Callable[[str], object] = print) -> bool:
    """Run a loop, or go on with one that was ended, at any moment and in any way.

    Parameters
    ----------
    folder
        With learn.yaml.
    tell
        Is called with each line of progress.

    Returns
    -------
    bool
        Whether the loop has converged.

    Raises
    ------
    ValueError
        If arguments are wrong, another loop runs in the folder, or tasks of a stage failed; a
        message says which, where their logs are and how to go on.
    """
    loop = read(folder)
    _require_all(loop)
    _require_same(loop, tell)
    with only_one(loop.folder):
        executors = {name: _executor(loop, name) for name in STAGES}
        for iteration in range(loop.config["iterations"]):
            for name in STAGES:
                stage = loop.stage(iteration, name)
                if not stage.is_complete:
                    _make(loop, iteration, stage, executors[name], tell)
            if stage.summary["converged"]:
                tell(f"converged in iteration {iteration}: {_models(loop, iteration)}")
                return True
        tell(
            f"not converged after {loop.config['iterations']} iterations: "
            f"{_models(loop, iteration)}; raise iterations to go on"
        )
        return False


def _require_all(loop: Loop) -> None:
    """Refuse a loop that lacks what a later stage would miss, hours from now."""
    called = {
        "explore": [loop.config["explore"].get("function")],
        "label": [level for _, level in levels.parse(loop.config["label"]["levels"])],
    }
    for stage, functions in called.items():
        if loop.machine(stage) is None:  # another machine has modules of its own
            for function in functions:
                if isinstance(function, str):  # the rest are commands
                    require_module(function, loop.folder)
    loop.files()
    train.read_input(loop)
    train.require_systems(loop)
    iterations = loop.config["iterations"]
    held_out = loop.config["explore"]["held_out"] and loop.config["select"]["held_out_frames"]
    test = held_out or train.systems(loop, iterations - 1, "test")
    if "force_error" in loop.config["judge"] and not test:
        raise ValueError(
            f"{loop.folder}: judge/force_error is never met without frames to judge by; give "
            "explore/held_out and select/held_out_frames, or systems as `test`, or leave it out"
        )


def _require_same(loop: Loop, tell: Callable[[str], object]) -> None:
    """Refuse labels of another level, or types in another order, than those that are there."""
    told = set()
    for iteration in range(loop.config["iterations"]):
        done = {name: loop.stage(iteration, name).summary for name in ("label", "pack", "train")}
        now, was = loop.config["label"]["levels"], done["label"].get("levels")
        if was is not None and levels.parse(was) != levels.parse(now):
            raise ValueError(
                f"label is {now}, and what iteration {iteration} has labelled is of {was}; labels "
                "of two levels must not be mixed. Set it back (how the same level is computed may "
                "change in scripts, by the same names), or begin in another folder"
            )
        types, known = loop.config["type_map"], done["train"].get("type_map") or []
        if types[: len(known)] != known:
            raise ValueError(
                f"type_map is {types}, and was {known} in iteration {iteration}; it may only grow "
                "at its end. Set it back, or begin in another folder"
            )
        rule, was = loop.config["preference"], done["pack"].get("preference")
        if was not in (None, rule) and was not in told:
            told.add(was)
            tell(
                f"preference is {rule}, and was {was} when iteration {iteration} was packed: its "
                "frames count by the old one, in training and errors. To have it otherwise, remove "
                "pack of that iteration and all that came after it"
            )


def _models(loop: Loop, iteration: int) -> str:
    folder = loop.stage(iteration, "train").folder.relative_to(loop.folder)
    return f"{loop.config['models']} models, {folder}/graph.*.pb"


def _make(
    loop: Loop,
    iteration: int,
    stage: Stage,
    execute: Callable[[Path, list[str]], None],
    tell: Callable[[str], object],
) -> None:
    """Make a stage and tell of it."""
    name = stage.folder.name
    module = MODULES[name]
    own = loop.files() if name in WITH_FILES else {}
    common: dict[str, Path] = {}
    if name in WITH_LAST_COMMITTEE:
        common = {path.name: path for path in loop.models(iteration - 1)}
    elif name == "judge":
        common = {path.name: path for path in loop.models(iteration)}
    if name in ("train", "judge"):
        common |= module.common(loop, iteration)
    wanted = module.prepare(loop, iteration)
    collect = partial(module.collect, loop, iteration)
    summary = stage.make(wanted, own, common, execute, collect, tell)
    tell(f"iteration {iteration}  {name:<8} {module.line(summary)}  ({summary['seconds']:.0f} s)")


def _executor(loop: Loop, name: str) -> Callable[[Path, list[str]], None]:
    """Return what runs tasks of a stage."""
    found = loop.machine(name)
    config = loop.config
    if found is None:
        return partial(local.execute, name, config[name].get("workers", config.get("workers")))
    machine, resources = found
    files = {part: loop.file_of(part, name) for part in ("machine", "resources")}
    dispatcher.require_known(name, machine, resources, files, loop.folder)
    more = config["poll"], config.get("command"), loop.folder
    return partial(dispatcher.execute, name, machine, resources, *more)
