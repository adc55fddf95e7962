# SPDX-License-Identifier: LGPL-3.0-or-later
"""What ``dp-mask learn`` refuses before it begins, and what its page says of arguments."""

import inspect
import re
import shutil
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import yaml
from learning import DP_MASK, changed_input, read, write
from pages import DOCS

from deepmd_mask.learning import (
    config,
    levels,
)
from deepmd_mask.learning import openmm as of_openmm
from deepmd_mask.learning.arguments import table
from deepmd_mask.learning.calling import require_module
from deepmd_mask.learning.config import OPENMM
from deepmd_mask.learning.example import init
from deepmd_mask.learning.files import only_one, write_json
from deepmd_mask.learning.loop import run
from deepmd_mask.shared.missing import MissingError

# ---- Arguments -----------------------------------------------------------------------------------


def test_the_page_has_the_arguments():
    page = (DOCS / "learning.md").read_text()
    (shown,) = re.findall(r"<!-- arguments -->\n(.*?)<!-- end -->", page, re.DOTALL)
    assert shown == table()


def test_the_page_has_the_options_of_openmm():
    page = (DOCS / "learning.md").read_text()
    (shown,) = re.findall(r"<!-- options -->\n(.*?)<!-- end -->", page, re.DOTALL)
    found = dict(re.findall(r"^\| `(\w+)` \| `?([^|`]*)`? \|", shown, re.MULTILINE))
    wanted = {
        name: {one.empty: "needed", None: ""}.get(one.default, str(one.default))
        for name, one in inspect.signature(of_openmm.explore).parameters.items()
        if one.kind is one.KEYWORD_ONLY
    }
    assert {name: default.strip() for name, default in found.items()} == wanted


def test_every_yaml_of_the_page_is_read(tmp_path):
    page = (DOCS / "learning.md").read_text()
    for text in re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        found = yaml.safe_load(text)
        label = found.pop("label", "levels:gfn2")
        found.pop("files", None)
        loop = read(tmp_path, **found, label=label, files=[])
        levels.parse(loop.config["label"]["levels"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iteratons": 3}, "iteratons"),
        ({"select": {"trust_lo": "small"}}, "trust_lo"),
        ({"select": {"trust_lo": 0.9, "trust_hi": 0.1}}, "trust_lo is 0.9 and trust_hi 0.1"),
        ({"explore": {"held_out": 6}}, "held_out is 6 of 6 tasks"),
        ({"explore": {"command": "true"}}, "either function or command"),
        ({"models": 1}, "models is too small"),
        ({"preference": "near:ZN"}, "near:ZN"),
        ({"judge": {"accurate": 95}}, "between 0 and 1"),
        ({"train": {"init_model": False}}, "reuse_numb_steps and reuse_start_lr"),
        ({"preference": "within:2.8:ZN,FE"}, "preference names FE, which type_map"),
        (
            {"explore": {"function": OPENMM, "options": {"preference": "element:FE"}}},
            "explore/options/preference names FE, which type_map",
        ),
    ],
)
def test_wrong_arguments(tmp_path, changes, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read(tmp_path, **changes)
    assert "learn.yaml" in str(error.value)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match="dp-mask learn init"):
        config.read(tmp_path)
    (tmp_path / "learn.yaml").write_text("type_map: [O\n")
    with pytest.raises(ValueError, match=r"learn\.yaml cannot be read"):
        config.read(tmp_path)
    (tmp_path / "learn.yaml").write_text("type_map: [O]\n")
    with pytest.raises(ValueError, match="explore"):
        config.read(tmp_path)


@pytest.mark.parametrize("label", ["levels", {"program": "orca"}, [{"minus": "levels:low"}], []])
def test_wrong_levels(label):
    with pytest.raises(ValueError, match=r"^label: "):
        levels.parse(label)


def test_machines_of_dpgen(tmp_path):
    """Its machine.json serves as it is; a stage may have its own machine."""
    slurm = {"batch_type": "Slurm", "context_type": "SSHContext"}
    part = {"command": "dp", "machine": slurm, "resources": {"group_size": 5}}
    dpgen = {"api_version": "1.0", "train": part, "model_devi": [part], "fp": [part]}
    loop = read(tmp_path, machine=dpgen, train={"machine": {"batch_type": "PBS"}})
    assert loop.machine("explore") == (slurm, {"group_size": 5}) == loop.machine("judge")
    assert loop.machine("train")[0] == {"batch_type": "PBS"}
    assert read(tmp_path).machine("label") is None


def test_init_replaces_nothing(tmp_path):
    write(tmp_path)
    (tmp_path / "zinc_waters.py").write_text("mine")
    with pytest.raises(FileExistsError, match=r"exists; choose another folder"):
        init(tmp_path)
    assert (tmp_path / "zinc_waters.py").read_text() == "mine"


def test_a_second_loop_is_refused(tmp_path):
    """As long as the first one runs, in another process; a lock of one that was killed is none."""
    write(tmp_path)
    command = [*DP_MASK, "learn", "run", str(tmp_path)]
    with only_one(tmp_path):
        done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 1 and "a loop runs here already (process" in done.stderr
    assert not list(tmp_path.glob("iter.*"))
    with only_one(tmp_path):
        pass


# ---- What is asked for at once -------------------------------------------------------------------


SLURM = {"batch_type": "Slurm", "context_type": "LazyLocalContext"}


@pytest.mark.parametrize(
    ("machine", "resources", "message"),
    [
        ({"context_type": "LazyLocalContext"}, {}, r"machine of explore: .*batch_type"),
        ({**SLURM, "batch_type": "Slrum"}, {}, "batch_type is Slrum; DPDispatcher has .*Slurm"),
        (SLURM, {"group_size": "two"}, r"resources of explore: .*group_size"),
    ],
)
def test_machines_that_dpdispatcher_does_not_take(tmp_path, machine, resources, message):
    """File, stage and argument are named, and nothing is done."""
    pytest.importorskip("dpdispatcher")
    write(tmp_path, machine="machine.json", resources={**config._ONE_EACH, **resources})
    write_json(tmp_path / "machine.json", machine)
    with pytest.raises(ValueError, match=message) as error:
        run(tmp_path)
    named = config.NAMES[0] if resources else "machine.json"
    assert str(tmp_path / named) in str(error.value)
    assert not list(tmp_path.glob("iter.*"))


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("model", {"type_map": ["H", "O", "ZN"]}, r"input.json: model/type_map is \['H', 'O'"),
        ("model", {"descriptor": {"sel": [6, 12]}}, "sel has 2 numbers, and type_map of the loop"),
        ("training", {"validation_data": {"systems": ["val"]}}, "training/validation_data: .*/val"),
    ],
)
def test_inputs_that_are_for_something_else(tmp_path, section, changes, message):
    write(tmp_path)
    changed_input(tmp_path, section, **changes)
    with pytest.raises(ValueError, match=message):
        run(tmp_path)
    assert not list(tmp_path.glob("iter.*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "nowhere:level"}, "nowhere:level: there is no module nowhere"),
        ({"explore": {"function": "nowhere:frames"}}, "there is no module nowhere"),
        ({"train": {"input": "none.json"}}, "none.json cannot be read"),
        ({"files": ["*.py", "site.pdb"]}, "has no site.pdb"),
        ({"test": ["tset"]}, "test: .*/tset is no folder of a system"),
        ({"data": ["first"]}, "data: .*/first is no folder of a system"),
        ({"judge": {"force_error": 0.1}, "explore": {"held_out": 0}}, "force_error is never met"),
    ],
)
def test_what_later_stages_need_is_asked_for_at_once(tmp_path, changes, message):
    write(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        run(tmp_path)
    assert not list(tmp_path.glob("iter.*"))


def test_a_module_with_a_finder_of_its_own_is_there(tmp_path, monkeypatch):
    """So are packages that are installed to be edited."""

    class Finder:
        @staticmethod
        def find_spec(name, *_):
            return ModuleSpec(name, None) if name == "edited" else None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    require_module("edited.levels:gfn2", tmp_path)
    with pytest.raises(ValueError, match="there is no module nowhere"):
        require_module("nowhere:gfn2", tmp_path)


def test_files_of_the_user_are_there(tmp_path):
    loop = read(tmp_path, files=["site.pdb"])
    with pytest.raises(ValueError, match=r"has no site.pdb"):
        loop.files()
    shutil.copy(Path(__file__), loop.folder / "site.pdb")
    assert list(loop.files()) == ["site.pdb"]


def test_without_dpdispatcher(tmp_path, monkeypatch):
    """The extra to install is named before anything is done."""
    write(tmp_path, machine={"batch_type": "Shell"})
    monkeypatch.setitem(sys.modules, "dpdispatcher", None)
    with pytest.raises(MissingError, match=r'pip install "deepmd-mask\[learn\]"'):
        run(tmp_path)
    assert not list(tmp_path.glob("iter.*"))
