# SPDX-License-Identifier: LGPL-3.0-or-later
"""Labels of ``dp-mask learn``: calculators, commands, differences, and frames that have none."""

import re

import numpy as np
import outputs
import pytest
import yaml
from ase import Atoms
from ase.build import molecule
from learning import task_folder
from pages import DOCS

from deepmd_mask.learning import levels
from deepmd_mask.learning.frames import read_frames
from deepmd_mask.learning.tasks import RESULT
from deepmd_mask.learning.work import work

LEVELS = """
import os, signal
import numpy as np
from ase.calculators.calculator import Calculator

class Springs(Calculator):
    implemented_properties = ["energy", "forces"]

    def __init__(self, k):
        super().__init__()
        self.k = k

    def calculate(self, atoms=None, properties=(), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        r = atoms.positions
        self.results = {"energy": self.k * (r**2).sum() / 2, "forces": -self.k * r}

def high(atoms):
    kind = atoms.info.get("kind")
    if kind == "raises":
        raise RuntimeError("the SCF did not converge")
    if kind == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "huge":
        return Springs(1e6)
    if kind == "undefined":
        return Springs(np.nan)
    return Springs(3.0)

def low(atoms):
    return Springs(1.0)
"""


def waters(*kinds):
    frames = [molecule("H2O") for _ in kinds]
    for atoms, kind in zip(frames, kinds, strict=True):
        atoms.info["kind"] = kind
        atoms.set_array("index", np.arange(3))
    return frames


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Label frames of which most cannot be labelled, by a difference."""
    candidates = waters("good", "raises", "crashes", "huge", "undefined", "good")
    settings = {"levels": ["my:high", {"minus": "my:low"}], "largest_force": 100, "frames": [0, 7]}
    tmp_path = tmp_path_factory.mktemp("labels")
    folder = task_folder(
        tmp_path, "label", settings, candidates=candidates, held_out=waters("good")
    )
    (folder.parent / "common" / "my.py").write_text(LEVELS)
    work("label", folder)
    return folder / RESULT


def test_failed_labels_are_put_aside(labelled):
    failed = [(a.info["kind"], a.info["reason"]) for a in read_frames(labelled / "failed.xyz")]
    assert [kind for kind, _ in failed] == ["raises", "crashes", "huge", "undefined"]
    reasons = dict(failed)
    assert reasons["raises"] == "RuntimeError: the SCF did not converge"
    assert reasons["crashes"] == "the process that labelled it ended by signal 11"
    assert "more than largest_force, 100" in reasons["huge"]
    assert "not finite" in reasons["undefined"]
    assert len(read_frames(labelled / "labelled.xyz")) == 2
    assert len(read_frames(labelled / "held_out.xyz")) == 1


def test_a_difference_of_levels(labelled):
    for atoms in read_frames(labelled / "labelled.xyz"):
        r = atoms.positions
        assert atoms.get_potential_energy() == pytest.approx((r**2).sum(), rel=1e-12)
        np.testing.assert_allclose(atoms.get_forces(), -2 * r, atol=1e-8)
        assert atoms.arrays["index"].tolist() == [0, 1, 2]


COMMAND = """
import ase.io
from ase.calculators.singlepoint import SinglePointCalculator
atoms = ase.io.read("frame.xyz")
atoms.calc = SinglePointCalculator(atoms, energy=1.5, forces=0 * atoms.positions + 0.5)
SPOIL
ase.io.write("out.xyz", atoms)
"""


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("", None),
        ("atoms.positions += 0.1", "atoms are up to 0.1 Å from where they are"),
        ("atoms.numbers = atoms.numbers[[1, 0, 2]]", "other atoms, or in another order"),
        ("raise SystemExit(3)", "ended with status 3"),
        ("atoms.calc = None", "energy"),
    ],
)
def test_a_command_as_a_level(tmp_path, spoil, message):
    (tmp_path / "level.py").write_text(COMMAND.replace("SPOIL", spoil))
    named = {"command": "python {common}/level.py", "output": "out.xyz"}
    loaded = levels.load(named, tmp_path)
    if message is None:
        energy, forces = levels.evaluate(loaded, molecule("H2O"), tmp_path / "work")
        assert energy == 1.5 and (forces == 0.5).all()
    else:
        with pytest.raises((ValueError, RuntimeError), match=re.escape(message)):
            levels.evaluate(loaded, molecule("H2O"), tmp_path / "work")


def test_the_command_of_the_page_that_labels(tmp_path):
    page = (DOCS / "learning.md").read_text()
    texts = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (label,) = [yaml.safe_load(text)["label"] for text in texts if "orca.sh" in text]
    (tmp_path / "orca.sh").write_text('cp "$(dirname "$0")"/sample frame.out\n')
    (tmp_path / "sample").write_text(outputs.orca(outputs.orca_step()))
    atoms = Atoms(outputs.SYMBOLS, outputs.WATER)
    energy, forces = levels.evaluate(levels.load(label, tmp_path), atoms, tmp_path / "work")
    assert energy == pytest.approx(-76.3 * outputs.HARTREE, rel=1e-6)
    np.testing.assert_allclose(forces, outputs.FORCES, rtol=1e-6, atol=1e-9)


def test_a_function_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="there is no module nowhere; it must be installed"):
        levels.load("nowhere:level", tmp_path)
    with pytest.raises(ValueError, match="has no function nothing"):
        levels.load("json:nothing", tmp_path)
