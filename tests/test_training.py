# SPDX-License-Identifier: LGPL-3.0-or-later
"""The real dp from training to testing, and what its models must be."""

import json
import os
import re
from functools import partial

import deepmd
import helpers
import jobs
import numpy as np
import pytest
from deepmd.tf.utils.graph import get_tensor_by_name

STEPS = 6
FEW_NETS = {"type_one_side": True}  # a third, and what takes time is to build their graphs


def read_lcurve(directory):
    """Return the numbers of lcurve.out, [rows, columns]; the first column is the step."""
    return np.loadtxt(directory / "lcurve.out", ndmin=2)


def evaluate(model, frames, **options):
    return jobs.evaluate(model, frames.coord, frames.types, frames.mask, **options)


# ---- The command line ----------------------------------------------------------------------------


class CommandLine:
    """One life of a model: trained, frozen, tested, restarted and compared with another.

    The first training has a process of its own, as users have it.
    Two systems differ in their number of slots; one has two sets; sel is found from the data.
    """

    def __init__(self, root):
        self.root = root
        self.frames = [
            helpers.random_frames(seed=1, nframes=4),
            helpers.random_frames(seed=2, slots=(9, 3, 4), nreal=[[4, 2, 2], [5, 3, 1]]),
        ]
        self.systems = [
            helpers.write_system(root / f"system{k}", frames, nsets=2 - k)
            for k, frames in enumerate(self.frames)
        ]

    def live(self):
        for steps in (STEPS, STEPS + 3):
            jdata = helpers.make_input(
                self.systems, validation=self.systems[1:], steps=steps, sel="auto",
                descriptor=FEW_NETS,
                training={"tensorboard": True, "tensorboard_log_dir": "log"},
            )  # fmt: skip
            helpers.write_input(self.root, jdata, f"input{steps}.json")
        helpers.run_dp(["train", f"input{STEPS}.json"], self.root)
        jobs.run([[self.root, "freeze", "-o", "first.pb"]])
        self.lcurve = (self.root / "lcurve.out").read_text()
        models = ["-m", "first.pb", "second.pb"]
        for command in (
            ["train", f"input{STEPS + 3}.json", "--restart", "model.ckpt"],
            ["freeze", "-o", "second.pb"],
            ["model-devi", *models, "-s", "system1", "-o", "deviation.out", "--atomic"],
        ):
            jobs.run([[self.root, *command]])
        return self

    def evaluate(self, which, model="first.pb"):
        return evaluate(self.root / model, self.frames[which])


@pytest.fixture(scope="module")
def command_line(tmp_path_factory):
    return CommandLine(tmp_path_factory.mktemp("command_line")).live()


def test_train_writes_each_step(command_line):
    lcurve = np.loadtxt(command_line.lcurve.splitlines())
    np.testing.assert_array_equal(lcurve[:, 0], range(STEPS + 1))
    assert np.isfinite(lcurve).all()
    assert np.all(lcurve[:, 1] > 0)


def test_auto_sel_becomes_a_list(command_line):
    """By DeePMD-kit's rule, the whole part of 1.1 times the largest number, to a multiple of 4."""
    jdata = json.loads((command_line.root / "out.json").read_text())
    most = np.max(np.concatenate([frames.counts() for frames in command_line.frames]), axis=0)
    wanted = [4 * int((int(1.1 * count) + 3) // 4) for count in most]
    assert jdata["model"]["descriptor"]["sel"] == wanted


def test_minimum_distance_is_kept_for_compression(command_line):
    shortest = min(frames.shortest() for frames in command_line.frames)
    model = str(command_line.root / "first.pb")
    assert get_tensor_by_name(model, "train_attr/min_nbor_dist") == pytest.approx(shortest)


def test_tensorboard(command_line):
    from tensorflow.compat.v1.train import summary_iterator

    [file] = (command_line.root / "log" / "train").glob("events.*")
    tags = {value.tag for event in summary_iterator(str(file)) for value in event.summary.value}
    for name in ("embedding_net_output", "net_derivative", "force", "matrix_1", "l2_pref_force"):
        assert any(name in tag for tag in tags), name


def printed(output, label):
    """Return the numbers that dp test printed behind a label."""
    return [float(x) for x in re.findall(rf"{re.escape(label)}\s*: (\S+)", output)]


def test_dp_test_prints_the_errors(command_line, capfd):
    """For each system, of all frames and sets; of real atoms."""
    jobs.run([[command_line.root, "test", "-m", "first.pb", "-s", ".", "-n", "0", "-d", "detail"]])
    output = capfd.readouterr().err
    order = [int(k) for k in re.findall(r"testing system : .*system(\d)", output)]
    assert sorted(order) == [0, 1]
    for position, which in enumerate(order):
        frames, found = command_line.frames[which], command_line.evaluate(which)
        energy = found["energy"][:, 0] - frames.energy
        natoms = frames.mask.sum(axis=1)
        force = (found["force"] - frames.force)[frames.mask == 1]
        wanted = {
            "Energy RMSE": np.sqrt(np.mean(energy**2)),
            "Energy RMSE/Natoms": np.sqrt(np.mean((energy / natoms) ** 2)),
            "Force  RMSE": np.sqrt(np.mean(force**2)),
            "Force  MAE": np.mean(np.abs(force)),
        }
        for label, value in wanted.items():
            assert printed(output, label)[position] == pytest.approx(value, rel=1e-5), label
        assert f"number of test data : {len(frames.mask)}" in output
        assert "nan" not in output.lower().split("output of dp test", 1)[1]


def test_restart_goes_on(command_line):
    lcurve = (command_line.root / "lcurve.out").read_text()
    assert lcurve.startswith(command_line.lcurve)
    assert read_lcurve(command_line.root)[-1, 0] == STEPS + 3
    assert command_line.lcurve.count("\n") + 3 <= lcurve.count("\n")
    first, second = (helpers.parameters(command_line.root / f"{n}.pb") for n in ("first", "second"))
    moved = [np.abs(first[name] - second[name]).max() for name in first]
    assert 1e-3 < np.max(moved) < 0.03


def test_model_devi(command_line):
    columns = np.loadtxt(command_line.root / "deviation.out", ndmin=2)
    models = [command_line.evaluate(1, model) for model in ("first.pb", "second.pb")]
    forces, virials, energies = (
        np.array([model[name] for model in models]) for name in ("force", "virial", "energy")
    )
    mask = command_line.frames[1].mask
    natoms = mask.sum(axis=1, keepdims=True)
    of_force = np.linalg.norm(np.std(forces, axis=0), axis=2)
    of_virial = np.std(virials / natoms, axis=0)
    wanted = np.column_stack([
        np.arange(len(of_force)), of_virial.max(axis=1), of_virial.min(axis=1),
        np.sqrt(np.mean(of_virial**2, axis=1)), of_force.max(axis=1),
        of_force.min(axis=1, where=mask == 1, initial=np.inf),
        of_force.mean(axis=1, where=mask == 1), np.std(energies / natoms, axis=0)[:, 0], of_force,
    ])  # fmt: skip
    np.testing.assert_allclose(columns, wanted, rtol=1e-5, atol=1e-9)
    assert np.all(columns[:, 4] > 0)


# ---- Kinds of data and options -------------------------------------------------------------------


def few_atoms():
    return helpers.random_frames(nreal=[[0, 0, 0], [1, 0, 0], [0, 0, 1], [2, 1, 0], [0, 0, 0]])


def unsorted_types():
    frames = helpers.random_frames(seed=4)
    order = np.random.default_rng(0).permutation(len(frames.types))
    per_slot = {name: getattr(frames, name)[:, order] for name in ("coord", "mask", "force")}
    return frames._replace(
        types=frames.types[order], preference=frames.preference[:, order], **per_slot
    )


KINDS = {
    "no-or-one-real-atom": ([few_atoms], {}),
    "two-frames-a-batch-in-float32": (
        [few_atoms, helpers.random_frames],
        {
            "training_data": {"batch_size": 2},
            "descriptor": {"precision": "float32"},
            "fitting_net": {"precision": "float32"},
        },
    ),
    "loss-of-energy-and-force-of-unsorted-types": (
        [unsorted_types],
        {
            "loss": {"start_pref_e": 1.0, "limit_pref_e": 1.0, "start_pref_f": 1.0},
            "descriptor": FEW_NETS,
        },
    ),
    "mixed-batches": (
        [helpers.random_frames, few_atoms],
        {"training_data": {"batch_size": "mixed:2"}},
    ),
    "all-options": (
        [helpers.random_frames],
        {
            "descriptor": {
                "resnet_dt": True,
                "exclude_types": [[0, 2], [1, 1]],
                "activation_function": "silut:2",
                "type_one_side": True,
                "neuron": [4, 8, 8, 3],
                "even_steps": True,
            },
            "fitting_net": {"atom_ener": [-5.0, None, None]},
        },
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_trains_freezes_and_evaluates(kind, tmp_path):
    makers, sections = KINDS[kind]
    frames = [make() for make in makers]
    systems = [helpers.write_system(tmp_path / f"s{k}", f) for k, f in enumerate(frames)]
    helpers.write_input(tmp_path, helpers.make_input(systems, steps=8, **sections))
    jobs.run([[tmp_path, "train", "input.json"], [tmp_path, "freeze", "-o", "f.pb"]])
    assert np.isfinite(read_lcurve(tmp_path)).all()
    assert all(np.isfinite(array).all() for array in helpers.parameters(tmp_path / "f.pb").values())
    for system in frames:
        found = evaluate(tmp_path / "f.pb", system)
        assert all(np.isfinite(array).all() for array in found.values())
        virtual = system.mask == 0
        assert not any(found[n][virtual].any() for n in ("force", "atom_energy", "atom_virial"))
        assert not found["energy"][np.all(virtual, axis=1)].any()


@pytest.mark.skipif(deepmd.__version__ < "3.2", reason="use_default_pf is an option of 3.2")
def test_missing_weights_are_1_for_real_atoms(tmp_path):
    """Where DeePMD-kit's option asks for it, set by set; labels of virtual atoms do not count."""
    both = [helpers.random_frames(seed=seed, nframes=2) for seed in (1, 2)]
    without, given = (f._replace(force=f.force + 3 * (1 - f.mask)[..., None]) for f in both)

    def train(name, preference, loss):
        directory = tmp_path / name
        systems = [
            helpers.write_system(directory / "s0", without._replace(preference=preference)),
            helpers.write_system(directory / "s1", given),
        ]
        if loss:
            (directory / "s0" / "set.000" / "atom_pref.npy").unlink()
        options = {"loss": loss, "descriptor": FEW_NETS}
        jdata = helpers.make_input(systems, validation=systems[:1], steps=5, **options)
        helpers.write_input(directory, jdata)
        jobs.run([[directory, "train", "input.json"]])
        return read_lcurve(directory)

    wanted = train("written", without.mask, {})
    found = train("missing", without.mask, {"use_default_pf": True})
    np.testing.assert_array_equal(found, wanted)
    assert np.all(wanted[:, 1:] > 0)


@pytest.mark.parametrize("nsystems", [1, 2])
def test_energy_bias_counts_real_atoms(nsystems, tmp_path):
    """Each batch is a whole system, so that the regression sees all frames equally often."""
    frames = [
        helpers.random_frames(seed=s, slots=(5 + s, 4, 2), nframes=6) for s in range(nsystems)
    ]
    systems = [helpers.write_system(tmp_path / f"s{k}", f) for k, f in enumerate(frames)]
    jdata = helpers.make_input(
        systems, steps=0, sel=(7, 4, 2), training_data={"batch_size": 6}, descriptor=FEW_NETS
    )
    helpers.write_input(tmp_path, jdata)
    jobs.run([[tmp_path, "train", "input.json"], [tmp_path, "freeze", "-o", "f.pb"]])
    counts = np.concatenate([f.counts() for f in frames])
    wanted, *_ = np.linalg.lstsq(counts, np.concatenate([f.energy for f in frames]), rcond=None)
    found = get_tensor_by_name(str(tmp_path / "f.pb"), "fitting_attr/t_bias_atom_e")
    np.testing.assert_allclose(found, wanted, rtol=1e-8)


# ---- What a model's numbers must be --------------------------------------------------------------


def energies(trained, frame, coord):
    """Return energies [n] of a frame at other coordinates [n, nslots, 3]."""
    frames = trained.frames
    mask = np.broadcast_to(frames.mask[frame], coord.shape[:2])
    return trained.evaluate(coord=coord, mask=mask, atomic=False)["energy"][:, 0]


def central_differences(trained, frame, directions, step=1e-4):
    """Return derivatives [n] of the energy of a frame along directions [n, nslots, 3]."""
    shifts = step * np.concatenate([directions, -directions])
    forward, backward = np.split(energies(trained, frame, trained.frames.coord[frame] + shifts), 2)
    return (forward - backward) / (2 * step)


@pytest.mark.parametrize("frame", [0, 2])
def test_force_is_minus_the_gradient_of_the_energy(trained, frame):
    shape = trained.frames.coord[frame].shape
    directions = np.eye(np.prod(shape)).reshape(-1, *shape)
    wanted = -central_differences(trained, frame, directions).reshape(shape)
    force = trained.evaluate()["force"][frame]
    np.testing.assert_allclose(force, wanted, rtol=0, atol=1e-6 * np.abs(force).max())


@pytest.mark.parametrize("frame", [0, 2])
def test_virial_is_minus_the_strain_derivative_of_the_energy(trained, frame):
    coord = trained.frames.coord[frame]
    directions = np.zeros((9, *coord.shape))  # dr_a = strain_ab r_b
    for a, b in np.ndindex(3, 3):
        directions[3 * a + b, :, a] = coord[:, b]
    found = trained.evaluate()
    virial, atom_virial = found["virial"][frame], found["atom_virial"][frame]
    scale = np.abs(virial).max()
    wanted = -central_differences(trained, frame, directions)
    np.testing.assert_allclose(virial, wanted, rtol=0, atol=1e-6 * scale)
    np.testing.assert_allclose(atom_virial.sum(axis=0), virial, rtol=0, atol=1e-13 * scale)


def test_energy_is_the_sum_over_real_atoms(trained):
    found, virtual = trained.evaluate(), trained.frames.mask == 0
    np.testing.assert_allclose(found["atom_energy"].sum(axis=1), found["energy"], rtol=1e-14)
    assert not any(found[n][virtual].any() for n in ("atom_energy", "force", "atom_virial"))
    assert np.all(found["atom_energy"][~virtual] != 0)


def test_number_of_threads_changes_no_bit(tmp_path):
    """Training and evaluation of frames that are large enough to be shared between threads.

    This process has a thread for each core, if not told otherwise; the other has one, or four
    where this has one.
    """
    nreal = [[45, 30, 15], [40, 30, 3]]
    frames = helpers.random_frames(slots=(50, 30, 20), nreal=nreal)
    system = helpers.write_system(tmp_path / "system", frames)
    jdata = helpers.make_input(
        [system], sel=(50, 30, 20), steps=4, training_data={"batch_size": 2},
        descriptor={"neuron": [8, 16, 32], **FEW_NETS}, fitting_net={"neuron": [64, 64]},
    )  # fmt: skip

    def results(name, run, **environment):
        directory = helpers.write_input(tmp_path / name, jdata)
        commands = [["train", "input.json"], ["freeze", "-o", "f.pb"], ["eval", "f.pb", system]]
        run([[directory, *map(str, command)] for command in commands], **environment)
        with np.load(directory / "f.pb.npz") as found:
            return {**helpers.parameters(directory / "f.pb"), **found}

    told = int(os.environ.get("DP_INTRA_OP_PARALLELISM_THREADS") or 0)
    threads = told or len(os.sched_getaffinity(0))
    here = results("here", jobs.run)
    there = results(
        "there", partial(helpers.run_jobs, directory=tmp_path), OMP_NUM_THREADS="1",
        DP_INTRA_OP_PARALLELISM_THREADS="1" if threads > 1 else "4",
        DP_INTER_OP_PARALLELISM_THREADS="1",
    )  # fmt: skip
    for name, array in here.items():
        np.testing.assert_array_equal(array, there[name], err_msg=name)
