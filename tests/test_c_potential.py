# SPDX-License-Identifier: LGPL-3.0-or-later
"""The library for C: a program compiled and run, the numbers of Python, bad input, bad files."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import helpers
import numpy as np
import pytest
from c_library import LIBRARIES, CError, CPotential, functions
from click.testing import CliRunner
from frozen_models import REAL_ATOMS, assert_same_potential, edited, evaluate

from deepmd_mask import Potential, _kernels
from deepmd_mask.cli import main

ROOT = Path(__file__).parent.parent
PROGRAM = ROOT / "examples" / "c" / "energy.c"
SEEDS = sorted((ROOT / "tests" / "fuzz" / "seeds").glob("*.pb"))
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


# ---- Bad input ----------------------------------------------------------------------------------


def bad_atoms():
    """Yield types, positions and weights of which one is wrong, with the frame and atom."""
    two = np.repeat(POSITIONS, 2, axis=0)
    types, weights = np.repeat(TYPES, 2, axis=0), np.ones((2, 4))

    def changed(array, index, value):
        array = array.copy()
        array[index] = value
        return array

    yield types, two, changed(weights, (1, 2), 0.9), (1, 2)
    yield types, two, changed(weights, (0, 0), np.nan), (0, 0)
    yield types, changed(two, (1, 3, 1), np.inf), weights, (1, 3)
    yield types, changed(two, (0, 3), two[0, 1]), weights, (0, 1)
    yield changed(types, (1, 1), 3), two, weights, (1, 1)
    yield changed(types, (0, 1), -1), two, weights, (0, 1)


@pytest.mark.parametrize("case", range(6))
def test_bad_atoms_have_the_messages_of_python(trained, case):
    types, positions, weights, (frame, atom) = list(bad_atoms())[case]
    c, python = CPotential(trained.model), Potential(trained.model, device="cpu")
    with pytest.raises(CError) as by_c:
        c.evaluate(types, positions, weights)
    with pytest.raises(ValueError) as by_kernels:
        python._kernels.evaluate(types.astype(np.int32), positions, weights)
    assert str(by_c.value) == str(by_kernels.value)
    assert str(by_c.value).startswith(f"frame {frame}, atom {atom}: ")
    assert _kernels.AtomFault is type(by_kernels.value.fault)
    c.evaluate(TYPES, POSITIONS)  # goes on


def test_bad_arguments(trained):
    c = CPotential(trained.model).c
    handle = c["open"](str(trained.model).encode(), 0)
    nothing = [None] * 7
    for arguments, message in {
        (None, 1, 1): "potential is NULL",
        (handle, -1, 1): "nframes and natoms must be 0 or more",
        (handle, 1, 1): "types and positions must not be NULL",
        (handle, 1 << 40, 1 << 40): "too large",
    }.items():
        assert c["evaluate"](*arguments, *nothing) == -1
        assert message in c["error"]().decode()
    for arguments, message in {(None, 0): "path is NULL", (b"x.pb", -1): "threads must be"}.items():
        assert c["open"](*arguments) is None
        assert message in c["error"]().decode()
    c["close"](None)


def test_each_thread_has_its_own_error(trained):
    c = functions()
    assert c["open"](b"here.pb", 0) is None
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(c["error"]).result() == b""
    assert b"here.pb" in c["error"]()


# ---- Bad files ----------------------------------------------------------------------------------


def opened(files):
    """Open files in a process with little memory; return what is said of each, and new memory."""
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "c_library.py", *files],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **helpers.LIMITS,
    )
    assert done.returncode == 0, done.stderr
    return [(said, grown) for said, grown in json.loads(done.stdout)]


def refused(files, *messages):
    """Open files, none of which must be a model."""
    for file, (said, grown) in zip(files, opened(files), strict=True):
        assert str(file) in said, said
        assert any(message in said for message in messages), said
        assert grown < (64 << 20) + 8 * file.stat().st_size


@pytest.mark.parametrize("kind", ["model", "compressed"])
def test_cut_files(trained, kind, tmp_path):
    """Anywhere, between fields too; a cut that leaves a whole message lacks nodes."""
    whole = getattr(trained, kind).read_bytes()
    files = []
    for k, size in enumerate(np.linspace(0, len(whole) - 1, 60).astype(int).tolist()):
        files.append(tmp_path / f"cut{k}.pb")
        files[-1].write_bytes(whole[:size])
    refused(files, "not a whole one", "lacks the node")


def test_no_models(trained, tmp_path):
    files = {"text.pb": b"a model\n", "zeros.pb": bytes(4096), "group.pb": b"\x0b" * 99}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    refused([tmp_path / name for name in files], "is not a frozen model")
    (folder, _), (absent, _) = opened([tmp_path, tmp_path / "none.pb"])
    assert f"{tmp_path}: it is no file" in folder
    assert f"{tmp_path / 'none.pb'}: there is no such model" in absent


def lying(source, target, name=None, op=None, change=None):
    """Write a model of which one node has been changed, and return its path."""
    seen = []

    def once(node):
        if (name is None or node.name == name) and (op is None or node.op == op) and not seen:
            seen.append(node.name)
            change(node)

    path = edited(source, target, change=once)
    assert seen, (name, op)
    return path


def set_sizes(*sizes):
    """Return a change of a constant's shape, not of its numbers."""

    def change(node):
        shape = node.attr["value"].tensor.tensor_shape
        del shape.dim[:]
        for size in sizes:
            shape.dim.add(size=size)

    return change


def set_list(attribute, values):
    def change(node):
        node.attr[attribute].list.i[:] = values

    return change


def set_number(attribute, value):
    def change(node):
        node.attr[attribute].i = value

    return change


def set_text(attribute, value):
    def change(node):
        node.attr[attribute].s = value

    return change


def take_inputs_often(node):
    """Let thousands of parameters be one constant, which the file has once."""
    node.input.extend(list(node.input[2:]) * 2000)


def keep_one_number(node):
    tensor = node.attr["value"].tensor
    tensor.tensor_content = b""
    tensor.double_val[:] = [1.0]


def of_size_of_all_memory(node):
    keep_one_number(node)
    set_sizes(1 << 40)(node)


MATRIX, BIAS = "layer_0_type_0/matrix", "fitting_attr/t_bias_atom_e"
EMBED, CONTRACT = "PipInstallDeepmdMask>Embed", "PipInstallDeepmdMask>Contract"
ENERGIES = "PipInstallDeepmdMask>Energies"
LIES = [
    ({"name": MATRIX, "change": set_sizes(10**9, 10**9)}, "more numbers than there are|numbers, b"),
    ({"name": MATRIX, "change": set_sizes(10**5, 10**4)}, "numbers, but"),
    ({"name": MATRIX, "change": set_sizes(-1)}, "a shape that is none"),
    ({"name": MATRIX, "change": set_sizes(*[1] * 300)}, "a shape that is none"),
    ({"name": MATRIX, "change": of_size_of_all_memory}, "numbers, but 1"),
    ({"name": BIAS, "change": set_sizes(2)}, "numbers, but 3"),
    ({"op": EMBED, "change": set_list("neuron", [10**9] * 3)}, "differ in neuron"),
    ({"op": EMBED, "change": set_list("net", [7] * 9)}, "differ in net"),
    ({"op": REAL_ATOMS, "change": set_list("sel", [10**12, 1, 1])}, "sel is too large"),
    ({"op": REAL_ATOMS, "change": set_list("sel", [5, 4])}, "sel"),
    ({"op": REAL_ATOMS, "change": set_list("sel", [])}, "0 types"),
    ({"op": CONTRACT, "change": set_number("M2", 10**9)}, "differ in M2"),
    ({"op": ENERGIES, "change": set_list("neuron", [10**9])}, "wide|numbers"),
    ({"op": ENERGIES, "change": set_list("neuron", [9] * 100)}, "numbers"),
    ({"op": ENERGIES, "change": take_inputs_often}, "more numbers than the file can have"),
    ({"op": ENERGIES, "change": set_text("activation", b"tnh")}, 'unknown activation.*"tnh"'),
    ({"op": ENERGIES, "change": set_text("activation", b"\n" * 10**6)}, r"\?\.\.\.$"),
    ({"name": "train_attr/min_nbor_dist", "change": set_sizes(2)}, "numbers, but 1|not one number"),
]


@pytest.mark.parametrize("lie", range(len(LIES)))
def test_lying_files(trained, tmp_path, lie):
    changes, message = LIES[lie]
    file = lying(trained.model, tmp_path / "lying.pb", **changes)
    ((said, grown),) = opened([file])
    assert str(file) in said
    assert re.search(message, said), said
    assert grown < 64 << 20


def test_other_models(trained, tmp_path):
    """Of a later version, the built-in, another descriptor, with more parameters."""
    later = set_number("ops_version", _kernels.OPS_VERSION + 1)

    def renamed(op):
        def change(node):
            node.op = op

        return change

    files = {
        "later.pb": ({"op": REAL_ATOMS, "change": later}, "run pip install -U deepmd-mask"),
        "unknown.pb": (
            {"op": ENERGIES, "change": renamed("PipInstallDeepmdMask>Smear")},
            "PipInstallDeepmdMask>Smear, which the installed version does not know",
        ),
        "builtin.pb": ({"op": REAL_ATOMS, "change": renamed("DescrptSeAMask")}, "dp-mask convert"),
        "other.pb": (
            {"op": REAL_ATOMS, "change": renamed("DescrptSeA")},
            "not a model with se_a_mask",
        ),
    }
    for name, (changes, message) in files.items():
        refused([lying(trained.model, tmp_path / name, **changes)], message)
    framed = edited(trained.model, tmp_path / "framed.pb", fitting_attr__dfparam=np.int32(2))
    refused([framed], "2 frame parameters")
    dipole = edited(trained.model, tmp_path / "dipole.pb", model_attr__model_type=b"dipole")
    refused([dipole], "of energies but of dipole")


def test_one_number_that_stands_for_all(trained, tmp_path):
    """As TensorFlow writes constants whose numbers are all the same."""
    file = lying(trained.model, tmp_path / "ones.pb", MATRIX, change=keep_one_number)
    found = CPotential(file).evaluate(TYPES, POSITIONS)
    wanted = Potential(file, device="cpu").evaluate(TYPES, POSITIONS)
    np.testing.assert_array_equal(found["forces"], wanted.forces)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: path.name)
def test_seeds_of_the_fuzzing_are_models(seed):
    """They are shortened, so that other readers do not take them."""
    c = CPotential(seed)
    found = c.evaluate([[0, 1, 0]], POSITIONS[:, :3])
    assert all(np.isfinite(values).all() for values in found.values())
    assert np.abs(found["forces"]).max() > 0


def test_energies_of_compressed_models_are_those_of_their_graphs():
    """With given energies in vacuum, taken off in the graph; float32, tables that are exact."""
    folder = SEEDS[0].parent
    frozen, compressed = (
        CPotential(folder / f"options-{kind}.pb").evaluate([[0, 1, 0]], POSITIONS[:, :3])
        for kind in ("frozen", "compressed")
    )
    for name, values in frozen.items():
        limit = 1e-5 * np.abs(values).max()
        np.testing.assert_allclose(compressed[name], values, rtol=0, atol=limit, err_msg=name)


def test_there_are_seeds():
    assert len(SEEDS) >= 4
    assert all(path.stat().st_size < 16 << 10 for path in SEEDS)
