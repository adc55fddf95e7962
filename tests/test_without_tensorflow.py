# SPDX-License-Identifier: LGPL-3.0-or-later
"""What runs where neither TensorFlow nor DeePMD-kit is installed: all but what ``dp`` does."""

import json
import shutil
import subprocess
import sys
import sysconfig
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path

import helpers
import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pages import run_page

from deepmd_mask import data
from deepmd_mask.evaluation import evaluate

EXAMPLES = Path(__file__).parent.parent / "examples"
ABSENT = {"tensorflow", "tensorflow-cpu", "keras", "deepmd-kit"}
# What builds graphs, for `dp` or as it does; docs/developing.md says so of these.
FOR_TRAINING = ("plugin", "graph", "hooks", "conversion")


def run_here(python, script, *args, cwd, **options):
    """Run a script in the environment of an interpreter; return what it printed."""
    return helpers.run_python(["-c", script, *args], cwd, python=python, PYTHONPATH=None, **options)


def brought_by(extra):
    """Return the names of all packages that this one and an extra of it bring."""
    names, todo = set(), [("deepmd-mask", extra)]
    while todo:
        name, of = todo.pop()
        try:
            wanted = [Requirement(line) for line in requires(name) or ()]
        except PackageNotFoundError:  # not in this environment
            continue
        for one in wanted:
            if one.marker is None or any(one.marker.evaluate({"extra": e}) for e in (of, "")):
                found = canonicalize_name(one.name)
                if found not in names:
                    todo += [(found, e) for e in one.extras or ("",)]
                names.add(found)
    return names


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Make an environment of what pip install "deepmd-mask[openmm]" brings, and nothing else."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    scheme = {"base": home, "platbase": home}
    packages = Path(sysconfig.get_path("platlib", "venv", scheme))
    for name in {"deepmd-mask", *brought_by("openmm")}:
        with suppress(PackageNotFoundError):  # for other systems or versions of Python
            found = distribution(name)
            for top in {file.parts[0] for file in found.files} - {"..", "__pycache__"}:
                target = packages / top
                if not target.exists():  # as a folder of several packages does
                    target.symlink_to(found.locate_file(top))
    python = home / "bin" / "python"
    command = python.with_name("dp-mask")
    command.write_text(f"#!{python}\nfrom deepmd_mask.cli import main\n\nmain()\n")
    command.chmod(0o755)
    return python


def test_what_is_installed():
    """TensorFlow and DeePMD-kit come with what trains, and with nothing else."""
    assert "deepmd-kit" in brought_by("cpu")
    assert {"openmm", "openmmml"} <= brought_by("openmm")
    for extra in ("", "openmm", "cclib"):
        assert not brought_by(extra) & ABSENT


def test_they_are_not_there(python, tmp_path):
    for name in ("tensorflow", "keras", "deepmd"):
        said = run_here(python, f"import {name}", cwd=tmp_path, succeeds=False)
        assert f"No module named '{name}'" in said


IMPORT_ALL = """
import sys
from importlib import import_module
from pathlib import Path
import openmmml  # which loads deepmd_mask.openmm.ml itself, and before that is asked for
import deepmd_mask
home = Path(deepmd_mask.__file__).parent
for file in sorted(home.rglob("*.py")):
    room, *below = file.relative_to(home).with_suffix("").parts
    if room not in sys.argv[1:]:
        import_module(".".join(["deepmd_mask", room, *below]).removesuffix(".__init__"))
        print(room)
"""


def test_all_other_rooms_can_be_imported(python, tmp_path):
    rooms = set(run_here(python, IMPORT_ALL, *FOR_TRAINING, cwd=tmp_path).split())
    assert {"data", "frozen", "evaluation", "openmm", "ase", "dpdata_driver", "cli"} <= rooms
    assert not rooms & set(FOR_TRAINING)


# ---- Pages ---------------------------------------------------------------------------------------


def test_data_page(python, tmp_path, zinc_model):
    shutil.copy(zinc_model, tmp_path)
    for number, system in enumerate(("train", "validation")):
        (tmp_path / f"run{number}").mkdir()
        data.unpack(
            [EXAMPLES / "zinc_protein" / "data" / system], tmp_path / f"run{number}/frames.xyz"
        )
    output = run_page("data", tmp_path, python)
    assert "type_map: H,C,N,O,S,ZN" in output
    assert "force, preferred atoms" in output
    assert (tmp_path / "again" / "nopbc").is_file()


def test_ase_page(python, tmp_path, zinc_model):
    shutil.copy(zinc_model, tmp_path)
    output = run_page("ase", tmp_path, python)
    assert "eV/Å at most" in output
    assert "[[0. 0. 0.]" in output


def test_python_page(python, tmp_path, zinc_model):
    shutil.copy(zinc_model, tmp_path)
    assert "eV/Å at most" in run_page("python", tmp_path, python)


def test_openmm_page(python, tmp_path, zinc_model):
    """With OpenMM-ML, too."""
    shutil.copy(zinc_model, tmp_path)
    output = run_page("openmm", tmp_path, python)
    assert "20,DP region," in output
    assert "kJ/mol" in output
    assert (tmp_path / "system.xml").is_file()


def test_page_on_the_other_openmm_plugin(python, tmp_path, zinc_model):
    shutil.copy(zinc_model, tmp_path)
    assert "kJ/" in run_page("from_openmm_deepmd_plugin", tmp_path, python)
    assert len((tmp_path / "regions.csv").read_text().splitlines()) == 3


# ---- Evaluation and commands ---------------------------------------------------------------------


EVALUATE = """
import json, sys
import dpdata
import numpy as np
from deepmd_mask import Potential
model, frames, xyz = sys.argv[1:]
potential = Potential(model)
given = np.load(frames)
found = potential.evaluate(given["types"], given["coord"], given["mask"])
labelled = dpdata.System(xyz, fmt="xyz").predict(model, driver="deepmd-mask")
np.savez("found.npz", energy=found.energy, force=found.forces, energies=found.energies,
         labelled=labelled["energies"])
"""


def test_potential_and_driver_of_dpdata(python, tmp_path, trained):
    """They give what DeepPot gives."""
    frames = trained.frames
    types = np.broadcast_to(frames.types, frames.mask.shape)
    np.savez(tmp_path / "frames.npz", types=types, coord=frames.coord, mask=frames.mask)
    real = np.flatnonzero(frames.mask[0])
    names = np.array(helpers.TYPE_MAP)[frames.types[real]]
    lines = [
        f"{name} {x} {y} {z}"
        for name, (x, y, z) in zip(names, frames.coord[0, real].tolist(), strict=True)
    ]
    (tmp_path / "first.xyz").write_text("\n".join([str(len(real)), "", *lines]) + "\n")
    run_here(python, EVALUATE, trained.model, "frames.npz", "first.xyz", cwd=tmp_path)
    found, wanted = np.load(tmp_path / "found.npz"), trained.evaluate()
    largest = np.abs(wanted["force"]).max()
    np.testing.assert_allclose(found["force"], wanted["force"], rtol=0, atol=1e-10 * largest)
    np.testing.assert_allclose(found["energy"], wanted["energy"][:, 0], rtol=1e-10)
    np.testing.assert_allclose(found["energies"], wanted["atom_energy"][..., 0], atol=1e-9)
    np.testing.assert_allclose(found["labelled"], wanted["energy"][0], rtol=1e-8)


COMMANDS = """
import json, sys
from click.testing import CliRunner
from deepmd_mask.cli import main
results = []
for arguments in json.loads(sys.argv[1]):
    result = CliRunner().invoke(main, arguments)
    results.append([result.exit_code, result.output])
print(json.dumps(results))
"""


def run_commands(python, directory, *commands):
    """Run commands of dp-mask in one process; return the exit status and output of each."""
    given = json.dumps([list(map(str, command)) for command in commands])
    return json.loads(run_here(python, COMMANDS, given, cwd=directory).splitlines()[-1])


def test_commands_on_data(python, tmp_path):
    """They find and write what they do beside DeePMD-kit."""
    system = helpers.write_system(tmp_path / "water", helpers.random_frames(nframes=9), nsets=2)
    in_hdf5 = helpers.write_hdf5(tmp_path / "all.hdf5", system)
    results = run_commands(
        python,
        tmp_path,
        ["unpack", system, "-o", "frames.xyz"],
        ["pack", "frames.xyz", "-o", "again", "--external-field"],
        ["pack", "--external-field", in_hdf5, "-o", "from_hdf5"],
        ["check", "--json", "--external-field", system, in_hdf5],
    )
    assert [code for code, _ in results[:3]] == [0, 0, 0], results
    assert "frames.xyz: 9 frames" in results[0][1]
    for name in ("again", "from_hdf5"):
        assert f"{name}: 9 frames" in results[1 if name == "again" else 2][1]
        assert data.check(tmp_path / name, external_field=True).errors == 0
    checked = data.check([system, in_hdf5], external_field=True)
    assert results[3] == [int(checked.errors > 0), checked.as_json() + "\n"]


INPUTS = {  # and what is found in them
    "good": ({}, []),
    "axis_neuron": ({"descriptor": {"axis_neuron": 12}}, ["axis_neuron (12) is larger than M1"]),
    "activation": ({"descriptor": {"activation_function": "tahn"}}, ['function "tahn"']),
    "type": ({"descriptor": {"neuron": "many"}}, ["`neuron` gets wrong value type"]),
    "mask": ({"fitting_net": {"numb_aparam": 0}}, ["numb_aparam to 1"]),
    "sel": ({"sel": [1, 1, 1]}, ["but sel allows 1"]),
    "unknown": ({"descriptor": {"colour": "red"}}, []),  # which DeePMD-kit alone knows
}


def test_inputs(python, tmp_path):
    system = helpers.write_system(tmp_path / "water", helpers.random_frames())
    for name, (changes, _) in INPUTS.items():
        jdata = helpers.make_input([system], **changes)
        helpers.write_input(tmp_path, jdata, f"{name}.json")
    results = run_commands(
        python, tmp_path, *(["check", "--external-field", "--input", f"{n}.json"] for n in INPUTS)
    )
    for (name, (_, wanted)), (code, output) in zip(INPUTS.items(), results, strict=True):
        assert code == bool(wanted), output
        lines = [line for line in output.splitlines() if "[not-checked]" in line]
        assert len(lines) == 1, output
        assert f"{name}.json" in lines[0]
        assert (
            'DeePMD-kit takes all others, since it is not installed: pip install "deep' in lines[0]
        )
        assert all(message in output for message in wanted), output


def test_commands_on_models(python, tmp_path, trained):
    system = trained.directory / "system"
    (code, text), (_, as_json), (tested, numbers), (deviating, _), (refused, message) = (
        run_commands(
            python,
            tmp_path,
            ["info", trained.model],
            ["info", "--json", trained.model],
            ["test", "--json", "-m", trained.model, "-s", system],
            ["devi", "-m", trained.model, trained.model, "-s", system, "-o", "devi.csv"],
            ["convert", trained.model, "-o", "new.pb"],
        )
    )
    assert (code, tested, deviating) == (0, 0, 0), (text, numbers)
    assert "made by         deepmd-mask" in text
    assert json.loads(as_json)["type_map"] == helpers.TYPE_MAP
    assert numbers == evaluate(trained.model, [system]).as_json() + "\n"
    assert len((tmp_path / "devi.csv").read_text().splitlines()) == 1 + len(trained.frames.mask)
    assert refused == 1
    assert "needs DeePMD-kit and TensorFlow, which are not installed: pip install" in message
    assert not (tmp_path / "new.pb").exists()
