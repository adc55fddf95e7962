# SPDX-License-Identifier: LGPL-3.0-or-later
"""Boxes in evaluation: refused wherever DeePMD-kit tells of them, unless they are to be ignored."""

import shutil

import ase
import dpdata
import jobs
import numpy as np
import pytest
from ase.neighborlist import NewPrimitiveNeighborList
from deepmd.calculator import DP
from deepmd.infer import DeepPot
from frozen_models import evaluate as evaluate_frozen
from frozen_models import of_first_version
from helpers import TYPE_MAP, run_python

from deepmd_mask.ase import MaskedDP
from deepmd_mask.conversion import convert
from deepmd_mask.evaluation import evaluate
from deepmd_mask.frozen import info

PERIODIC = "the input is periodic, it has a box.* DP_MASK_IGNORE_BOX to 1"
# Without the plugin, as in C and C++, where the operators alone see the box.
OPERATORS = """
import os, sys
import numpy as np
from deepmd.infer import DeepPot
from deepmd.tf.env import tf
file, *models = sys.argv[1:]
data = np.load(file)
cells = np.tile(np.eye(3) * 50, (len(data["coord"]), 1, 1))
types = np.tile(data["types"], (len(cells), 1))
for model in models:
    potential = DeepPot(model)
    for wish in "01":
        os.environ["DP_MASK_IGNORE_BOX"] = wish
        for mixed in False, True:
            def energy(cells):
                given = types if mixed else types[0]
                mask = data["mask"]
                return potential.eval(data["coord"], cells, given, aparam=mask, mixed_type=mixed)[0]
            try:
                print("same", (energy(cells) == energy(None)).all())
            except tf.errors.InvalidArgumentError as error:
                print(error.message)
"""


def with_box(potential, frames):
    """Return the forces of frames in a large box."""
    nframes = len(frames.mask)
    cells = np.tile(np.eye(3) * 50, (nframes, 1, 1))
    return potential.eval(
        frames.coord.reshape(nframes, -1), cells, frames.types, aparam=frames.mask
    )[1]


@pytest.fixture(scope="module")
def first_version(trained, tmp_path_factory):
    return of_first_version(trained.model, tmp_path_factory.mktemp("first") / "first.pb")


@pytest.mark.parametrize("kind", ["model", "compressed", "first_version", "plain"])
def test_deep_pot(trained, kind, request, monkeypatch):
    is_made_here = kind == "first_version"
    model = request.getfixturevalue(kind) if is_made_here else getattr(trained, kind)
    potential, frames = DeepPot(str(model)), trained.frames.take([0])
    with pytest.raises(ValueError, match=PERIODIC):
        with_box(potential, frames)
    monkeypatch.setenv("DP_MASK_IGNORE_BOX", "1")
    wanted = jobs.evaluate(potential, frames.coord, frames.types, frames.mask, atomic=False)
    np.testing.assert_array_equal(with_box(potential, frames), wanted["force"])
    monkeypatch.setenv("DP_MASK_IGNORE_BOX", "yes")
    with pytest.raises(ValueError, match='DP_MASK_IGNORE_BOX is "yes"; it can be 1'):
        with_box(potential, frames)


def test_neighbour_list_without_images(trained):
    """No image is near enough to be a ghost, so that the operators see nothing."""
    frames = trained.frames.take([0])
    neighbours = NewPrimitiveNeighborList([0.1] * len(frames.types))
    potential = DeepPot(str(trained.model), neighbor_list=neighbours)
    with pytest.raises(ValueError, match=PERIODIC):
        with_box(potential, frames)


def test_calculator_of_deepmd_kit(trained):
    real = trained.frames.mask[0] == 1
    symbols = [TYPE_MAP[t].capitalize() for t in trained.frames.types[real]]
    atoms = ase.Atoms(symbols, trained.frames.coord[0, real], cell=[50] * 3, pbc=True)
    atoms.info["aparam"] = np.ones(len(atoms))
    type_of = {name.capitalize(): t for t, name in enumerate(TYPE_MAP)}
    atoms.calc = DP(trained.model, type_dict=type_of)
    with pytest.raises(ValueError, match=PERIODIC):
        atoms.get_forces()
    atoms.pbc = False
    wanted = trained.evaluate(trained.frames.take([0]))["force"][0, real]
    np.testing.assert_allclose(atoms.get_forces(), wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("way", ["MaskedDP", "dpdata"])
def test_argument_or_environment(trained, monkeypatch, way):
    atoms = ase.Atoms("CO", np.eye(3)[:2], cell=[50] * 3, pbc=True)

    def energy(**options):
        if way == "MaskedDP":
            atoms.calc = MaskedDP(trained.model, **options)
            return atoms.get_potential_energy()
        system = dpdata.System(atoms, fmt="ase/structure")
        return system.predict(trained.model, driver="deepmd-mask", **options)["energies"][0]

    with pytest.raises(ValueError, match=f"{PERIODIC}; or pass ignore_pbc=True"):
        energy()
    wanted = energy(ignore_pbc=True)
    monkeypatch.setenv("DP_MASK_IGNORE_BOX", "1")
    assert energy() == wanted


def test_commands(trained, tmp_path, monkeypatch):
    system = shutil.copytree(trained.directory / "system", tmp_path / "system")
    (system / "nopbc").unlink()
    np.save(system / "set.000" / "box.npy", np.tile(np.eye(3).ravel() * 50, (4, 1)))
    model = str(trained.model)
    test = [tmp_path, "test", "-m", model, "-s", "system", "-d", "detail"]
    devi = [tmp_path, "model-devi", "-m", model, model, "-s", "system", "-o", "devi.out"]
    for command in (test, devi):
        with pytest.raises(ValueError, match=PERIODIC):
            jobs.run([command])
    with pytest.raises(ValueError, match=f"nopbc: is missing; {PERIODIC}"):
        evaluate(trained.model, system)
    assert not (tmp_path / "devi.out").exists()
    monkeypatch.setenv("DP_MASK_IGNORE_BOX", "1")
    jobs.run([test, devi])
    wanted = evaluate(trained.model, trained.directory / "system").overall
    assert evaluate(trained.model, system).overall.force.rmse == wanted.force.rmse
    forces = np.loadtxt(tmp_path / "detail.f.out")
    assert len(forces) == trained.frames.mask.sum()
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "devi.out")[:, 4:], np.zeros((4, 4)))


def test_operators(trained, first_version, tmp_path):
    """Models of the first version cannot tell, and run as they did."""
    np.savez(tmp_path / "frames.npz", **trained.frames._asdict())

    script = ["-c", OPERATORS, tmp_path / "frames.npz", trained.model, first_version]
    output = run_python(script, tmp_path, forked=True, DP_MASK="builtin")
    lines = [line for line in output.splitlines() if line.startswith(("deepmd-mask: ", "same"))]
    refused, refused_mixed, *others = lines
    assert refused == refused_mixed
    assert refused.startswith("deepmd-mask: the input is periodic")
    assert others == ["same True"] * 6


def test_conversion_of_the_first_version(first_version, trained, tmp_path):
    assert info(first_version)["ops_version"] == 1
    convert(first_version, tmp_path / "new.pb")
    assert info(tmp_path / "new.pb") == info(trained.model)
    wanted = trained.evaluate()
    found = evaluate_frozen(tmp_path / "new.pb", trained.frames)
    np.testing.assert_allclose(found["energy"], wanted["energy"], rtol=1e-12)
    with pytest.raises(ValueError, match="already; nothing is to be done"):
        convert(tmp_path / "new.pb", tmp_path / "again.pb")
