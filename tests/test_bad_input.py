# SPDX-License-Identifier: LGPL-3.0-or-later
"""Bad input: an error that says what and where, before any file is touched."""

import shutil

import helpers
import jobs
import numpy as np
import pytest
from ase.neighborlist import NewPrimitiveNeighborList
from deepmd.infer import DeepPot
from deepmd.tf.env import tf
from helpers import SLOTS, TYPE_MAP

from deepmd_mask.data.training import check_training_data, scan_systems
from deepmd_mask.graph.descriptor import DescrptMask

NREAL = [[3, 2, 1], [4, 2, 1], [5, 1, 2]]
NSLOTS = sum(SLOTS)


@pytest.fixture
def frames():
    return helpers.random_frames(nreal=NREAL)


@pytest.fixture
def system(tmp_path, frames):
    """Write a good system, which tests then spoil."""
    return helpers.write_system(tmp_path / "water", frames)


def real_atom(frames, frame, which=0):
    return np.flatnonzero(frames.mask[frame])[which]


def change(system, key, function):
    """Replace an array of a system by what a function makes of it, or change it in place."""
    path = system / "set.000" / f"{key}.npy"
    array = np.load(path)
    changed = function(array)
    np.save(path, array if changed is None else changed)


def refuse_data(system, *messages, good=None, **sections):
    """Require that checking the input of a training raises an error that has all messages.

    The system is for training or, where there is a good one for that, for validation.
    """
    systems = ([good], [system]) if good else ([system],)
    jdata = helpers.make_input(*systems, **sections)
    with pytest.raises(ValueError) as error:
        check_training_data(jdata)
    for message in [f"system {system}", *messages]:
        assert message in str(error.value)


def test_good_data_passes(system):
    check_training_data(helpers.make_input([system], validation=[system]))
    summary = scan_systems([str(system)], TYPE_MAP)
    np.testing.assert_array_equal(summary.max_count, np.max(NREAL, axis=0))


def test_min_distance_is_of_real_atoms(system, frames):
    """A virtual atom beside a real one does not count."""
    virtual = np.flatnonzero(frames.mask[0] == 0)[0]
    near = frames.coord[0, real_atom(frames, 0)] + 1e-3
    change(system, "coord", lambda coord: np.put(coord[0], 3 * virtual + np.arange(3), near))
    assert scan_systems([str(system)], TYPE_MAP).min_distance == pytest.approx(frames.shortest())


@pytest.mark.parametrize("value", [0.9, -1.0, 2.0, np.nan, 1e-300])
def test_mask_that_is_neither_0_nor_1(system, value):
    change(system, "aparam", lambda mask: np.put(mask[1], 4, value))
    refuse_data(system, "set.000", "frame 1, atom 4", f"mask value {value:g}", "neither 0 nor 1")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_coordinate_that_is_not_finite(system, frames, value):
    atom = real_atom(frames, 2)
    change(system, "coord", lambda coord: np.put(coord[2], 3 * atom + 1, value))
    refuse_data(system, f"frame 2, atom {atom}", "coordinate y", str(value), "finite")


@pytest.mark.parametrize("distance", [0.0, 5e-7])
def test_real_atoms_at_the_same_point(system, frames, distance):
    one, other = real_atom(frames, 1), real_atom(frames, 1, -1)
    place = frames.coord[1, one] + [0, distance, 0]
    change(system, "coord", lambda coord: np.put(coord[1], 3 * other + np.arange(3), place))
    refuse_data(system, f"frame 1, atom {one}", f"atom {other}", "same point")


@pytest.mark.parametrize("type_", [3, -1, 40])
def test_type_outside_the_type_map(system, frames, type_):
    types = frames.types.copy()
    types[6] = type_
    np.savetxt(system / "type.raw", types, fmt="%d")
    refuse_data(system, "atom 6", f"type {type_}", "outside the type map")


def test_type_outside_without_type_map_file(system, frames):
    (system / "type_map.raw").unlink()
    np.savetxt(system / "type.raw", frames.types + 1, fmt="%d")
    refuse_data(system, "type 3", "outside the type map", f"atom {NSLOTS - SLOTS[-1]}")


def test_element_outside_the_type_map(system):
    (system / "type_map.raw").write_text("C\nO\nFE\n")
    refuse_data(system, "type_map.raw", "FE", str(TYPE_MAP))


def test_more_real_atoms_than_sel(system):
    refuse_data(
        system,
        "set.000/aparam.npy, frame 1",
        "4 real atoms",
        "type 0 (C)",
        "sel allows 3",
        sel=[3, 4, 2],
    )


def test_periodic_system(system):
    (system / "nopbc").unlink()
    refuse_data(system, "periodic", "nopbc")


@pytest.mark.parametrize("key", ["aparam", "atom_pref", "coord"])
def test_missing_file(system, key):
    (system / "set.000" / f"{key}.npy").unlink()
    shape = [] if key == "coord" else [f"({len(NREAL)}, {NSLOTS})"]
    refuse_data(system, f"set.000/{key}.npy", "missing", *shape)


def test_preference_may_be_missing_where_no_loss_needs_it(system):
    (system / "set.000" / "atom_pref.npy").unlink()
    loss = {"start_pref_pf": 0.0, "limit_pref_pf": 0.0, "start_pref_f": 1.0, "limit_pref_f": 1.0}
    check_training_data(helpers.make_input([system], loss=loss))


SHAPES = {
    "one slot too few": (lambda a: a[:, :-1], f"(3, {NSLOTS - 1})"),
    "one frame too few": (lambda a: a[:-1], f"(2, {NSLOTS})"),
    "three numbers for each slot": (lambda a: np.repeat(a, 3, axis=1), f"(3, {3 * NSLOTS})"),
    "transposed": (lambda a: a.T, f"({NSLOTS}, 3)"),
}


@pytest.mark.parametrize("key", ["aparam", "atom_pref"])
@pytest.mark.parametrize("shape", SHAPES)
def test_wrong_shape(system, key, shape):
    function, found = SHAPES[shape]
    change(system, key, function)
    refuse_data(
        system, f"set.000/{key}.npy", f"found shape {found}", f"expected (3, {NSLOTS})"
    )  # fmt: skip


def test_validation_data_is_checked_too(tmp_path, system):
    good = shutil.copytree(system, tmp_path / "good")
    change(system, "aparam", lambda mask: np.put(mask[1], 4, 0.9))
    refuse_data(system, "mask value 0.9", good=good)


def test_every_set_is_checked(tmp_path, frames):
    system = helpers.write_system(tmp_path / "two", frames, nsets=2)
    np.save(system / "set.001" / "aparam.npy", np.full((1, NSLOTS), 0.5))
    refuse_data(system, "set.001", "frame 0 (2 of the system), atom 0", "mask value 0.5")


def test_files_that_change_are_read_again(system):
    """One process may train twice, as active learning does."""
    check_training_data(helpers.make_input([system]))
    change(system, "aparam", lambda mask: np.put(mask[1], 4, 0.9))
    refuse_data(system, "mask value 0.9")


def test_type_map_of_mixed_systems(tmp_path, frames):
    """Types of deepmd/npy/mixed, too, are numbered by the system's own type map."""
    system = helpers.write_system(tmp_path / "mixed", frames, type_map=["ZN", "O", "C"])
    np.savetxt(system / "type.raw", np.zeros(NSLOTS), fmt="%d")
    types = np.tile(2 - frames.types, (len(NREAL), 1))
    np.save(system / "set.000" / "real_atom_types.npy", types)
    summary = scan_systems([str(system)], TYPE_MAP)
    np.testing.assert_array_equal(summary.max_count, np.max(NREAL, axis=0))


def test_hdf5(tmp_path, system):
    """DeePMD-kit reads FILE#/GROUP as well as directories."""
    summary = scan_systems([helpers.write_hdf5(tmp_path / "all.hdf5", system)], TYPE_MAP)
    np.testing.assert_array_equal(summary.max_count, np.max(NREAL, axis=0))


OPTIONS = {
    "sel has 2 entries, but the type map has 3 types": {"sel": [1, 2]},
    "at least one real atom": {"sel": [0, 0, 0]},
    "axis_neuron (9) is larger than M1 (8)": {"neuron": [4, 8], "axis_neuron": 9},
    'precision of descriptor is "bfloat16"': {"precision": "bfloat16"},
    "does not go with spin": {"spin": object()},
    'sel is "auto"': {"sel": "auto"},
}


@pytest.mark.parametrize("message", OPTIONS)
def test_option(message):
    options = {"sel": SLOTS, "neuron": [4, 8], "axis_neuron": 2, "ntypes": 3, **OPTIONS[message]}
    with pytest.raises(ValueError) as error:
        DescrptMask(**options)
    assert message in str(error.value)


def test_input_without_mask(tmp_path, system):
    jdata = helpers.make_input([system])
    del jdata["model"]["fitting_net"]["numb_aparam"]
    del jdata["model"]["fitting_net"]["use_aparam_as_mask"]
    helpers.write_input(tmp_path, jdata)
    with pytest.raises(ValueError, match=r"set numb_aparam to 1 and use_aparam_as_mask"):
        jobs.run([[tmp_path, "train", "input.json"]])


@pytest.mark.parametrize("which", ["training", "validation"])
def test_dp_train_touches_no_file(tmp_path, system, which):
    """In this process, and in one of its own, as users have it."""
    bad = shutil.copytree(system, tmp_path / "bad")
    change(bad, "aparam", lambda mask: np.put(mask[1], 4, 0.9))
    systems = ([bad], [system]) if which == "training" else ([system], [bad])
    directory = helpers.write_input(tmp_path / "run", helpers.make_input(*systems))
    files = ["out.json", "lcurve.out", "model.ckpt.index", "checkpoint", "input_v2_compat.json"]
    for name in files:
        (directory / name).write_text("precious")
    if which == "training":
        with pytest.raises(ValueError) as error:
            jobs.run([[directory, "train", "input.json"]])
        output = str(error.value)
    else:
        output = helpers.run_dp(["train", "input.json"], directory, succeeds=False, forked=True)
    assert f"system {bad}, set.000/aparam.npy, frame 1, atom 4: mask value 0.9" in output
    changed = [name for name in files if (directory / name).read_text() != "precious"]
    assert not changed
    assert {path.name for path in directory.iterdir()} == {"input.json", *files}


# ---- Inference -----------------------------------------------------------------------------------


def refuse_frames(trained, *messages, **changes):
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        trained.evaluate(**changes)
    for message in ("deepmd-mask:", *messages):
        assert message in str(error.value)


def test_inference_with_bad_mask(trained):
    mask = trained.frames.mask.copy()
    mask[2, 5] = 0.9
    refuse_frames(trained, "frame 2, atom 5", "mask value 0.9", mask=mask)


def test_inference_with_coordinate_that_is_not_finite(trained):
    coord, atom = trained.frames.coord.copy(), real_atom(trained.frames, 1)
    coord[1, atom, 2] = np.nan
    refuse_frames(trained, f"frame 1, atom {atom}", "coordinate z", "nan", coord=coord)


def test_inference_with_atoms_at_the_same_point(trained):
    coord = trained.frames.coord.copy()
    one, other = real_atom(trained.frames, 3), real_atom(trained.frames, 3, 1)
    coord[3, other] = coord[3, one]
    refuse_frames(trained, f"frame 3, atom {one}", f"atom {other}", "same point", coord=coord)


def test_inference_with_type_outside_the_type_map(trained):
    types = trained.frames.types.copy()
    types[-1] = 3
    atom = f"atom {NSLOTS - 1}"
    for _ in range(30):  # other nodes of the graph run beside the one that checks
        refuse_frames(trained, atom, "type 3", "outside the type map", types=types)


def test_inference_with_more_real_atoms_than_sel_warns_once(tmp_path, trained):
    """The job evaluates frame by frame, and only the first two are within sel."""
    frames = helpers.random_frames(slots=(9, 4, 2), nreal=[[1, 1, 1], [5, 4, 2], *[[8, 4, 2]] * 3])
    system = helpers.write_system(tmp_path / "large", frames)
    model = shutil.copy(trained.model, tmp_path)
    # What TensorFlow writes is chosen at its start; so this one is no fork.
    job = [tmp_path, "eval", model, system]
    output = helpers.run_jobs([job], tmp_path, TF_CPP_MIN_LOG_LEVEL="0")
    warnings = [line for line in output.splitlines() if "deepmd-mask" in line]
    assert len(warnings) == 1
    assert "8 real atoms of type 0, more than the 5 that sel bounds" in warnings[0]
    with np.load(f"{model}.npz") as found:
        assert all(np.isfinite(array).all() for array in found.values())


def test_frames_of_no_and_one_real_atom(trained):
    frames = helpers.random_frames(nreal=[[0, 0, 0], [1, 0, 0], [0, 0, 1]])
    found = trained.evaluate(frames)
    assert found["energy"][0] == 0
    assert not any(found[name].any() for name in ("force", "virial", "atom_virial"))
    assert np.all(found["energy"][1:] != 0)
    moved = trained.evaluate(frames._replace(coord=frames.coord - 7))
    np.testing.assert_array_equal(moved["energy"], found["energy"])


def test_inference_with_ghosts_of_a_neighbour_list(trained, monkeypatch):
    """Periodic images, as an MD engine's other processes, would be left out in silence."""
    monkeypatch.setenv("DP_MASK_IGNORE_BOX", "1")  # or the box itself would be refused
    frames = trained.frames
    box = np.eye(3) * np.ptp(frames.coord[0], axis=0).max()
    neighbours = NewPrimitiveNeighborList([2.0] * NSLOTS)
    potential = DeepPot(str(trained.model), neighbor_list=neighbours)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\d+ of \d+ atoms are ghosts"):
        potential.eval(
            frames.coord[:1].reshape(1, -1), box[None], frames.types, aparam=frames.mask[:1]
        )


WITHOUT_PLUGIN = """
import importlib.metadata, sys
found = importlib.metadata.entry_points
importlib.metadata.entry_points = lambda **of: () if of.get("group") == "deepmd" else found(**of)
from deepmd.infer import DeepPot
DeepPot(sys.argv[1])
"""


def test_frozen_model_without_plugin_says_what_to_install(trained, tmp_path):
    script = ["-c", WITHOUT_PLUGIN, trained.model]
    output = helpers.run_python(script, tmp_path, succeeds=False, forked=True)
    assert "not registered" in output
    assert "PipInstallDeepmdMask" in output


def test_unknown_value_of_dp_mask(tmp_path):
    script = ["-c", "import deepmd.tf"]
    output = helpers.run_python(script, tmp_path, succeeds=False, forked=True, DP_MASK="yes")
    assert 'DP_MASK is "yes"; the only value that it can have is "builtin"' in output
