# SPDX-License-Identifier: LGPL-3.0-or-later
"""The road of examples/dpmm_openmm in miniature, its data and its models."""

import csv
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import ase.io
import forks
import numpy as np
import openmm as mm
import pytest
import yaml
from openmm import app, unit

from deepmd_mask import Potential
from deepmd_mask.ase import MaskedDP
from deepmd_mask.data import check
from deepmd_mask.evaluation import evaluate

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "dpmm_openmm"
KJ_MOL = (1 * unit.kilojoule_per_mole / unit.AVOGADRO_CONSTANT_NA).value_in_unit(unit.ev)


def run(*command):
    """Run a script of the example and return what it prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, EXAMPLE / command[0], *map(str, command[1:])],
        env={**os.environ, "PATH": path, **forks.environment()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def script(monkeypatch):
    """Return what imports a script of the example, which others call alike."""
    names = {path.stem for path in EXAMPLE.glob("*.py")}
    others = {name: sys.modules.pop(name) for name in names & set(sys.modules)}
    monkeypatch.syspath_prepend(EXAMPLE)
    yield importlib.import_module
    for name in names & set(sys.modules):
        del sys.modules[name]
    sys.modules.update(others)


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    path = tmp_path_factory.mktemp("dpmm") / "box.pdb"
    subprocess.run(
        [
            sys.executable,
            "-c",
            f"import pathlib, system; system.build(pathlib.Path({str(path)!r}), 20, 100)",
        ],
        cwd=EXAMPLE,
        check=True,
    )
    return path


@pytest.fixture(scope="module")
def learned(box, tmp_path_factory):
    """Return the folder of a loop that has converged, and what was told."""
    folder = tmp_path_factory.mktemp("learned") / "run"
    return folder, run("learn.py", "--quick", "--seed", 5, "--output", folder, "--box", box)


def test_loop(learned):
    """It explores with springs, then with the committee, which is trusted with everything here."""
    folder, told = learned
    assert "converged in iteration 1: 2 models" in told
    assert yaml.safe_load((folder / "learn.yaml").read_text())["seed"] == 5
    first, second = (
        [a for path in sorted(folder.glob(f"iter.00000{k}/explore/*.xyz")) for a in frames(path)]
        for k in (0, 1)
    )
    assert len(first) == len(second) == 12
    assert all("deviation" not in atoms.arrays for atoms in first)
    assert [("deviation" in atoms.arrays) for atoms in second] == [True, True, False, False] * 3
    models = [Potential(path) for path in sorted(folder.glob("iter.000000/train/graph.*.pb"))]
    types = [models[0].type_map.index(s.upper()) for s in second[0].symbols]
    forces = [one.evaluate(types, second[0].positions).forces for one in models]
    spread = np.linalg.norm(forces[0] - forces[1], axis=1) / 2
    # The nets are of float32.
    np.testing.assert_allclose(second[0].arrays["deviation"], spread, rtol=1e-4, atol=1e-5)


def test_a_folder_that_differs_from_what_is_asked(script, monkeypatch, tmp_path):
    """It is refused, whatever was begun there; without these options the loop goes on with it."""
    learn = script("learn")
    monkeypatch.setattr(learn, "load", lambda _: None)
    box, other = tmp_path / "box.pdb", tmp_path / "other.pdb"
    monkeypatch.setattr(learn, "BOX", box)
    box.write_text("one")
    other.write_text("other")
    folder = tmp_path / "run"
    asked = {"box": box, "quick": True, "seed": 5}
    for changes in ({}, {"seed": None}, {"quick": False}, {"box": None, "seed": None}):
        learn.prepare(folder, **{**asked, **changes})
    found = yaml.safe_load((folder / "learn.yaml").read_text())
    assert (found["seed"], found["models"]) == (5, 2)
    for changes, message in (
        ({"seed": 6}, "learn.yaml is there, and is not as --seed"),
        ({"box": other}, "box.pdb is another box than"),
    ):
        with pytest.raises(ValueError, match=message):
            learn.prepare(folder, **{**asked, **changes})
    learn.prepare(tmp_path / "whole", box)
    with pytest.raises(ValueError, match=r"learn\.yaml is there, and is not as"):
        learn.prepare(tmp_path / "whole", box, quick=True)


def test_a_kill_leaves_no_file_unchanged(script, monkeypatch, tmp_path):
    """Where learn.yaml is, it is what was asked for, and asking again makes it."""
    learn = script("learn")
    monkeypatch.setattr(learn, "load", lambda _: None)
    (tmp_path / "box.pdb").write_text("box")
    asked = {"folder": tmp_path / "run", "box": tmp_path / "box.pdb", "quick": True, "seed": 5}
    whole = os.replace

    def killed(part, path):
        if path.name == "learn.yaml":
            raise KeyboardInterrupt
        whole(part, path)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "replace", killed)
        learn.prepare(**asked)
    assert (tmp_path / "run" / "site.pdb").exists()
    assert not (tmp_path / "run" / "learn.yaml").exists()
    learn.prepare(**asked)
    found = yaml.safe_load((tmp_path / "run" / "learn.yaml").read_text())
    assert (found["seed"], found["models"]) == (5, 2)


def frames(path):
    return ase.io.read(path, index=":")


def test_cuts(learned, script):
    """The second one has waters up to another radius, and may lack some beyond zinc's shell."""
    explore = script("explore")
    folder, _ = learned
    others = 0
    for path in folder.glob("iter.*/explore/*.xyz"):
        for regular, other in zip(frames(path)[:2], frames(path)[2:], strict=True):
            distance = {
                k: np.linalg.norm(r)
                for atoms in (regular, other)
                for k, r in zip(
                    atoms.arrays["index"],
                    atoms.positions - atoms.positions[atoms.symbols == "Zn"],
                    strict=True,
                )
            }
            one, two = (set(atoms.arrays["index"].tolist()) for atoms in (regular, other))
            for atoms in (regular, other):
                assert sum(atoms.symbols == "Zn") == 1 and sum(atoms.symbols == "C") == 17
                assert sum(atoms.symbols == "H") == 24 + 2 * (sum(atoms.symbols == "O") - 4)
            assert all(distance[k] > 10 * explore.SHELL for k in one - two)
            others += one != two
    assert others > 0


def test_labels_are_xtb_minus_force_field(learned, box):
    """Computed here from the topology, without the example's own tools."""
    from tblite.ase import TBLite

    folder, _ = learned
    atoms = frames(folder / "iter.000000" / "label" / "labelled.xyz")[0]
    pdb = app.PDBFile(str(box))
    index = set(atoms.get_array("index").tolist())
    assert index >= {a.index for a in pdb.topology.atoms() if a.residue.name not in ("HOH", "CL")}
    part = app.Modeller(pdb.topology, pdb.positions)
    part.delete([a for a in pdb.topology.atoms() if a.index not in index])
    field = app.ForceField("amber14/protein.ff14SB.xml", "amber14/tip3p.xml")
    system = field.createSystem(part.topology, rigidWater=False)
    context = mm.Context(system, mm.VerletIntegrator(0.001))
    context.setPositions(atoms.positions * unit.angstrom)
    state = context.getState(getEnergy=True, getForces=True)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    atoms.calc = TBLite(method="GFN2-xTB", charge=2, verbosity=0)
    expected = atoms.get_potential_energy() - state.getPotentialEnergy()._value * KJ_MOL
    assert energy == pytest.approx(expected, rel=0, abs=1e-3)
    expected = atoms.get_forces() - np.array(state.getForces(asNumpy=True)._value) * KJ_MOL / 10
    np.testing.assert_allclose(forces, expected, rtol=0, atol=5e-3)


def test_energy_of_a_water(learned, box, script):
    """What insertion.py says is the difference to a frame without that water, labelled anew."""
    explore, insertion, system = map(script, ("explore", "insertion", "system"))
    folder, _ = learned
    models = sorted(folder.glob("iter.000000/train/graph.*.pb"))
    held_out = [a for p in sorted(folder.glob("iter.*/label/held_out.xyz")) for a in frames(p)]
    loaded = system.load(box)
    with_outer = [a for a in held_out if len(explore.outer_waters(loaded, a)[0])]
    both = MaskedDP(models), script("levels").Correction(loaded.topology, loaded.positions)
    by_models, by_labels = insertion.insertion(*both, loaded, held_out)
    assert len(by_models) == len(by_labels) == len(with_outer) > 0
    atoms, rng = with_outer[0], np.random.default_rng(1)
    waters, _ = explore.outer_waters(loaded, atoms)
    fewer = atoms.copy()
    del fewer[waters[rng.integers(len(waters))]]
    assert len(fewer) == len(atoms) - 3
    found = []
    for part in (atoms.copy(), fewer):
        part.calc = MaskedDP(models)
        found.append(part.get_potential_energy())
    assert by_models[0] == pytest.approx(found[0] - found[1], abs=1e-6)
    assert -140 < by_labels[0] < -135  # a molecule of water has -138.0 in GFN2-xTB


def test_simulations(learned, box):
    """Without and with the models of the loop, and plots."""
    folder, _ = learned
    printed = run("run.py", "--output", folder, "--picoseconds", "0.24", "--box", box)
    assert "iter.000001/train/graph.001.pb" in printed and "coordination number" in printed
    for name in ("ligands.png", "structure.png"):
        assert (folder / name).stat().st_size > 10000
    for name in ("mm", "corrected"):
        lines = rows(folder / f"{name}.csv")
        assert [line["time_ps"] for line in lines] == [f"{0.04 * k:.3f}" for k in range(1, 7)]
        assert all(1.5 < float(line["zn_n1"]) < 3.5 for line in lines)
        assert all(2 <= int(line["coordination"]) <= 8 for line in lines)
        with np.load(folder / f"{name}.npz") as found:
            nearest = np.linalg.norm(found["r"], axis=2)
            bound = (nearest < 2.8).sum(axis=1)
            assert found["density"] == pytest.approx(0.03, abs=0.004)
        assert bound.tolist() == [int(line["coordination"]) for line in lines]
        assert (np.diff(nearest) >= 0).all()


def test_structure(script):
    """An ideal gas has g = 1; an octahedron has angles of 90 and 180 degrees."""
    plot = script("plot")
    rng = np.random.default_rng(1)
    r = rng.uniform(-6, 6, size=(4000, 60, 3))
    order = np.argsort(np.linalg.norm(r, axis=2), axis=1)[:, :50]  # the nearest, as md.py keeps
    r = np.take_along_axis(r, order[:, :, None], axis=1)
    g = plot.radial_distribution(r, np.ones(r.shape[:2], bool), 60 / 12**3)
    known = np.isfinite(g)
    assert g[known].mean() == pytest.approx(1, abs=0.02)
    assert plot.SHELLS[1:][known].max() <= np.linalg.norm(r[:, -1], axis=1).min()
    octahedron = 2.1 * np.vstack([np.eye(3), -np.eye(3), [[2, 0, 0]]])
    found = np.sort(plot.angles(octahedron[None]))
    np.testing.assert_allclose(found, [90.0] * 12 + [180.0] * 3)


def test_direct(box, tmp_path):
    """The exact correction runs, too, and leaves labelled frames."""
    name = tmp_path / "direct"
    run("direct.py", "--box", box, "--output", name, "--picoseconds", "0.04")
    (line,) = rows(tmp_path / "direct.csv")
    assert 1.5 < float(line["zn_n2"]) < 3.0
    (atoms,) = frames(tmp_path / "direct.xyz")
    assert atoms.get_forces().shape == (len(atoms), 3) and len(atoms.arrays["index"]) == len(atoms)


def test_data_and_models(tmp_path):
    """They are small, the data are without errors, and the models are a committee for them."""
    type_map = yaml.safe_load((EXAMPLE / "learn.yaml").read_text())["type_map"]
    jdata = json.loads((EXAMPLE / "input.json").read_text())
    data = [str(EXAMPLE / "data" / name) for name in ("train", "validation")]
    jdata["model"]["type_map"] = type_map  # as the loop does
    jdata["training"]["training_data"]["systems"] = data
    (tmp_path / "input.json").write_text(json.dumps(jdata))
    checked = check(data, tmp_path / "input.json")
    assert checked.errors == 0, checked.as_text()
    shipped = [file for name in ("data", "models") for file in (EXAMPLE / name).rglob("*")]
    assert sum(file.stat().st_size for file in shipped if file.is_file()) < 2e7
    committee = Potential(sorted((EXAMPLE / "models").glob("*.pb")))
    assert committee.type_map == type_map


def test_committee_is_right_about_held_out_frames():
    """Of trajectories that none of its frames come from: forces on preferred atoms, in eV/Å."""
    models = sorted((EXAMPLE / "models").glob("*.pb"))
    found = evaluate(models, [EXAMPLE / "data" / "validation"])
    assert found.nframes >= 90
    assert found.overall.preferred.rmse < 0.10
