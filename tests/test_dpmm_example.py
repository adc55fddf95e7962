# SPDX-License-Identifier: LGPL-3.0-or-later
"""The road of examples/dpmm_openmm in miniature, and its data set."""

import csv
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import openmm as mm
import pytest
from openmm import app, unit

from deepmd_mask.ase import MaskedDP
from deepmd_mask.data import check

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "dpmm_openmm"
KJ_MOL = (1 * unit.kilojoule_per_mole / unit.AVOGADRO_CONSTANT_NA).value_in_unit(unit.ev)


def run(*command):
    """Run a script of the example and return what it prints."""
    script = EXAMPLE / command[0]
    interpreter = [sys.executable] if script.suffix == ".py" else []
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*interpreter, script, *map(str, command[1:])],
        env={**os.environ, "PATH": path},
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


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Return a folder with a box, samples and labels: three trajectories of one configuration.

    Eight have one for validation; of the others, five files are there, and empty, as are those of
    trajectories that came to nothing.
    """
    folder = tmp_path_factory.mktemp("dpmm") / "build"
    box = folder / "box.pdb"
    subprocess.run(
        [
            sys.executable,
            "-c",
            f"import pathlib, system; system.build(pathlib.Path({str(box)!r}), 50, 100)",
        ],
        cwd=EXAMPLE,
        check=True,
    )
    (folder / "samples").mkdir()
    for number in range(2, 7):
        (folder / "samples" / f"pulled_train_{number:02d}.xyz").touch()
    samples = ("--trajectories", "8", "--frames", "1", "--interval", "20", "--settle", "0")
    run("sample.py", "--box", box, "--output", folder / "samples", *samples)
    run("label.py", "--box", box, "--samples", folder / "samples", "--output", folder / "labelled")
    return folder


def test_labels_are_xtb_minus_force_field(labelled):
    """Computed here from the topology, without the example's own tools."""
    from tblite.ase import TBLite

    atoms = ase.io.read(labelled / "labelled" / "pulled_train_00.xyz", index=0)
    pdb = app.PDBFile(str(labelled / "box.pdb"))
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


def test_road(labelled, tmp_path, monkeypatch):
    """Pack, train, simulate without and with the model, plot, sample again with the model."""
    run("pack.sh", labelled.parent)
    output, model = tmp_path / "run", tmp_path / "run" / "model.pb"
    output.mkdir()
    (output / "data").symlink_to(labelled.parent / "data")
    jdata = json.loads((EXAMPLE / "input.json").read_text())
    jdata["training"].update(numb_steps=4, disp_freq=2, save_freq=4)
    jdata["model"]["descriptor"]["neuron"] = [6, 12]
    jdata["model"]["fitting_net"]["neuron"] = [10]
    (output / "input.json").write_text(json.dumps(jdata))
    box = ("--box", labelled / "box.pdb")
    printed = run("run.py", "--output", output, "--picoseconds", "0.12", *box)
    assert "force, preferred atoms" in printed
    assert "coordination number" in printed
    assert (output / "ligands.png").stat().st_size > 10000
    for name in ("mm", "corrected"):
        lines = rows(output / f"{name}.csv")
        assert [line["time_ps"] for line in lines] == [f"{0.02 * k:.3f}" for k in range(1, 7)]
        assert all(1.5 < float(line["zn_n1"]) < 3.5 for line in lines)
        assert all(2 <= int(line["coordination"]) <= 8 for line in lines)
    (report,) = rows(output / "corrected_region.csv")
    assert int(report["atoms"]) >= 54
    monkeypatch.syspath_prepend(EXAMPLE)
    insertion = importlib.import_module("insertion")
    found = np.squeeze(insertion.insertion(model, labelled.parent / "data" / "validation"))
    np.testing.assert_allclose(found, energies_of_waters(labelled, model), rtol=0, atol=2e-3)
    more = ("--name", "round1", "--trajectories", "1", "--frames", "1", "--workers", "1")
    more += ("--interval", "10", "--settle", "0")
    run("sample.py", *box, "--model", model, "--output", tmp_path / "more", *more)
    atoms = ase.io.read(tmp_path / "more" / "round1_train_00.xyz", index=0)
    assert atoms.symbols.count("Zn") == 1


def test_second_cut_lacks_a_water(labelled):
    """One of the outer ones; nothing else is different."""
    for path in (labelled / "labelled").glob("*.xyz"):
        if not path.stat().st_size:
            continue
        first, second = ase.io.read(path, index=":")
        missing = np.setdiff1d(first.get_array("index"), second.get_array("index"))
        rows = np.isin(first.get_array("index"), missing)
        assert sorted(first.symbols[rows]) == ["H", "H", "O"]
        np.testing.assert_array_equal(first.positions[~rows], second.positions)
        zinc = first.positions[list(first.symbols).index("Zn")]
        assert np.linalg.norm(first.positions[rows] - zinc, axis=1).min() > 2.6


def energies_of_waters(labelled, model):
    """Return what the water that two frames differ by brings: by a model, and by the labels."""
    (path,) = (labelled / "labelled").glob("*_validation_07.xyz")
    frames = ase.io.read(path, index=":")
    found = [[], []]
    for atoms in frames:
        found[1].append(atoms.get_potential_energy())
        atoms.calc = MaskedDP(model)
        found[0].append(atoms.get_potential_energy())
    return np.subtract(*np.transpose(found))


def test_wall_holds_histidines_from_its_beginning_on(monkeypatch):
    """It adds nothing while zinc is nearer, and pulls back beyond."""
    monkeypatch.syspath_prepend(EXAMPLE)
    site = importlib.import_module("system")
    topology = app.PDBFile(str(EXAMPLE / "site.pdb")).topology
    system = mm.System()
    for _ in topology.atoms():
        system.addParticle(1.0)
    box = site.Box(topology, None)
    site.hold(system, box)
    context = mm.Context(system, mm.VerletIntegrator(0.001), mm.Platform.getPlatform("Reference"))
    positions = np.zeros((topology.getNumAtoms(), 3))
    for away, force in {0.24: 0.0, 0.26: -400.0}.items():
        positions[box.nitrogens()[0], 0] = away
        context.setPositions(positions)
        forces = context.getState(forces=True).getForces(asNumpy=True)._value
        assert forces[box.nitrogens()[0], 0] == pytest.approx(force, abs=1e-6)


def test_direct(labelled, tmp_path):
    """The exact correction runs, too."""
    name = tmp_path / "direct"
    run("direct.py", "--box", labelled / "box.pdb", "--output", name, "--picoseconds", "0.02")
    (line,) = rows(tmp_path / "direct.csv")
    assert 1.5 < float(line["zn_n2"]) < 3.0


def test_data_set(monkeypatch):
    """It is small and without errors; a row of lcurve.out is of the whole validation set."""
    monkeypatch.chdir(EXAMPLE)
    checked = check(["data/train", "data/validation"], "input.json")
    assert checked.errors == 0, checked.as_text()
    files = [file for file in (EXAMPLE / "data").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 1e7
    data = json.loads((EXAMPLE / "input.json").read_text())["training"]["validation_data"]
    frames = len(np.load(EXAMPLE / "data" / "validation" / "set.000" / "energy.npy"))
    assert data["batch_size"] * data["numb_btch"] == frames
