# SPDX-License-Identifier: LGPL-3.0-or-later
"""A wheel is for other machines, too, and takes no compiler."""

import json
import os
import resource
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import helpers
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "zinc_protein"
COMPILERS = ("c++", "g++", "clang++", "cc", "gcc", "clang", "nvcc", "cmake", "ninja", "make")


def run(command, **options):
    """Run a command and return what it says, which is shown if it fails."""
    done = subprocess.run(
        list(map(str, command)),
        **options,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, helpers.tail(done.stdout)
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return the wheel that DP_MASK_TEST_WHEEL names; or, if none, one built as docs say."""
    if "DP_MASK_TEST_WHEEL" in os.environ:
        return Path(os.environ["DP_MASK_TEST_WHEEL"])
    how = "a wheel takes pip install --group build, and g++; or name one in DP_MASK_TEST_WHEEL"
    for module in ("auditwheel", "pybind11", "scikit_build_core", "setuptools_scm"):
        pytest.importorskip(module, reason=how)
    if not shutil.which("c++"):
        pytest.skip(how)
    home = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", ROOT]
    run([*build, "--wheel-dir", home / "built"])
    repair = [sys.executable, "-m", "auditwheel", "repair", *home.glob("built/*.whl")]
    run([*repair, "--exclude", "libtensorflow_framework.so.2", "--wheel-dir", home])
    (repaired,) = home.glob("*.whl")
    return repaired


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """Install the wheel into an environment that sees all other packages of this one."""
    home = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", "--without-pip", home])
    python = home / "bin" / "python"
    scheme = {"base": home, "platbase": home}
    packages = Path(sysconfig.get_path("platlib", "venv", scheme))
    # As a path, and so after the environment's own; an editable installation there does not count.
    others = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (packages / "others.pth").write_text("\n".join(others) + "\n")
    start = seconds_of_children()
    pip = [sys.executable, "-m", "pip", "--python", python]
    # It may be there already, among the packages of the other environment.
    run([*pip, "install", "--no-deps", "--ignore-installed", wheel])
    assert seconds_of_children() - start < 60
    return python


def seconds_of_children():
    """Return what processes that have ended have computed, however busy the machine is."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_the_wheel_says_where_it_runs_and_has_its_libraries_alone(wheel):
    assert "-manylinux_2_" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert "deepmd_mask/libdeepmd_mask.so" in names
    tops = {name.split("/")[0] for name in names}
    assert {top.split("-")[0] for top in tops} == {"deepmd_mask"}
    files = [Path(name) for name in names if name.startswith("deepmd_mask/") and name[-1] != "/"]
    for_c = {"libdeepmd_mask_c.so.1", "deepmd_mask.h"}
    assert for_c <= {file.name for file in files}
    of_example = Path("deepmd_mask/learning/example")  # which `dp-mask learn init` writes
    others = [file for file in files if file.name not in for_c and file.parent != of_example]
    assert {file.suffix for file in others} <= {".py", ".so", ".typed"}
    assert {"learn.yaml", "input.json"} <= {f.name for f in files if f.parent == of_example}
    assert sum(file.name.startswith("_kernels.") for file in files) == 1


def test_example_starts_without_a_compiler(python, tmp_path):
    """The first steps of examples/zinc_protein, with nothing else in PATH."""
    path = str(python.parent)
    assert not any(shutil.which(name, path=path) for name in COMPILERS)
    jdata = json.loads((EXAMPLE / "input.json").read_text())
    jdata["learning_rate"]["decay_steps"] = 1
    jdata["training"] |= {"numb_steps": 2, "disp_freq": 1}
    helpers.write_input(tmp_path, jdata)
    (tmp_path / "data").symlink_to(EXAMPLE / "data")
    jobs = [["train", "input.json"], ["freeze", "-o", "model.pb"]]
    (tmp_path / "jobs.json").write_text(json.dumps([[str(tmp_path), *job] for job in jobs]))
    not_of_users = ("PYTHONPATH", "TF_USE_LEGACY_KERAS")
    environment = {name: value for name, value in os.environ.items() if name not in not_of_users}
    environment["PATH"] = path
    for command in (
        [python, helpers.TESTS / "jobs.py", "jobs.json"],
        [python.with_name("dp-mask"), "info", "model.pb"],
    ):
        said = run(command, cwd=tmp_path, env=environment)
    assert "made by         deepmd-mask" in said
    curve = np.loadtxt(tmp_path / "lcurve.out")
    assert np.isfinite(curve).all()
    assert curve[-1, 0] == 2
