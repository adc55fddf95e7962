# SPDX-License-Identifier: LGPL-3.0-or-later
"""learn.yaml: read, checked, and where things are in the folder of a loop."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from dargs import Argument
from dargs.dargs import ArgumentError

from ..data.packing.preferences import Preference
from ..shared.reason import reason_of
from .arguments import arguments
from .tasks import Stage

NAMES = ("learn.yaml", "learn.yml", "learn.json")
DEFAULT_FILES = ("*.py",)
OPENMM = "deepmd_mask.learning.openmm:explore"
_ONE_EACH = {
    "number_node": 1,
    "cpu_per_node": 1,
    "gpu_per_node": 0,
    "queue_name": "",
    "group_size": 1,
}
_OF_DPGEN = {"explore": "model_devi", "label": "fp", "train": "train"}


@dataclass(frozen=True)
class Loop:
    """A loop: its folder and its arguments.

    Attributes
    ----------
    folder
        Absolute.
    config
        The arguments with defaults filled in.
    """

    folder: Path
    config: dict[str, Any]

    def stage(self, iteration: int, name: str) -> Stage:
        """Return a stage of an iteration, made or not."""
        folder = self.folder / f"iter.{iteration:06d}" / name
        return Stage(folder, f"iteration {iteration}, {name}")

    def models(self, iteration: int) -> list[Path]:
        """Return the committee of an iteration, in order; none before the first."""
        if iteration < 0:
            return []
        return sorted(self.stage(iteration, "train").folder.glob("graph.*.pb"))

    def files(self) -> dict[str, Path]:
        """Return the user's files that tasks need, by name.

        Raises
        ------
        ValueError
            If there is none of a name.
        """
        found: dict[str, Path] = {}
        for pattern in self.config["files"]:
            paths = sorted(self.folder.glob(pattern))
            if not paths and pattern not in DEFAULT_FILES:
                raise ValueError(f"files: {self.folder} has no {pattern}")
            found |= {str(path.relative_to(self.folder)): path for path in paths}
        return found

    def seed(self, *numbers: int) -> int:
        """Return a seed that follows from that of the loop and from numbers."""
        sequence = np.random.SeedSequence([self.config["seed"], *numbers])
        return int(sequence.generate_state(1)[0]) % 2**31

    def path(self, text: str) -> Path:
        """Return a path that the arguments name."""
        return self.folder / text

    def file_of(self, part: str, stage: str) -> str:
        """Return the file that says a stage's machine or its resources, for messages."""
        given = self.config[stage].get(part, self.config.get(part))
        if isinstance(given, str):
            return str(self.path(given))
        return str(next(path for path in map(self.path, NAMES) if path.exists()))

    def machine(self, stage: str) -> tuple[dict, dict] | None:
        """Return machine and resources of a stage; None for processes here."""
        own = self.config[stage]
        machine = _read_part(self, own.get("machine", self.config.get("machine")))
        if machine is None:
            return None
        resources = _read_part(self, own.get("resources", self.config.get("resources")))
        if "train" in machine and "machine" not in machine:  # of DP-GEN
            part = machine.get(_OF_DPGEN.get(stage, "train"))
            part = part[0] if isinstance(part, list) else part
            if not isinstance(part, dict) or "machine" not in part:
                raise ValueError(f"machine of {stage}: DP-GEN's machine.json has none for it")
            return part["machine"], resources or part.get("resources") or _ONE_EACH
        if "machine" in machine:
            machine, resources = machine["machine"], resources or machine.get("resources")
        return machine, resources or _ONE_EACH


def read(folder: Path) -> Loop:
    """Read the arguments of a loop.

    Raises
    ------
    ValueError
        Naming file and argument, if one is missing, unknown or wrong.
    """
    folder = folder.resolve()
    path = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    if path is None:
        raise ValueError(
            f"{folder} has no {NAMES[0]}; `dp-mask learn init {folder.name}` makes one"
        )
    given = read_file(path)
    given = {**given, "label": _expanded(given.get("label"))} if "label" in given else given
    base = Argument("learn", dict, arguments())
    try:
        config = base.normalize_value({"pack": {}, "judge": {}, **given})
        base.check_value(config, strict=True)
    except ArgumentError as error:
        raise ValueError(f"{path}: {reason_of(error)}") from error
    _require(path, config)
    return Loop(folder, config)


def _expanded(label: Any) -> Any:
    """Return the section `label` of what may stand in its place: levels, or a command."""
    if not isinstance(label, dict):
        return {"levels": label}
    if "command" not in label or "levels" in label:
        return label
    level = {name: label[name] for name in ("command", "output") if name in label}
    return {"levels": level, **{name: label[name] for name in label if name not in level}}


def read_file(path: Path) -> dict[str, Any]:
    """Read a mapping from JSON or YAML.

    Raises
    ------
    ValueError
        Naming the file, if it is neither.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        shown = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read: {shown}") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {reason_of(error)}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no arguments with names")
    return found


def _read_part(loop: Loop, part: str | dict | None) -> dict | None:
    return read_file(loop.path(part)) if isinstance(part, str) else part


def _require(path: Path, config: dict[str, Any]) -> None:
    """Refuse what cannot be meant."""
    explore, select = config["explore"], config["select"]
    if ("function" in explore) == ("command" in explore):
        raise ValueError(f"{path}: explore needs either function or command")
    if not 0 <= select["trust_lo"] <= select["trust_hi"]:
        raise ValueError(
            f"{path}: trust_lo is {select['trust_lo']} and trust_hi {select['trust_hi']}; "
            "0 <= trust_lo <= trust_hi"
        )
    if not 0 <= explore["held_out"] < explore["tasks"]:
        raise ValueError(
            f"{path}: explore/held_out is {explore['held_out']} of {explore['tasks']} tasks; at "
            "least one must be left for training"
        )
    least = {"models": 2, "iterations": 1, "seed": 0}
    wrong = [name for name, bound in least.items() if config[name] < bound]
    least = {"frames": 1, "held_out_frames": 0}
    wrong += [f"select/{name}" for name, bound in least.items() if select[name] < bound]
    if config["label"]["frames_per_task"] < 1:
        wrong.append("label/frames_per_task")
    if wrong:
        raise ValueError(f"{path}: {', '.join(wrong)} is too small")
    unused = sorted(name for name in config["train"] if name.startswith("reuse_"))
    if unused and not config["train"]["init_model"]:
        raise ValueError(
            f"{path}: train has {' and '.join(unused)}, which is for models that go on from the "
            "last ones, and init_model: false; leave out one of them"
        )
    if not 0 <= config["judge"]["accurate"] <= 1:
        raise ValueError(f"{path}: judge/accurate is a share, between 0 and 1")
    rules = {"preference": config["preference"]}
    if explore.get("function") == OPENMM and isinstance(explore["options"].get("preference"), str):
        rules["explore/options/preference"] = explore["options"]["preference"]
    for name, text in rules.items():
        try:
            rule = Preference.parse(text)
        except ValueError as error:
            raise ValueError(f"{path}: {name}: {error}") from error
        missing = [] if rule.kind == "names" else rule.missing(config["type_map"])
        if missing:
            raise ValueError(
                f"{path}: {name} names {', '.join(missing)}, which type_map, "
                f"{config['type_map']}, has not; add it there, or take it out"
            )
