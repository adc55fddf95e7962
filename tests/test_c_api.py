# SPDX-License-Identifier: LGPL-3.0-or-later
"""The C program of examples/c_api: what DeePMD-kit's C library gives are the numbers of Python."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from deepmd.env import SHARED_LIB_DIR
from frozen_models import evaluate
from helpers import LIMITS, TYPE_MAP

import deepmd_mask

SOURCE = Path(__file__).parent.parent / "examples" / "c_api" / "evaluate.c"
LIBRARY = Path(deepmd_mask.__file__).parent / "libdeepmd_mask.so"
TENSORFLOW = importlib.util.find_spec("tensorflow").submodule_search_locations[0]


def compiled(source, program):
    """Compile a program of the C API and return it."""
    compiler = shutil.which("gcc")
    if not compiler:
        pytest.skip("there is no gcc")
    warnings = ["-std=c99", "-Wall", "-Wextra", "-Werror"]
    link = [f"-L{SHARED_LIB_DIR}", "-ldeepmd_c", f"-Wl,-rpath,{SHARED_LIB_DIR}"]
    subprocess.run([compiler, *warnings, source, "-o", program, *link], check=True)
    return program


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return compiled(SOURCE, tmp_path_factory.mktemp("c_api") / "evaluate")


def run(program, model, names, mask, coord, **environment):
    """Run the program on a file of atoms that is written beside it."""
    file = program.parent / "atoms.txt"
    file.write_text(
        "".join(
            f"{name} {m:g} {x:.17g} {y:.17g} {z:.17g}\n"
            for name, m, (x, y, z) in zip(names, mask, coord, strict=True)
        )
    )
    return run_file(program, model, file, **environment)


def run_file(program, model, file, **environment):
    return subprocess.run(
        [program, model, file],
        env={**os.environ, "DP_PLUGIN_PATH": str(LIBRARY), "LD_LIBRARY_PATH": TENSORFLOW}
        | environment,
        check=False,
        **LIMITS,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("kind", "padded", "tolerance"),
    [
        ("model", True, 1e-10),
        ("model", False, 1e-10),
        ("compressed", False, 1e-10),
        ("single", False, 1e-5),
    ],
)
def test_numbers_of_python(program, trained, kind, padded, tolerance):
    """Shuffled, with the virtual atoms of the frame or without."""
    model = getattr(trained, kind)
    frames, frame = trained.frames, 0
    slots = np.arange(len(frames.types)) if padded else np.flatnonzero(frames.mask[frame])
    slots = np.random.default_rng(0).permutation(slots)
    names = [TYPE_MAP[t] for t in frames.types[slots]]
    done = run(program, model, names, frames.mask[frame, slots], frames.coord[frame, slots])
    assert done.returncode == 0, done.stderr
    first, *rest = [line.split() for line in done.stdout.splitlines()]
    wanted = evaluate(model, frames.take([frame]))
    close = {"rtol": 0, "atol": tolerance}
    np.testing.assert_allclose(float(first[1]), wanted["energy"][0, 0], **close)
    forces = np.array([line[3:6] for line in rest], float)
    np.testing.assert_allclose(forces, wanted["force"][0, slots], **close)
    energies = np.array([line[7] for line in rest], float)
    np.testing.assert_allclose(energies, wanted["atom_energy"][0, slots, 0], **close)
    assert np.abs(forces).max() > 1e-3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("O 0.9 0 0 0\nC 1 5 5 5", "the mask must be 1"),
        ("FE 1 0 0 0", "FE is not among the model's types"),
        ("O 1 0 nan 0", "a coordinate is not a finite number"),
        ("O 1 0 0", "expected NAME MASK X Y Z"),
        ("O 1 3\n", "expected NAME MASK X Y Z"),
        ("O 1 0 0\nC 1 5 5 5", "expected NAME MASK X Y Z"),
        ("O 1 0 0 0 C", "expected NAME MASK X Y Z"),
        ("O 1 0 0 0" + 300 * " ", "the line is too long"),
    ],
)
def test_bad_line_is_named(program, trained, tmp_path, line, message):
    """At the end of the file, where a copy may have been cut off, and before other lines."""
    file = tmp_path / "atoms.txt"
    file.write_text(f"ZN 1 1 0 0\n\n{line}")
    done = run_file(program, trained.model, file)
    assert done.returncode != 0
    assert f"{file}, line 3: {message}" in done.stderr
    assert "energy" not in done.stdout


def test_empty_file(program, trained, tmp_path):
    file = tmp_path / "atoms.txt"
    file.write_text("\n")
    done = run_file(program, trained.model, file)
    assert done.returncode != 0
    assert "there are no atoms" in done.stderr


def test_message_of_the_library(program, trained):
    """It counts atoms sorted by type, as docs/c_api.md says."""
    done = run(
        program, trained.model, [TYPE_MAP[1], *[TYPE_MAP[0]] * 2], [1] * 3, np.eye(3)[[2, 0, 0]]
    )
    assert done.returncode != 0
    assert "frame 0, atom 0: at the same point as atom 1 (distance 0)" in done.stderr


def test_atoms_are_real_or_virtual(trained, tmp_path):
    """To the library, too, where a program does not look."""
    look = "mask != 0 && mask != 1"
    text = SOURCE.read_text()
    assert text.count(look) == 1
    (tmp_path / "blind.c").write_text(text.replace(look, "mask < 0"))
    blind = compiled(tmp_path / "blind.c", tmp_path / "blind")
    for model in (trained.model, trained.compressed):
        done = run(blind, model, TYPE_MAP[:2], [1, 0.5], np.eye(3)[:2])
        assert done.returncode != 0
        assert "frame 0, atom 1: mask value 0.5 is neither 0 nor 1" in done.stderr
        assert "energy" not in done.stdout


def test_cell_is_refused(trained, tmp_path):
    call = "atoms.type, NULL, NULL,"
    text = SOURCE.read_text()
    assert text.count(call) == 1
    cell = "(const double[9]){50, 0, 0, 0, 50, 0, 0, 0, 50}"
    (tmp_path / "boxed.c").write_text(text.replace(call, f"atoms.type, {cell}, NULL,"))
    boxed = compiled(tmp_path / "boxed.c", tmp_path / "boxed")
    done = run(boxed, trained.model, TYPE_MAP[:2], [1] * 2, np.eye(3)[:2])
    assert done.returncode != 0
    assert "the input is periodic, it has a box" in done.stderr
    done = run(boxed, trained.model, TYPE_MAP[:2], [1] * 2, np.eye(3)[:2], DP_MASK_IGNORE_BOX="1")
    assert done.returncode == 0, done.stderr
