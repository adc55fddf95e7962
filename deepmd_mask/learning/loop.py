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
    dispatcher.require(loop.folder)
    machine, resources = found
    more = config["poll"], config.get("command"), loop.folder
    return partial(dispatcher.execute, name, machine, resources, *more)
