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

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(deepmd_mask.__file__).parent
MODULES = [library for name in ("", "_cuda") for library in PACKAGE.glob(f"{name}_kernels*.so")]
LIBRARIES = [
    PACKAGE / "libdeepmd_mask.so",
    *MODULES,
    *PACKAGE.glob("libdeepmd_mask_c.so.*"),
]


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


def test_kernels_for_a_gpu_load_where_there_is_none():
    kernels = pytest.importorskip("deepmd_mask._cuda_kernels", reason="needs -DDPMASK_CUDA=ON")
    reason = kernels.reason_against_gpu()
    if not reason:
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeError, match=re.escape(f"no GPU to compute on: {reason}")):
        kernels.Potential([])


def test_the_installed_package_is_tested():
    """Not the folder of the source tree, unless pip was told to install that."""
    url = json.loads(distribution("deepmd-mask").read_text("direct_url.json") or "{}")
    editable = url.get("dir_info", {}).get("editable", False)
    assert editable or Path(__file__).parents[1] / "deepmd_mask" != PACKAGE
    assert all(library.is_file() for library in LIBRARIES)


@pytest.fixture
def clone(tmp_path):
    """Return a repository of two commits and no tag, and a function that runs git in a folder."""
    pytest.importorskip("setuptools_scm", reason="needs pip install --group build")
    if shutil.which("git") is None:
        pytest.skip("needs git")

    def git(*arguments, folder=tmp_path / "clone"):
        name = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *name, *map(str, arguments)], cwd=folder, check=True)

    (tmp_path / "clone").mkdir()
    git("init", "--quiet")
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "clone")
    git("add", ".")
    git("commit", "--quiet", "--message=first")
    git("commit", "--quiet", "--message=second", "--allow-empty")
    return tmp_path / "clone", git


def version_of(folder):
    command = [sys.executable, "-m", "setuptools_scm"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_version_is_that_of_the_tag(clone):
    folder, git = clone
    git("tag", "v7.8.9")
    assert version_of(folder) == "7.8.9"
    git("commit", "--quiet", "--message=third", "--allow-empty")
    assert re.fullmatch(r"7\.8\.10\.dev1\+g\w+", version_of(folder))


def test_version_without_a_tag(clone):
    """Of a clone, of a shallow one, of a folder of files; a source distribution says its own."""
    folder, git = clone
    assert re.fullmatch(r"\d\S*\.dev2\+g\w+", version_of(folder))
    git("clone", "--quiet", "--depth=1", f"file://{folder}", "shallow", folder=folder.parent)
    assert re.fullmatch(r"\d\S*\.dev1\+g\w+", version_of(folder.parent / "shallow"))
    shutil.rmtree(folder / ".git")
    assert re.fullmatch(r"\d\S*\.dev0", version_of(folder))
    (folder / "PKG-INFO").write_text("Metadata-Version: 2.2\nName: deepmd-mask\nVersion: 7.8.9\n")
    assert version_of(folder) == "7.8.9"
