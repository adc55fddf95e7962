# SPDX-License-Identifier: LGPL-3.0-or-later
"""What the build promises of the libraries that it installs."""

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

import deepmd_mask

PACKAGE = Path(deepmd_mask.__file__).parent
LIBRARIES = [PACKAGE / "libdeepmd_mask.so", *PACKAGE.glob("_kernels*.so")]


@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump of binutils")
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda path: path.name)
def test_wide_instructions_stay_with_their_set(library):
    """No function outside avx2 or avx512 may use their registers, or an older machine crashes."""
    lines = subprocess.run(
        ["objdump", "-d", "-C", "--no-show-raw-insn", str(library)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    function, offenders = "", set()
    for line in lines:
        if line.endswith(">:"):
            function = line
        elif re.search(r"%[yz]mm|%k[0-7]\b", line) and "avx" not in function:
            offenders.add(function)
    assert not offenders
    assert any("avx512" in line for line in lines) or "x86" not in sys.implementation._multiarch


def test_importing_the_kernels_does_not_load_tensorflow():
    """Data tools and MD engines import the bindings for themselves."""
    code = "import sys, deepmd_mask._kernels; print('tensorflow' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    assert run.stdout.strip() == "False"


def test_the_installed_package_is_tested():
    """Not the folder of the source tree, unless pip was told to install that."""
    url = json.loads(distribution("deepmd-mask").read_text("direct_url.json") or "{}")
    editable = url.get("dir_info", {}).get("editable", False)
    assert editable or Path(__file__).parents[1] / "deepmd_mask" != PACKAGE
    assert all(library.is_file() for library in LIBRARIES)
