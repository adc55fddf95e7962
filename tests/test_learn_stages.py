# SPDX-License-Identifier: LGPL-3.0-or-later
"""Stages of ``dp-mask learn``, one by one: what they choose, hold out and train with."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from helpers import TYPE_MAP, random_frames, write_system
from learning import changed_input, read, task_folder
from plain_models import random_nets, write_model

from deepmd_mask.data import open_system
from deepmd_mask.data.training import auto_sel
from deepmd_mask.learning import (
    explore,
    label,
    loop,
    pack,
    select,
    train,
)
from deepmd_mask.learning import openmm as of_openmm
from deepmd_mask.learning.files import write_json
from deepmd_mask.learning.frames import read_frames, write_frames
from deepmd_mask.learning.tasks import RESULT, Task, TaskError
from deepmd_mask.openmm import DeviationError

# ---- Selection -----------------------------------------------------------------------------------


def explored(deviations, seed):
    """Return frames of water with deviations of their first atom, and smaller ones of others."""
    rng = np.random.default_rng(seed)
    frames = []
    for deviation in deviations:
        atoms = molecule("H2O")
        atoms.positions += rng.normal(scale=0.05, size=(3, 3))
        atoms.set_array("deviation", np.array([deviation, 0.01, 0.01]))
        frames.append(atoms)
    return frames


def selected(tmp_path, files, **changes):
    settings = {"trust_lo": 0.1, "trust_hi": 0.5, "frames": 2, "held_out_frames": 2, "held_out": 1}
    settings |= {"committee": ["none.pb"], "preference": "all", "type_map": ["O", "H"], **changes}
    folder = task_folder(tmp_path, "select", settings, **files)
    select.work(Task(folder, folder.parent / "common", folder, settings))
    return json.loads((folder / "counts.json").read_text()), folder


def test_shares_and_choice(tmp_path):
    """Bounds are DP-GEN's; what is held out is not chosen; what is lost has failed."""
    training = explored([0.05, 0.1, 0.2, 0.3, 0.5, 0.7], 1)
    training[-1].info["lost"] = 4
    training.append(training[2].copy())  # the same once more
    held_out = explored([0.05, 0.2, 0.9], 2)
    counts, folder = selected(tmp_path, {"000": training, "001": held_out})
    shares = {"accurate": 2, "candidate": 5, "failed": 7}
    assert counts == {"frames": 14, **shares, "chosen": 2, "held_out": 2, "missing": []}
    chosen = read_frames(folder / "candidates.xyz")
    assert all(0.1 <= atoms.info["max_devi_f"] < 0.5 for atoms in chosen)
    assert not np.allclose(chosen[0].positions, chosen[1].positions)
    test = read_frames(folder / "held_out.xyz")
    np.testing.assert_allclose([a.positions for a in test], [a.positions for a in held_out[:2]],
                               atol=1e-7)  # fmt: skip


def test_what_a_chosen_frame_says_is_lost_has_failed(tmp_path):
    training = explored([0.2], 1)
    training[0].info["lost"] = 9
    counts, folder = selected(tmp_path, {"000": training, "001": []})
    assert (counts["chosen"], counts["failed"], counts["frames"]) == (1, 9, 10)
    assert "lost" not in read_frames(folder / "candidates.xyz")[0].info


def test_deviations_are_of_preferred_atoms(tmp_path):
    counts, _ = selected(tmp_path, {"000": explored([0.7], 1), "001": []}, preference="element:H")
    assert counts["accurate"] == 1


def test_frames_like_those_of_before_are_not_chosen(tmp_path):
    training = explored([0.2, 0.2], 1)
    files = {"000": training, "001": [], "before_000000": training[:1]}
    counts, folder = selected(tmp_path, files)
    assert counts["chosen"] == 1
    (chosen,) = read_frames(folder / "candidates.xyz")
    np.testing.assert_allclose(chosen.positions, training[1].positions, atol=1e-7)


def test_frames_that_no_model_takes(tmp_path):
    """NaN has failed; a box and an element that no model knows are errors."""
    broken = molecule("H2O")
    broken.positions[0] = np.nan
    counts, _ = selected(tmp_path / "nan", {"000": [broken], "001": []})
    assert counts["failed"] == 1
    boxed = molecule("H2O")
    boxed.set_cell([9, 9, 9])
    boxed.pbc = True
    with pytest.raises(ValueError, match="frame 0 of task 0 is periodic"):
        selected(tmp_path / "box", {"000": [boxed], "001": []})
    nets = random_nets(2, neuron=[4, 8], M2=2, fitting_neuron=[4])
    models = [str(write_model(tmp_path / f"{k}.pb", nets, ["O", "H"])) for k in range(2)]
    with pytest.raises(ValueError, match="explored frame 0, atom 0: the models do not know Ar"):
        select.deviations(models, [Atoms("Ar")], [np.ones(1)])
    assert select.deviations(models, [molecule("H2O")], [np.ones(3)]).tolist() == [0.0]


def test_deviations_that_are_no_numbers_have_failed(tmp_path):
    """Of models, that is; without a committee all frames are candidates."""
    frames = explored([np.nan, 0.2], 1)
    counts, _ = selected(tmp_path / "models", {"000": frames, "001": []})
    assert (counts["candidate"], counts["failed"], counts["chosen"]) == (1, 1, 1)
    counts, _ = selected(tmp_path / "none", {"000": frames, "001": []}, committee=[])
    assert (counts["candidate"], counts["failed"]) == (2, 0)


def test_units_of_explored_frames(tmp_path):
    """What a frame says of those of its labels is not of the new ones; positions are in Å."""
    (atoms,) = explored([0.2], 1)
    atoms.info |= {"energy-unit": "hartree", "force-unit": "hartree/bohr", "length-unit": "Å"}
    _, folder = selected(tmp_path / "energy", {"000": [atoms], "001": []})
    (chosen,) = read_frames(folder / "candidates.xyz")
    assert not any("unit" in name for name in chosen.info)
    atoms.info["length-unit"] = "bohr"
    message = "explored frame 0 of task 0: it says length-unit=bohr; write positions in Å"
    with pytest.raises(ValueError, match=message):
        selected(tmp_path / "length", {"000": [atoms], "001": []})


def test_what_preference_names_and_no_frame_has_is_told(tmp_path):
    files = {"000": explored([0.2], 1), "001": []}
    rule = {"preference": "element:O,ZN", "type_map": ["O", "H", "ZN"]}
    counts, _ = selected(tmp_path, files, **rule)
    assert counts["missing"] == ["ZN"]
    assert select.line(counts).endswith("; no frame has ZN, which preference names")


def test_a_part_may_lack_what_preference_names(tmp_path):
    """An iteration may have few frames; the rule was held to the type map."""
    frames = explored([0.2], 1)
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((3, 3)))
    settings = {"preference": "element:O,ZN", "type_map": ["O", "H", "ZN"], "precision": "float64"}
    settings |= {"external_field": False}
    folder = task_folder(tmp_path, "pack", settings, labelled=frames, held_out=[])
    pack.work(Task(folder, folder.parent / "common", folder, settings))
    (chunk,) = open_system(str(folder / "train"), ("coord",)).chunks()
    assert chunk.preference.sum() == 1


# ---- Between iterations --------------------------------------------------------------------------


def done(found, iteration, name, **summary):
    """Write the summary of a stage, as if it had been made."""
    folder = found.stage(iteration, name).folder
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "stage.json", summary)
    return folder


def test_a_label_that_fails_does_not_end_the_loop(tmp_path):
    """But if candidates are there, and nothing at all can be labelled."""
    found = read(tmp_path)
    result = tmp_path / "result"
    result.mkdir()
    (atoms,) = explored([0.2], 1)
    cases = [(0, [], 0, True), (2, [atoms], 1, True), (2, [atoms], 0, False), (2, [], 1, False)]
    for chosen, held_out, iteration, is_good in cases:
        done(found, 0, "pack", train=4)
        (found.stage(0, "pack").folder / "train").mkdir(exist_ok=True)
        done(found, iteration, "select", chosen=chosen, held_out=1)
        failed = atoms.copy()
        failed.info["reason"] = "no"
        for name, some in {"labelled": [], "held_out": held_out, "failed": [failed]}.items():
            (result / f"{name}.xyz").unlink(missing_ok=True)
            write_frames(result / f"{name}.xyz", some)
        if is_good:
            assert label.collect(found, iteration, tmp_path, [result])["failed"] == 1
        else:
            with pytest.raises(
                TaskError, match=r"none of 2 candidates could be labelled; .*: no\n"
            ):
                label.collect(found, iteration, tmp_path, [result])


def test_what_was_held_out_goes_on_held_out(tmp_path):
    """A trajectory that was not begins anew, and the other way round; a line says so."""
    found = read(tmp_path, explore={"tasks": 4, "held_out": 1})
    before = done(found, 0, "explore", tasks=4, held_out=1)
    for number in range(4):
        (before / f"{number:03d}" / RESULT).mkdir(parents=True)

    def continued(**changes):
        orders = explore.prepare(read(tmp_path, explore=changes), 1)
        return [bool(order.inputs) for order in orders]

    assert continued(tasks=4, held_out=1) == [True] * 4
    assert continued(tasks=4, held_out=2) == [True, True, False, True]
    assert continued(tasks=5, held_out=1) == [True] * 3 + [False] * 2
    assert continued(tasks=3, held_out=1) == [True, True, False]
    more = read(tmp_path, explore={"tasks": 4, "held_out": 2})
    results = [before / f"{number:03d}" / RESULT for number in range(4)]
    for result in results:
        write_frames(result / "frames.xyz", explored([0.2], 1))
    summary = {"tasks": 4, **explore.collect(more, 1, tmp_path, results)}
    assert explore.line(summary) == (
        "4 frames of 4 tasks; 1 begin anew, as others are held out than before"
    )
    (before / "000.xyz").touch()
    done(found, 0, "explore", tasks=4, held_out=2)  # what held_out was then
    (order,) = select.prepare(found, 0)
    assert order.settings["held_out"] == 2


def test_why_trajectories_ended_is_told(tmp_path):
    found = read(tmp_path, explore={"tasks": 2, "held_out": 1})
    reason = 'region "site": 3 Å, no such=thing'
    frames = explored([0.2, 0.2], 1)
    frames[-1].info["ended"] = reason
    results = [tmp_path / str(number) for number in range(2)]
    for result, some in zip(results, (frames, frames[:1]), strict=True):
        result.mkdir()
        write_frames(result / "frames.xyz", some)
    summary = {"tasks": 2, **explore.collect(found, 0, tmp_path, results)}
    assert explore.line(summary) == f"3 frames of 2 tasks; 1 ended early, task 000: {reason}"


class Failing:
    """A simulation that fails in its second interval."""

    def __init__(self, error):
        self.errors = [None, error]

    def step(self, _):
        error = self.errors.pop(0)
        if error is not None:
            raise error


def test_a_trajectory_that_fails_says_why(tmp_path):
    setup = of_openmm.Setup(None, None, None, None)
    for error, reason in (
        (ValueError("the region is too large\nfor it"), "the region is too large"),
        (DeviationError("step 4"), ""),
    ):
        frames = 2 if isinstance(error, DeviationError) else 1
        found = of_openmm._run(Failing(error), setup, None, 2, 9)
        assert found == (frames, False, reason)
    of_openmm._write(tmp_path, explored([0.2], 1), 8, "the region is too large")
    (atoms,) = read_frames(tmp_path / "frames.xyz")
    assert (atoms.info["lost"], atoms.info["ended"]) == (8, "the region is too large")


def test_preference_of_the_loop_is_that_of_explore(tmp_path):
    """Of the one with OpenMM, unless it has its own, or the rule is of an array of frames."""
    function = {"function": explore.OPENMM, "options": {"build": "system:build"}}

    def given(rule, **options):
        section = {**function, "options": {**function["options"], **options}}
        orders = explore.prepare(read(tmp_path, preference=rule, explore=section), 0)
        return orders[0].settings["options"].get("preference")

    assert given("element:ZN") == "element:ZN"
    assert given("element:ZN", preference="all") == "all"
    assert given("array:preference") is None
    assert "preference" not in explore.prepare(read(tmp_path), 0)[0].settings["options"]


def test_levels_and_types_stay(tmp_path):
    """Or it is an error before anything is done; another preference is told."""
    told = []
    found = read(tmp_path)
    done(found, 0, "label", levels="zinc_waters:gfn2")
    done(found, 0, "pack", preference="all")
    done(found, 0, "train", type_map=["O", "H", "ZN"], sel=[4, 8, 4])
    for changes in ({}, {"label": ["zinc_waters:gfn2"]}, {"type_map": ["O", "H", "ZN", "S"]}):
        loop._require_same(read(tmp_path, **changes), told.append)
    assert told == []
    for name, changes in {
        "label": {"label": "zinc_waters:gfn1"},
        "type_map": {"type_map": ["H", "O", "ZN"]},
    }.items():
        with pytest.raises(ValueError, match=rf"^{name} is .* iteration 0.*[Ss]et it back"):
            loop._require_same(read(tmp_path, **changes), told.append)
    loop._require_same(read(tmp_path, preference="element:ZN"), told.append)
    assert told[0].startswith("preference is element:ZN, and was all when iteration 0 was packed")


# ---- Training ------------------------------------------------------------------------------------


def test_data_to_begin_with(tmp_path):
    """The first iteration explores nothing; slots are counted once, and anew if need be."""
    loop = read(tmp_path, type_map=TYPE_MAP, data=["first"])
    script = json.loads((tmp_path / "input.json").read_text())
    script["model"]["descriptor"]["sel"] = "auto"
    (loop.folder / "input.json").write_text(json.dumps(script))
    frames = random_frames(nframes=4)
    most = frames.counts().max(axis=0)
    write_system(loop.folder / "first", frames)
    for iteration in range(2):
        for stage in (explore, select, label, pack):
            if iteration == 0:
                assert stage.prepare(loop, 0) == []
            collect = partial(stage.collect, loop, iteration)
            _empty(loop.stage(iteration, stage.__name__.rpartition(".")[2]), collect)
        orders = _packed(loop, iteration, frames if iteration else None)
        assert len(orders) == 3
        sel = orders[0].settings["input"]["model"]["descriptor"]["sel"]
        assert sel == auto_sel("auto", most)
        assert [bool(order.inputs) for order in orders] == [iteration == 1] * 3
        trained = loop.stage(iteration, "train").folder
        trained.mkdir(parents=True, exist_ok=True)
        write_json(trained / "stage.json", {"sel": sel})
        for number in range(3):
            (trained / f"graph.{number:03d}.pb").touch()
    write_json(loop.stage(0, "train").folder / "stage.json", {"sel": [1, 1, 1]})
    assert [bool(order.inputs) for order in train.prepare(loop, 1)] == [False] * 3


@pytest.fixture
def trained(tmp_path):
    """Return a function that reads a loop which has been trained once, with data."""
    frames = random_frames(nframes=4)

    def again(**changes):
        found = read(tmp_path, **{"type_map": TYPE_MAP, "data": ["first"], **changes})
        shutil.copy(tmp_path / "input.json", found.folder)
        changed_input(found.folder, "model", descriptor={"sel": "auto"})
        if not (found.folder / "first").exists():
            write_system(found.folder / "first", frames)
        sel = auto_sel("auto", frames.counts().max(axis=0))
        folder = done(found, 0, "train", sel=sel, type_map=TYPE_MAP)
        for number in range(3):
            (folder / f"graph.{number:03d}.pb").touch()
            (folder / f"weights.{number:03d}").mkdir(exist_ok=True)
        done(found, 1, "pack", train=0, test=0)
        return found

    return again


def test_models_that_are_added(trained):
    """They begin from nothing, and the others go on, also without new data."""
    assert train.prepare(trained(), 1) == []
    orders = train.prepare(trained(models=5), 1)
    assert [bool(order.inputs) for order in orders] == [True] * 3 + [False] * 2
    steps = [order.settings["input"]["training"]["numb_steps"] for order in orders]
    assert steps == [1000] * 3 + [3000] * 2


def test_what_the_user_gives_between_iterations_is_learned(trained):
    """Systems, an input: also where an iteration has found nothing new."""
    found = trained()
    wanted = train.prepare(trained(models=5), 1)[0].settings["learned"]
    done(found, 0, "train", sel=found.stage(0, "train").summary["sel"], learned=wanted)
    assert train.prepare(found, 1) == []
    changed_input(found.folder, "training", numb_steps=7)
    assert len(train.prepare(found, 1)) == 3
    wanted = train.prepare(found, 1)[0].settings["learned"]
    done(found, 0, "train", sel=found.stage(0, "train").summary["sel"], learned=wanted)
    assert train.prepare(found, 1) == []
    write_system(found.folder / "first" / "second", random_frames(nframes=1))
    assert len(train.prepare(found, 1)) == 3


def test_a_type_map_that_has_grown(trained):
    """Its slots are counted, and other nets begin from nothing."""
    found = trained(type_map=[*TYPE_MAP, "S"])
    done(found, 1, "pack", train=4, test=0)
    last = found.stage(0, "train").summary["sel"]
    orders = train.prepare(found, 1)
    assert [order.inputs for order in orders] == [{}] * 3
    assert orders[0].settings["input"]["model"]["descriptor"]["sel"] == [*last, 0]


def test_names_and_paths_of_the_input(trained):
    """Checkpoints have the name that the next iteration looks for; systems are found by tasks."""
    found = trained()
    write_system(found.folder / "more" / "val", random_frames(nframes=1))
    changed_input(found.folder, "training", save_ckpt="mine", validation_data={"systems": "more"})
    train.require_systems(found)
    training = train.prepare(found, 0)[0].settings["input"]["training"]
    assert training["save_ckpt"] == train.CHECKPOINT
    assert training["training_data"]["systems"] == ["../../common/data/000"]
    assert training["validation_data"]["systems"] == ["../../common/validation/000"]
    common = train.common(found, 0)
    assert common["validation/000"] == found.folder / "more" / "val"
    assert list(common) == ["data/000", "validation/000"]


def _empty(stage, collect):
    """Make a stage without tasks."""
    stage.make([], {}, {}, lambda *_: None, collect)


def _packed(loop, iteration, frames):
    """Return the tasks of a training; with frames as what was packed in this iteration."""
    if frames is not None:
        packed = loop.stage(iteration, "pack").folder
        write_system(packed / "train", frames)
        write_json(packed / "stage.json", {"train": len(frames.mask), "test": 0})
    return train.prepare(loop, iteration)
