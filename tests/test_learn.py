# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp-mask learn``: a loop from init to the end, killed in each stage, here and through queues."""

import filecmp
import json
import re
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import openmm as mm
import pytest
import slurm
import yaml
from ase import units
from learning import learn, shrink, wait_for_end_in, write
from openmm import app, unit
from pages import DOCS, FENCE, RUN

from deepmd_mask import Potential
from deepmd_mask.learning import config, train
from deepmd_mask.learning.frames import read_frames
from deepmd_mask.learning.levels import evaluate, load
from deepmd_mask.learning.openmm import explore

FENCE_JSON = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STAGES = ("explore", "select", "label", "pack", "train", "judge")
TASK_KILLS = {
    "explore": "explore:result:001",
    "label": "label:result",
    "pack": "pack:result",
    "train": "train:begun:001",
}
KILLS = [kill for name in STAGES for kill in (TASK_KILLS.get(name), f"{name}:whole") if kill]


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Run a loop that is killed in each stage of its first iteration, and goes on to the end."""
    folder = write(tmp_path_factory.mktemp("loop") / "zinc")
    first, texts, kept = folder / "iter.000000", [], {}
    for kill in KILLS:
        name = kill.partition(":")[0]
        texts.append(learn(folder, "run", kill=kill))
        wait_for_end_in(folder)
        assert sorted(path.name for path in first.iterdir()) == sorted(
            [*STAGES[: STAGES.index(name)], f"{name}.partial"]
        )
        kept[kill] = {
            path.relative_to(first / f"{name}.partial"): path.stat().st_mtime_ns
            for path in first.glob(f"{name}.partial/*/*/*")
            if path.parent.name in ("result", "kept")
        }
    texts.append(learn(folder, "run"))
    return SimpleNamespace(folder=folder, first=first, texts=texts, kept=kept)


def same_tree(one, other):
    """Compare all files of two folders, byte for byte."""
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    for name in names:
        assert filecmp.cmp(one / name, other / name, shallow=False), name


def same_iteration(one, other):
    """Compare what stages hand to the next ones; not times, logs, nor what belongs to a queue."""
    for name in ("explore/000.xyz", "explore/001.xyz", "select/candidates.xyz",
                 "select/held_out.xyz", "select/deviations.npy", "label/labelled.xyz",
                 "label/held_out.xyz", "label/failed.xyz"):  # fmt: skip
        assert filecmp.cmp(one / name, other / name, shallow=False), name
    for name in ("pack/train", "pack/test"):
        same_tree(one / name, other / name)
    for name in STAGES:
        summaries = [json.loads((i / name / "stage.json").read_text()) for i in (one, other)]
        for summary in summaries:
            del summary["seconds"]
        assert summaries[0] == summaries[1]


def same_models(one, other):
    """Compare what the models give; the order of sums depends on the number of threads."""
    for name in ("graph.000.pb", "graph.001.pb"):
        for atoms in read_frames(one / "select" / "candidates.xyz"):
            types = [["O", "H", "Zn"].index(symbol) for symbol in atoms.get_chemical_symbols()]
            wanted, found = (
                Potential(i / "train" / name).evaluate(types, atoms.positions) for i in (one, other)
            )
            np.testing.assert_allclose(found.forces, wanted.forces, rtol=1e-6, atol=1e-9)
            assert np.abs(wanted.forces).max() > 1e-3


# ---- Killed --------------------------------------------------------------------------------------


def test_one_line_a_stage(killed):
    """A stage that was complete is not made again, and the one that was killed is."""
    lines = [line for text in killed.texts for line in text.splitlines()]
    told = [line.split()[1:3] for line in lines if line.startswith("iteration")]
    assert told == [[str(k), name] for k in (0, 1) for name in STAGES]
    assert lines[-1].startswith("not converged after 2 iterations: 2 models, iter.000001/train/")
    assert "10 frames of 2 tasks" in lines[0]


def test_what_is_done_is_kept(killed):
    """Tasks and labels that were there when the loop was killed are those of the end."""
    for kill, files in killed.kept.items():
        for file, time in files.items():
            assert (killed.first / kill.partition(":")[0] / file).stat().st_mtime_ns == time
    assert {str(file.parent) for file in killed.kept[TASK_KILLS["label"]]} == {"000/kept"}
    assert {str(file.parts[0]) for file in killed.kept[TASK_KILLS["train"]]} == {"000"}
    assert not list(killed.folder.rglob("attempt.*"))


def test_the_next_iteration_goes_on_from_the_last_models(killed):
    for number in ("000", "001"):
        log = (killed.folder / "iter.000001" / "train" / number / "log").read_text()
        assert "/last/model.ckpt" in log and "initialize from model" in log
    scripts = [
        json.loads((killed.folder / f"iter.00000{i}/train/00{k}/result/input.json").read_text())
        for i in (0, 1)
        for k in (0, 1)
    ]
    seeds = {script["training"]["seed"] for script in scripts}
    assert len(seeds) == 4
    assert [script["training"]["numb_steps"] for script in scripts] == [4, 4, 2, 2]
    systems = [len(script["training"]["training_data"]["systems"]) for script in scripts]
    assert systems == [1, 1, 2, 2]


def test_without_init_model_all_begin_from_nothing(killed):
    loop = config.read(killed.folder)
    loop.config["train"] = {"input": "input.json", "init_model": False, "compress": False}
    orders = train.prepare(loop, 1)
    steps = [order.settings["input"]["training"]["numb_steps"] for order in orders]
    assert steps == [4, 4]
    assert not any(order.inputs for order in orders)


def test_deviations_are_those_of_the_committee(killed):
    frames = read_frames(killed.folder / "iter.000001" / "select" / "candidates.xyz")
    models = sorted((killed.first / "train").glob("graph.*.pb"))
    loaded = [Potential(model) for model in models]
    for atoms in frames:
        types = [["O", "H", "Zn"].index(name) for name in atoms.get_chemical_symbols()]
        forces = np.array([one.evaluate(types, atoms.positions).forces for one in loaded])
        spread = np.sqrt(((forces - forces.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0))
        assert atoms.info["max_devi_f"] == pytest.approx(spread.max(), rel=1e-5)


def test_status_and_figure(killed):
    text = learn(killed.folder, "status", "--plot", "figure.png")
    rows = [line.split() for line in text.splitlines()]
    assert [row[:2] for row in rows[1:3]] == [["0", "10"], ["1", "10"]]
    assert "all iterations are done, and it has not converged" in text
    assert (killed.folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(learn(killed.folder, "status", "--json"))
    judged = found["iterations"][1]["judge"]
    assert judged["candidate"] == 1.0 and judged["test_frames"] == 2
    assert judged["force_error"] > judged["deviation"] > 0


# ---- The page -----------------------------------------------------------------------------------


def test_commands_of_the_page(killed, tmp_path):
    """All of them, in order; iterations are those of the loop, as if it had been killed after."""
    page = (DOCS / "learning.md").read_text()
    scripts = [text for language, text in FENCE.findall(page) if language == "bash"]
    lines = "".join(scripts).splitlines(keepends=True)
    first = lines.index("cd zinc\n")
    RUN["bash"]("".join(lines[:first]), "init", tmp_path, sys.executable)
    folder = tmp_path / "zinc"
    shrink(folder)
    shutil.copytree(killed.folder, folder, dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns(".lock", "figure.png"))  # fmt: skip
    text = RUN["bash"]("".join(lines[first:]), "rest", tmp_path, sys.executable)
    assert "not converged after 2 iterations" in text
    for name in ("learning.png", "test.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Return a folder with the scripts of the page, and a box of water with zinc in it."""
    page = (DOCS / "learning.md").read_text()
    scripts = [text for language, text in FENCE.findall(page) if language == "python"]
    names = [text.split("\n", 1)[0].removeprefix("# ") for text in scripts]
    for name, text in zip(names, scripts, strict=True):
        (tmp_path / name).write_text(text)
    assert names == ["system.py", "levels.py"]
    field = app.ForceField("amber14/tip3p.xml")
    topology = app.Topology()
    residue = topology.addResidue("ZN", topology.addChain())
    topology.addAtom("ZN", app.Element.getBySymbol("Zn"), residue)
    box = app.Modeller(topology, np.zeros((1, 3)) * unit.nanometer)
    box.addSolvent(field, boxSize=mm.Vec3(1.9, 1.9, 1.9) * unit.nanometer, neutralize=False)
    with (tmp_path / "site.pdb").open("w") as file:
        app.PDBFile.writeFile(box.topology, box.positions, file)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in names:
        sys.modules.pop(name.removesuffix(".py"), None)


def test_openmm_explores(killed, site):
    """The page's system: with the committee, until it is not trusted, and with the force field."""
    committee = [str(path) for path in sorted((killed.first / "train").glob("graph.*.pb"))]
    options = {"build": "system:build", "steps": 6, "interval": 2, "timestep": 0.0005}
    explore(committee, site, 0, 7, **options)
    frames = read_frames(site / "frames.xyz")
    assert [a.info["region"] for a in frames] == ["site"] * 3 + ["wider site"] * 3
    assert all("deviation" in a.arrays for a in frames[:3])
    assert all(len(wide) >= len(a) for a, wide in zip(frames[:3], frames[3:], strict=True))
    assert "lost" not in frames[-1].info
    explore(committee, site, 0, 7, **options, stop=1e-9)
    assert [a.info.get("lost") for a in read_frames(site / "frames.xyz")] == [None, 4]
    explore([], site, 1, 8, **options, temperature=[300, 400])
    frames = read_frames(site / "frames.xyz")
    assert len(frames) == 6 and "deviation" not in frames[0].arrays
    _label(frames[0], site)


def test_openmm_resumes(killed, site):
    """A trajectory goes on where that of the last iteration ended, but not if that was stopped."""
    committee = [str(path) for path in sorted((killed.first / "train").glob("graph.*.pb"))]
    options = {"build": "system:build", "steps": 4, "interval": 4, "timestep": 0.0005}
    folders = [site / name / "result" for name in ("first", "second", "third")]
    for folder, last, more in zip(
        folders, [None, *folders], ({}, {"stop": 1e-9}, {}), strict=False
    ):
        folder.mkdir(parents=True)
        if last is not None:
            (folder.parent / "last").symlink_to(last)
        explore(committee, folder, 0, 7, **options, **more, resume=True)
    assert [(folder / "end.npz").exists() for folder in folders] == [True, False, True]
    first, second, third = (read_frames(folder / "frames.xyz")[0].positions for folder in folders)
    np.testing.assert_allclose(third, first, atol=1e-5)
    assert len(second) != len(first) or np.abs(second - first).max() > 1e-3
    with np.load(folders[0] / "end.npz") as end:
        assert end["positions"].shape[1:] == (3,) and end["box"].shape == (3, 3)


def _label(atoms, site):
    """Label a water of a frame by the page's difference, and compare with both levels."""
    import levels as of_page
    import system

    assert of_page.force_field.charge(atoms) == 2
    water = atoms[-3:]
    assert water.get_chemical_symbols() == ["O", "H", "H"]
    level = load(["levels:gfn2", {"minus": "levels:force_field"}], site)
    energy, forces = evaluate(level, water, site / "work")
    xtb = of_page.gfn2(water)
    assert xtb.parameters["charge"] == 0
    xtb.calculate(water, ["energy", "forces"])
    index = water.arrays["index"].tolist()
    part = app.Modeller(system.PDB.topology, system.PDB.positions)
    part.delete([a for a in part.topology.atoms() if a.index not in index])
    made = system.FIELD.createSystem(part.topology, rigidWater=False)
    context = mm.Context(made, mm.VerletIntegrator(0.001), mm.Platform.getPlatform("Reference"))
    context.setPositions(water.positions / 10)
    state = context.getState(getEnergy=True, getForces=True)
    of_field = state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value
    kj_mol = units.kJ / units.mol
    assert energy == pytest.approx(xtb.results["energy"] - of_field[0] * kj_mol, abs=1e-8)
    expected = xtb.results["forces"] - of_field[1] * kj_mol / units.nm
    np.testing.assert_allclose(forces, expected, atol=1e-7)
    water.set_array("index", -np.ones(3, int))
    with pytest.raises(ValueError, match="link atoms"):
        of_page.force_field(water)


# ---- Through queues ------------------------------------------------------------------------------


@pytest.fixture
def copied(killed, tmp_path):
    """Return a function that copies the first iteration of the loop, but for some stages."""

    def copy(stages):
        folder = tmp_path / "again"
        unwanted = shutil.ignore_patterns("iter.000001", ".lock")
        shutil.copytree(killed.folder, folder, ignore=unwanted)
        for name in stages:
            shutil.rmtree(folder / "iter.000000" / name)
        return folder

    return copy


def through(folder, machine, resources, **more):
    """Let the tasks of a loop go through DPDispatcher."""
    (folder / "machine.json").write_text(json.dumps(machine))
    (folder / "resources.json").write_text(json.dumps(resources))
    config = yaml.safe_load((folder / "learn.yaml").read_text())
    config |= {"machine": "machine.json", "resources": "resources.json", "poll": 0.5}
    config |= {"iterations": 1, **more}
    (folder / "learn.yaml").write_text(yaml.safe_dump(config))


def test_a_shell_of_dpdispatcher(killed, copied):
    """Also where the loop is killed before it knows which jobs it has submitted."""
    folder = copied(["explore", "label", "train"])
    machine = {"batch_type": "Shell", "context_type": "LocalContext", "local_root": "./",
               "remote_root": str(folder.parent / "elsewhere")}  # fmt: skip
    through(folder, machine, {"group_size": 2, "number_node": 1, "cpu_per_node": 1,
                              "gpu_per_node": 0, "queue_name": ""})  # fmt: skip
    learn(folder, "run", kill="explore:submitted")
    assert (folder / "iter.000000" / "explore.partial").exists()
    learn(folder, "run")  # while jobs of before may run
    wait_for_end_in(folder.parent)
    same_iteration(killed.first, folder / "iter.000000")
    same_models(killed.first, folder / "iter.000000")
    assert "job" in (folder / "dpdispatcher.log").read_text()


@pytest.mark.skipif(bool(slurm.why_not()), reason=slurm.why_not())
def test_slurm(killed, copied, tmp_path_factory):
    """With the machine and the resources that the page shows."""
    files = FENCE_JSON.findall((DOCS / "learning.md").read_text())
    machine, resources = map(json.loads, files[:2])
    assert machine["batch_type"] == "Slurm"
    folder = copied([name for name in STAGES if name != "train"])
    through(folder, machine, resources)
    with slurm.running(tmp_path_factory.mktemp("slurm")) as environment:
        learn(folder, "run", environment=environment)
    same_iteration(killed.first, folder / "iter.000000")
    assert (folder / "iter.000000" / "explore" / "000" / "log").exists()
