# SPDX-License-Identifier: LGPL-3.0-or-later
"""deepmd_mask.Potential: what it takes, gives and refuses.

That it gives what DeePMD-kit does is in test_compress.py, test_builtin.py and test_convert.py,
which have models of all kinds; how it evaluates, in test_potential_kernel.py.
"""

import copy
import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import helpers
import numpy as np
import pytest
from frozen_models import REAL_ATOMS, assert_potential_agrees, edited, of_first_version, with_input
from plain_models import random_nets, write_model

from deepmd_mask import ForceDeviation, Potential, Prediction
from deepmd_mask.conversion import convert
from deepmd_mask.potential import device

TYPES = np.array([2, 0, 1, 0])
POSITIONS = np.array([[0, 0, 0], [1.6, 0.2, 0], [0.1, 1.8, 0.4], [-0.3, 0.2, 1.7]])


@pytest.fixture(scope="module")
def potential(trained):
    return Potential(trained.model)


@pytest.fixture(scope="module")
def other(trained, tmp_path_factory):
    """Return a model of the same types that gives other forces."""
    double = np.array([[[2.0]] * 3]).reshape(1, 3, 1)
    path = tmp_path_factory.mktemp("other") / "other.pb"
    return edited(trained.model, path, model_attr__model_attr__t_out_std=double)


# ---- What it gives -------------------------------------------------------------------------------


def test_a_molecule(potential):
    found = potential.evaluate(TYPES, POSITIONS)
    assert isinstance(found, Prediction)
    assert isinstance(found.energy, float)
    assert (found.forces.shape, found.energies.shape) == ((4, 3), (4,))
    assert (found.virial, found.atom_virial) == (None, None)
    assert found.energy == pytest.approx(found.energies.sum(), rel=1e-14)
    np.testing.assert_allclose(found.forces.sum(axis=0), 0, atol=1e-14)
    with_virial = potential.evaluate(TYPES, POSITIONS, virial=True)
    assert (with_virial.virial.shape, with_virial.atom_virial.shape) == ((9,), (4, 9))
    np.testing.assert_array_equal(with_virial.forces, found.forces)


def test_lists_and_other_numbers_are_taken(potential):
    wanted = potential.evaluate(TYPES, POSITIONS)
    for types, positions in (
        (TYPES.tolist(), POSITIONS.tolist()),
        (TYPES.astype(np.uint8), np.asfortranarray(POSITIONS)),
    ):
        np.testing.assert_array_equal(potential.evaluate(types, positions).forces, wanted.forces)


def test_frames(potential):
    """Each as if it were alone; types of one serve all."""
    frames = np.stack([POSITIONS, 1.1 * POSITIONS])
    wishes = {"virial": True, "groups": [0, 1, 1, 2]}
    alone = [potential.evaluate(TYPES, frame, **wishes) for frame in frames]
    for types in (TYPES, [TYPES, TYPES]):
        found = potential.evaluate(types, frames, **wishes)
        assert found.energy.shape == (2,)
        for name in Prediction._fields:
            wanted = [getattr(one, name) for one in alone]
            np.testing.assert_array_equal(getattr(found, name), wanted, err_msg=name)


def test_virtual_atoms_take_no_part(potential):
    wanted = potential.evaluate(TYPES[1:], POSITIONS[1:])
    positions = POSITIONS.copy()
    positions[0] = np.nan
    found = potential.evaluate(TYPES, positions, [0, 1, 1, 1])
    np.testing.assert_array_equal(found.forces, [[0, 0, 0], *wanted.forces])
    np.testing.assert_array_equal(found.energies, [0, *wanted.energies])
    assert found.energy == wanted.energy


def test_no_atoms_and_no_frames(potential):
    none = potential.evaluate(np.zeros(0, int), np.zeros((0, 3)))
    assert (none.energy, none.forces.shape) == (0, (0, 3))
    assert potential.evaluate([], np.zeros((0, 3))).energy == 0
    assert potential.evaluate(TYPES, np.zeros((0, 4, 3))).forces.shape == (0, 4, 3)
    virtual = potential.evaluate(TYPES, POSITIONS, np.zeros(4))
    assert virtual.energy == 0
    assert not virtual.forces.any()


def test_committee(trained, other, potential):
    """Means, and how far models are from them: straight from the definition."""
    models = [trained.model, other, other]
    wishes = {"virial": True, "groups": [0, 1, 1, 2]}
    frames = np.stack([POSITIONS, 1.1 * POSITIONS])
    alone = [Potential(model).evaluate(TYPES, frames, **wishes) for model in models]
    found = Potential(models).evaluate(TYPES, frames, **wishes)
    for name in ("energy", "forces", "energies", "virial", "atom_virial", "weight_gradient"):
        wanted = np.mean([getattr(one, name) for one in alone], axis=0)
        np.testing.assert_allclose(getattr(found, name), wanted, rtol=1e-14, atol=1e-15)
    squares = [((one.forces - found.forces) ** 2).sum(axis=2) for one in alone]
    np.testing.assert_allclose(found.deviation, np.sqrt(np.mean(squares, axis=0)), rtol=1e-12)
    assert found.deviation.min() > 1e-3
    energies = [one.energy for one in alone]
    np.testing.assert_allclose(found.energy_deviation, np.std(energies, axis=0), rtol=1e-12)
    one = Potential(models).evaluate(TYPES, POSITIONS, **wishes)
    for name in Prediction._fields:
        np.testing.assert_array_equal(getattr(one, name), getattr(found, name)[0], err_msg=name)
    of_one = Potential([trained.model]).evaluate(TYPES, POSITIONS)
    np.testing.assert_array_equal(of_one.forces, potential.evaluate(TYPES, POSITIONS).forces)
    assert of_one.deviation is of_one.energy_deviation is None
    again = pickle.loads(pickle.dumps(Potential(models)))
    np.testing.assert_array_equal(again.evaluate(TYPES, frames).deviation, found.deviation)


def test_deviation_of_chosen_atoms():
    deviation = np.array([[1.0, 2.0, 4.0], [3.0, 5.0, 7.0]])
    assert ForceDeviation.of(deviation[0]) == (4, 1, pytest.approx(7 / 3))
    found = ForceDeviation.of(deviation, [[1, 0, 3], [0, 0, 0]])
    np.testing.assert_array_equal(found.max_devi_f, [4, np.nan])
    np.testing.assert_array_equal(found.min_devi_f, [1, np.nan])
    np.testing.assert_array_equal(found.avg_devi_f, [(1 + 3 * 4) / 4, np.nan])
    assert np.isnan(ForceDeviation.of(np.zeros(0)).max_devi_f)


@pytest.mark.parametrize("weights", [[1, -1, 1], [1, np.nan, 1], [1, 1], 1])
def test_weights_that_are_none(weights):
    with pytest.raises(ValueError, match=r"must be finite|have the shape"):
        ForceDeviation.of(np.ones(3), weights)


def test_no_deviation_of_one_model(potential):
    found = potential.evaluate(TYPES, POSITIONS)
    with pytest.raises(ValueError, match="no deviation of one model"):
        ForceDeviation.of(found.deviation)


@pytest.mark.parametrize("model", [None, b"model.pb", 7, [None]])
def test_a_model_that_is_no_path(model):
    with pytest.raises(ValueError, match="give the path of a frozen model"):
        Potential(model)


def test_what_it_says_of_the_model(trained, potential):
    assert potential.type_map == helpers.TYPE_MAP
    assert potential.sel == list(helpers.SLOTS)
    assert potential.paths == [str(trained.model)]
    assert potential.threads >= 1
    assert Potential(trained.model, threads=3).threads == 3


def test_threads_do_not_change_a_bit(trained, potential):
    one = Potential(trained.model, threads=1)
    frames = [POSITIONS * (1 + 0.01 * k) for k in range(8)]
    wanted = [one.evaluate(TYPES, frame).forces for frame in frames]
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda frame: potential.evaluate(TYPES, frame).forces, frames * 5)
        for k, forces in enumerate(found):
            np.testing.assert_array_equal(forces, wanted[k % 8])


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies(trained, other, again, monkeypatch, tmp_path):
    """They open the files anew, also from another folder."""
    monkeypatch.chdir(trained.model.parent)
    for model in (trained.model.name, [trained.model.name, str(other)]):
        monkeypatch.chdir(trained.model.parent)
        potential = Potential(model, device="cpu", threads=2)
        monkeypatch.chdir(tmp_path)
        copied = again(potential)
        assert copied.threads == 2
        wanted, found = (p.evaluate(TYPES, POSITIONS).forces for p in (potential, copied))
        np.testing.assert_array_equal(found, wanted)


def test_nothing_of_tensorflow_is_loaded(trained, tmp_path):
    """With all but dpdata, which loads all its plugins, DeePMD-kit's among them."""
    code = (
        "import sys\n"
        "from deepmd_mask import Potential\n"
        "import deepmd_mask.ase, deepmd_mask.cli, deepmd_mask.frozen\n"
        "import deepmd_mask.data, deepmd_mask.evaluation, deepmd_mask.conversion\n"
        "import deepmd_mask.openmm\n"
        f"Potential({str(trained.model)!r}).evaluate([0, 1], [[0, 0, 0], [1, 1, 1]])\n"
        f"deepmd_mask.frozen.info({str(trained.model)!r})\n"
        f"deepmd_mask.evaluation.evaluate({str(trained.model)!r}, "
        f"{str(trained.directory / 'system')!r})\n"
        "print([name for name in ('tensorflow', 'deepmd') if name in sys.modules])\n"
    )
    assert helpers.run_python(["-c", code], tmp_path) == "[]\n"


# ---- Bad input -----------------------------------------------------------------------------------


BAD = {
    "atom 3: type 3 is outside the type map, which has 3 types": {"types": [2, 0, 1, 3]},
    "atom 1: type -1 is outside the type map": {"types": [2, -1, 1, 0]},
    "atom 0: type 4294967296 is outside the type map": {"types": [2**32, 0, 1, 0]},
    f"atom 1: type {2**63 - 1} is outside the type map": {"types": [2, 2**63 - 1, 1, 0]},
    f"atom 1: type {-(2**63)} is outside the type map": {"types": [2, -(2**63), 1, 0]},
    f"types are as large as {2**63}; number them from 0": {
        "types": np.array([2**63, 0, 1, 0], np.uint64)
    },
    "types are of the type float64, not integers": {"types": [0.0, 1.0, 0.5, 0.0]},
    "types have the shape (3,), not (4,), as positions have": {"types": [0, 1, 2]},
    "types have the shape (1, 4), not (4,)": {"types": [TYPES]},
    "atom 2: coordinate y of a real atom is nan, not a finite number": {"position": np.nan},
    "atom 2: coordinate y of a real atom is -inf, not a finite number": {"position": -np.inf},
    "positions have the shape (4, 2), not (natoms, 3)": {"positions": POSITIONS[:, :2]},
    "positions have the shape (12,), not": {"positions": POSITIONS.ravel()},
    "positions are of the type <U1, not numbers": {"positions": [["a"] * 3] * 4},
    "positions are no array of numbers": {"positions": [[0, 0, 0], [1, 1]]},
    "atom 1: mask value 0.9 is neither 0 nor 1": {"weights": [1, 0.9, 1, 1]},
    "weights have the shape (5,), not (4,)": {"weights": np.ones(5)},
    "numbers have the shape (3,), not (4,)": {"numbers": [7, 8, 9]},
    "at the same point as atom": {"positions": POSITIONS * [[1], [1], [0], [1]]},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(potential, message):
    changes = dict(BAD[message])
    given = {"types": TYPES, "positions": POSITIONS.copy(), **changes}
    if "position" in given:
        given["positions"][2, 1] = given.pop("position")
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        potential.evaluate(**given)
    assert "frame 0" not in str(error.value)


def test_messages_name_the_frame_and_what_the_caller_calls_an_atom(potential):
    frames = np.stack([POSITIONS] * 3)
    numbers = [17, 4, 29, 8]
    frames[1, 2, 0] = np.nan
    message = r"^frame 1, atom 29: coordinate x of a real atom is nan, not a finite number; mend"
    with pytest.raises(ValueError, match=message):
        potential.evaluate(TYPES, frames, numbers=numbers)
    frames[1] = POSITIONS * [[1], [1], [0], [1]]
    message = r"^frame 1, atom (17: at the same point as atom 29|29: .* as atom 17) \(distance 0\)"
    with pytest.raises(ValueError, match=message):
        potential.evaluate(TYPES, frames, numbers=numbers)


def test_more_atoms_than_sel_is_one_warning(trained, caplog):
    potential = Potential(trained.model)
    positions = 2.0 * np.arange(24.0).reshape(8, 3)
    potential.evaluate([0] * 5 + [1] * 3, positions)
    potential.evaluate([0] * 8, positions, [1] * 5 + [0] * 3)
    assert not caplog.records
    for _ in range(3):
        assert np.isfinite(potential.evaluate([0] * 8, positions).forces).all()
    (record,) = caplog.records
    assert "8 real atoms of type 0 (C), more than the 5 that sel bounds" in record.getMessage()


# ---- Files ---------------------------------------------------------------------------------------


def test_there_must_be_models_of_one_type_map(trained, tmp_path):
    with pytest.raises(ValueError, match="there is no model; give the path"):
        Potential([])
    other = edited(trained.model, tmp_path / "other.pb", model_attr__tmap=b"O C ZN")
    message = r"frozen\.pb and .*other\.pb have different type maps, C O ZN and O C ZN"
    with pytest.raises(ValueError, match=message):
        Potential([trained.model, other])
    shape = {"neuron": [4], "M2": 2, "fitting_neuron": [4]}
    of_sel = [
        write_model(tmp_path / f"{sel}.pb", random_nets(2, sel=sel, **shape), ["C", "O"])
        for sel in (5, 6)
    ]
    message = r"5\.pb and .*6\.pb have different sums of sel, 10 and 12"
    with pytest.raises(ValueError, match=message):
        Potential(of_sel)


def test_device_and_threads(trained, monkeypatch):
    with pytest.raises(ValueError, match="device is 'gpu'; give one of 'auto', 'cpu', 'cuda'"):
        Potential(trained.model, device="gpu")
    for threads in (0, -1, 1.5, "2"):
        with pytest.raises(ValueError, match=r"^threads is .*; give a number from 1 on"):
            Potential(trained.model, threads=threads)


def test_cuda_where_there_is_none(trained, monkeypatch):
    """Auto takes the CPU; cuda is an error that says what is missing."""
    without = {
        "built without kernels for it .*-DDPMASK_CUDA=ON": None,
        "the driver finds none": lambda: "the driver finds none",
    }
    for message, reason in without.items():
        with monkeypatch.context() as patch:

            def find(*_, reason=reason):
                if reason is None:
                    raise ImportError("no module")
                return type("kernels", (), {"Potential": None, "reason_against_gpu": reason})

            patch.setattr(device, "import_module", find)
            Potential(trained.model, device="auto").evaluate(TYPES, POSITIONS)
            with pytest.raises(RuntimeError, match=f"there is no GPU to compute on: .*{message}"):
                Potential(trained.model, device="cuda")


def later_version(node):
    if node.op == REAL_ATOMS:
        node.attr["ops_version"].i = 7


def unknown_operator(node):
    if node.op.endswith(">Contract"):
        node.op = node.op.replace("Contract", "Contract2")


REFUSED = {
    "needs operators of version 7, and those installed have version 2; run pip install -U": {
        "change": later_version
    },
    "the operator PipInstallDeepmdMask>Contract2, which the installed version does not know": {
        "change": unknown_operator
    },
    "it has 1 atomic and 2 frame parameters": {"fitting_attr__dfparam": 2},
    "it has 3 atomic and 0 frame parameters": {"fitting_attr__daparam": 3},
    "it is not an energy model": {"model_attr__model_type": b"dos"},
    "it has spins": {"spin_attr__ntypes_spin": 1},
    "it has a data modifier": {"modifier_attr__type": b"dipole_charge"},
    "it lacks o_force, o_virial": {"drop": ["o_force", "o_virial"]},
    "t_bias_atom_e is of size 2, but there are 3 types": {
        "fitting_attr__t_bias_atom_e": np.zeros(2)
    },
    "parameter": {"layer_1_type_1__bias": np.zeros(8)},
}


@pytest.mark.parametrize("message", REFUSED)
def test_models_that_are_refused(trained, tmp_path, message):
    model = edited(trained.model, tmp_path / "model.pb", **REFUSED[message])
    with pytest.raises(ValueError, match=rf"model .*/model\.pb .*{re.escape(message)}"):
        Potential(model)


INPUTS = {
    "the mean of its atomic energies is zero": lambda s: s["fitting_net"].update(
        tot_ener_zero=True
    ),
    "it has a type embedding": lambda s: s.update(type_embedding={"neuron": [2]}),
    "it has a tabulated potential": lambda s: s.update(use_srtab="table.txt"),
}


@pytest.mark.parametrize("message", INPUTS)
def test_training_inputs_that_are_refused(trained, tmp_path, message):
    def change(script):
        INPUTS[message](script["model"])

    model = with_input(trained.model, tmp_path / "model.pb", change)
    with pytest.raises(ValueError, match=rf"model .*/model\.pb cannot be evaluated: {message}"):
        Potential(model)


def test_models_of_the_builtin_must_say_what_they_were_trained_with(trained, tmp_path):
    """Where the graph tells it, too, they must agree."""
    plain = tmp_path / "plain.pb"
    convert(trained.model, plain, operators="built-in")
    assert_potential_agrees(plain, trained.frames, 1e-10)
    bare = edited(plain, tmp_path / "bare.pb", drop=["train_attr/training_script"])
    with pytest.raises(ValueError, match=r"bare\.pb .*does not carry the input .* --input"):
        Potential(bare)
    for name, value in {"activation_function": "relu", "exclude_types": [[0, 1]]}.items():

        def change(script, name=name, value=value):
            script["model"]["descriptor"][name] = value

        other = with_input(plain, tmp_path / f"{name}.pb", change)
        with pytest.raises(ValueError, match=r"by its training input, but .* by its graph"):
            Potential(other)


def test_files_of_the_first_version(trained, tmp_path):
    model = of_first_version(trained.model, tmp_path / "first.pb")
    wanted = Potential(trained.model).evaluate(TYPES, POSITIONS)
    np.testing.assert_array_equal(Potential(model).evaluate(TYPES, POSITIONS).forces, wanted.forces)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_files_that_are_cut(trained, tmp_path, share):
    data = trained.model.read_bytes()
    (tmp_path / "cut.pb").write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"cut\.pb"):
        Potential(tmp_path / "cut.pb")
    with pytest.raises(FileNotFoundError, match="there is no such model"):
        Potential(tmp_path / "none.pb")
