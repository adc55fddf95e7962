# SPDX-License-Identifier: LGPL-3.0-or-later
"""The library for C: a program compiled and run, and the numbers of Python.

Bad input is in test_c_bad_input.py, bad files in test_c_bad_files.py and test_c_model_files.py.
"""

import json
import re
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import helpers
import numpy as np
import pytest
from c_library import LIBRARIES, CPotential, functions
from click.testing import CliRunner
from frozen_models import assert_same_potential, edited, evaluate, with_input

from deepmd_mask import Potential
from deepmd_mask.cli import main

ROOT = Path(__file__).parent.parent
PROGRAM = ROOT / "examples" / "c" / "energy.c"
KINDS = ("model", "compressed", "single", "options")
TYPES = np.array([[2, 0, 1, 0]])
POSITIONS = np.array([[[0, 0, 0], [1.6, 0.2, 0], [0.1, 1.8, 0.4], [-0.3, 0.2, 1.7]]])
CC = shutil.which("cc")
# What every system has: of the loader, of glibc, of GCC.
NEEDED = {"linux-vdso", "ld-linux-x86-64", "ld-linux-aarch64", "libc", "libm", "libpthread"}
NEEDED |= {"libstdc++", "libgcc_s"}

pytestmark = pytest.mark.skipif(not LIBRARIES, reason="built with -DDPMASK_C=OFF")


@pytest.fixture(scope="module")
def options(trained, tmp_path_factory):
    """Return a model with all that its energies may be made of, and a scale of them."""
    from jobs import run

    directory = tmp_path_factory.mktemp("options")
    jdata = json.loads((trained.directory / "input.json").read_text())
    jdata["model"]["descriptor"] |= {"exclude_types": [[0, 1]], "precision": "float32"}
    jdata["model"]["fitting_net"] |= {"atom_ener": [-5.0, None, -11.0], "trainable": True}
    helpers.write_input(directory, jdata)
    run([[directory, "train", "input.json"], [directory, "freeze", "-o", "frozen.pb"]])
    scale = np.array([1.5, 2.0, 0.5]).reshape(1, 3, 1)
    shift = np.array([0.1, -0.2, 0.3]).reshape(1, 3, 1)
    return edited(
        directory / "frozen.pb",
        directory / "scaled.pb",
        model_attr__model_attr__t_out_std=scale,
        model_attr__model_attr__t_out_bias=shift,
    )


@pytest.fixture(params=KINDS)
def model(request, trained):
    if request.param == "options":
        return request.getfixturevalue("options")
    return getattr(trained, request.param)


# ---- A program ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flags():
    result = CliRunner().invoke(main, ["c-flags"])
    assert result.exit_code == 0, result.output
    return shlex.split(result.output)


@pytest.fixture(scope="module")
def program(flags, tmp_path_factory):
    if CC is None:
        pytest.skip("there is no cc")
    target = tmp_path_factory.mktemp("c") / "energy"
    warnings = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2"]
    subprocess.run([CC, *warnings, PROGRAM, "-o", target, *flags], check=True)
    return target


def run_program(program, *arguments):
    environment = {"PATH": "/usr/bin:/bin"}  # nothing of Python's
    command = [program, *arguments]
    return subprocess.run(
        command, env=environment, check=False, capture_output=True, text=True, **helpers.LIMITS
    )


def test_program_prints_the_numbers_of_python(program, trained, tmp_path):
    """Bit for bit: it prints all digits."""
    xyz = tmp_path / "molecule.xyz"
    lines = [
        f"{helpers.TYPE_MAP[t]} {x!r} {y!r} {z!r}"
        for t, (x, y, z) in zip(TYPES[0], POSITIONS[0].tolist(), strict=True)
    ]
    xyz.write_text("\n".join([str(len(lines)), "", *lines]) + "\n")
    done = run_program(program, trained.model, xyz)
    assert done.returncode == 0, done.stderr
    first, *rest = [line.split() for line in done.stdout.splitlines()]
    wanted = Potential(trained.model, device="cpu").evaluate(TYPES[0], POSITIONS[0])
    assert float(first[1]) == wanted.energy
    np.testing.assert_array_equal(np.array([line[1:] for line in rest], float), wanted.forces)
    assert [line[0] for line in rest] == [helpers.TYPE_MAP[t] for t in TYPES[0]]
    for arguments, message in {
        ("none.pb", xyz): "none.pb: there is no such model",
        (trained.model, tmp_path): "ends before",
    }.items():
        done = run_program(program, *arguments)
        assert done.returncode != 0
        assert message in done.stderr


def test_what_program_and_library_need(program):
    if shutil.which("ldd") is None or shutil.which("nm") is None:
        pytest.skip("needs ldd and nm")
    for file in (program, *LIBRARIES):
        said = subprocess.run(["ldd", file], capture_output=True, text=True, check=True).stdout
        names = {Path(line.split()[0]).name.split(".so")[0] for line in said.splitlines()}
        assert names - {"libdeepmd_mask_c"} <= NEEDED
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", *LIBRARIES], capture_output=True, text=True, check=True
    )
    symbols = {line.split()[-1] for line in listed.stdout.splitlines()}
    header = (LIBRARIES[0].parent / "include" / "deepmd_mask.h").read_text()
    assert symbols == set(re.findall(r"\b(dpmask_\w+)\(", header))
    assert LIBRARIES[0].stat().st_size < 25 << 20


def test_header_is_for_c_plus_plus_too(flags, tmp_path):
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no c++")
    source = tmp_path / "version.cc"
    source.write_text(
        "#include <deepmd_mask.h>\n#include <cstdio>\nint main() { puts(dpmask_version()); }\n"
    )
    subprocess.run([compiler, "-Wall", source, "-o", tmp_path / "version", *flags], check=True)
    assert run_program(tmp_path / "version").stdout.strip() == functions()["version"]().decode()


# ---- Numbers ------------------------------------------------------------------------------------


def test_numbers_are_those_of_python(model, trained):
    """Bit for bit those of Potential; those of DeepPot as near as the table of the nets is."""
    frames = trained.frames
    types = np.broadcast_to(frames.types, frames.mask.shape)
    c = CPotential(model)
    found = c.evaluate(types, frames.coord, frames.mask)
    python = Potential(model, device="cpu")
    wanted = python.evaluate(frames.types, frames.coord, frames.mask, virial=True)
    is_mixed = model.name == "scaled.pb"  # rounded in another order
    for name, values in found.items():
        of_python = getattr(wanted, name)
        limit = 1e-13 * np.abs(of_python).max() if is_mixed else 0
        np.testing.assert_allclose(values, of_python, rtol=0, atol=limit, err_msg=name)
    of_graph = evaluate(model, frames)
    results = {"force": found["forces"], "atom_energy": found["energies"][..., None]}
    single = "single" in model.name or is_mixed
    assert_same_potential(results, of_graph, frames.mask, 1e-5 if single else 1e-10)
    c.close()


@pytest.mark.parametrize("kind", ["left out", "of another model"])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_graph_tells_energies_and_not_the_training_input(kind, is_compressed, options, tmp_path):
    """Of DeepPot, Python and C; a file may lack its input, with the energies in vacuum."""
    from jobs import run

    if is_compressed:
        run([[options.parent, "compress", "-i", options.name, "-o", "compressed.pb"]])
        options = options.parent / "compressed.pb"
    model = tmp_path / "changed.pb"
    if kind == "left out":
        edited(options, model, drop=["train_attr/training_script"])
    else:
        with_input(options, model, lambda script: script["model"]["fitting_net"].pop("atom_ener"))
    frame = helpers.random_frames(nframes=1)
    types, real = frame.types, frame.mask[0] != 0
    wanted = evaluate(model, frame)
    found = {
        "Python": Potential(model, device="cpu").evaluate(types, frame.coord, frame.mask).energies,
        "C": CPotential(model).evaluate([types], frame.coord, frame.mask)["energies"],
    }
    wanted = wanted["atom_energy"][..., 0]
    for name, energies in found.items():
        limit = 1e-5 * np.abs(wanted).max()
        np.testing.assert_allclose(energies * real, wanted * real, atol=limit, err_msg=name)


def test_what_is_not_wanted(trained):
    c = CPotential(trained.model)
    wanted = c.evaluate(TYPES, POSITIONS)
    for names in ("", "energy", "forces", "virial", "energies forces"):
        for name, values in c.evaluate(TYPES, POSITIONS, wanted=names).items():
            np.testing.assert_array_equal(values, wanted[name])
    np.testing.assert_allclose(wanted["energy"], wanted["energies"].sum(axis=1), rtol=1e-14)


def test_what_it_says_of_the_model(trained):
    c = CPotential(trained.model, threads=3)
    names = [c.c["type_name"](c.handle, t).decode() for t in range(3)]
    assert (c.c["ntypes"](c.handle), names) == (3, helpers.TYPE_MAP)
    assert [c.c["type_of"](c.handle, name.encode()) for name in [*names, "FE"]] == [0, 1, 2, -1]
    assert [c.c["sel"](c.handle, t) for t in (0, 1, 2, 3, -1)] == [*helpers.SLOTS, -1, -1]
    assert c.c["type_name"](c.handle, 3) is None
    assert c.c["type_of"](c.handle, None) == -1
    assert c.c["threads"](c.handle) == 3


def test_threads_at_once(trained):
    """Eight threads of the system on one potential, in which none waits for Python's lock."""
    alone = CPotential(trained.model, threads=1)
    frames = [POSITIONS * (1 + 0.01 * k) for k in range(40)]
    wanted = [alone.evaluate(TYPES, frame) for frame in frames]
    shared = CPotential(trained.model, threads=2)
    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(
            pool.map(lambda frame: shared.evaluate(TYPES, frame), frames), wanted, strict=True
        ):
            for name, values in one.items():
                np.testing.assert_array_equal(values, other[name])


def test_no_atoms_and_no_frames(trained):
    c = CPotential(trained.model)
    assert c.evaluate(np.zeros((2, 0)), np.zeros((2, 0, 3)))["energy"].tolist() == [0, 0]
    assert c.evaluate(np.zeros((0, 4)), np.zeros((0, 4, 3)))["energy"].shape == (0,)
    found = c.evaluate(np.full((1, 4), -1), POSITIONS * np.nan, np.zeros((1, 4)))
    assert all(not values.any() for values in found.values())
