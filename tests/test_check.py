# SPDX-License-Identifier: LGPL-3.0-or-later
"""What dp-mask check finds: each rule provoked once, named with its place, and dp train agrees."""

import json
import os
import shutil
from functools import partial
from io import BytesIO

import helpers
import numpy as np
import pytest
from click.testing import CliRunner
from helpers import SLOTS, TYPE_MAP

from deepmd_mask import data
from deepmd_mask.cli import main
from deepmd_mask.data import pack
from deepmd_mask.data.checking.suspicions import fit_composition
from deepmd_mask.data.training import check_training_data

check = partial(data.check, external_field=True)  # forces here are random
pytestmark = pytest.mark.filterwarnings("ignore::deepmd_mask.data.balance.NetForceWarning")
NFRAMES, NSLOTS = 30, sum(SLOTS)
FRAMES = helpers.random_frames(nframes=NFRAMES, nreal=None)
REAL, VIRTUAL = (np.flatnonzero(FRAMES.mask[1] == value) for value in (1, 0))


@pytest.fixture
def system(tmp_path):
    """Write a good system, which tests then spoil; its path has spaces and a letter with a dot."""
    return helpers.write_system(tmp_path / "мокрая вода ä", FRAMES)


def setting(key, values, frame=1):
    """Return what sets numbers of a frame in an array, by index of the flat frame."""

    def spoil(system):
        path = system / "set.000" / f"{key}.npy"
        array = np.load(path)
        for index, value in values.items():
            array.reshape(NFRAMES, -1)[frame, index] = value
        np.save(path, array)

    return spoil


def replacing(key, function):
    """Return what replaces an array by what a function makes of it."""

    def spoil(system):
        path = system / "set.000" / f"{key}.npy"
        np.save(path, function(np.load(path)), allow_pickle=True)

    return spoil


def writing(name, content):
    """Return what writes text or bytes to a file."""

    def spoil(system):
        data = content.encode() if isinstance(content, str) else content
        (system / name).write_bytes(data)

    return spoil


def removing(name):
    return lambda system: (system / name).unlink()


def archive():
    file = BytesIO()
    np.savez(file, force=FRAMES.force)
    return file.getvalue()


def truncate(system):
    path = system / "set.000/force.npy"
    os.truncate(path, path.stat().st_size - 8)


def folder_for_file(system):
    (system / "set.000/energy.npy").unlink()
    (system / "set.000/energy.npy").mkdir()


def file_for_system(system):
    shutil.rmtree(system)
    system.write_text("no folder")


def loop_of_links(system):
    shutil.rmtree(system)
    system.symlink_to(system)


def loop_for_set(system):
    shutil.rmtree(system / "set.000")
    (system / "set.000").symlink_to(system / "set.000")


def without_slots_of_one_type(system):
    writing("type.raw", "")(system)


def moved(frame, atom, by):
    return {3 * atom + axis: FRAMES.coord[frame, atom, axis] + by[axis] for axis in range(3)}


ONE, OTHER, GHOST = int(REAL[0]), int(REAL[-1]), int(VIRTUAL[0])
ENERGY = ["set.000/energy.npy", 1, None]

# What spoils a system; level, code, file, frame and atom of the only finding; parts of its message.
SPOILED = {
    "mask": (setting("aparam", {4: 0.9}), "error", "mask", "set.000/aparam.npy", 1, 4,
             "mask value 0.9"),
    "coordinate": (setting("coord", {3 * ONE + 1: np.nan}), "error", "coord",
                   "set.000/coord.npy", 1, ONE, "coordinate y of a real atom is nan"),
    "same point": (setting("coord", moved(1, ONE, [0, 0, 0]) | {
                       3 * OTHER + a: FRAMES.coord[1, ONE, a] for a in range(3)}),
                   "error", "coincident", "set.000/coord.npy", 1, ONE, f"as atom {OTHER}"),
    "energy": (setting("energy", {0: np.inf}), "error", "label", *ENERGY, "energy is inf"),
    "force": (setting("force", {3 * ONE: np.nan}), "error", "label", "set.000/force.npy", 1, ONE,
              "force is (nan"),
    "virtual force not finite": (setting("force", {3 * GHOST: np.nan}), "error", "label",
                                 "set.000/force.npy", 1, GHOST, "as the atom is virtual"),
    "negative preference": (setting("atom_pref", {ONE: -2}), "error", "preference",
                            "set.000/atom_pref.npy", 1, ONE, "preference is -2"),
    "preference not finite": (setting("atom_pref", {ONE: np.nan}), "error", "preference",
                              "set.000/atom_pref.npy", 1, ONE, "preference is nan"),
    "periodic": (removing("nopbc"), "error", "periodic", "nopbc", None, None,
                 "is missing, so the system is periodic"),
    "type": (writing("type.raw", "0 0 0 0 0 1 1 1 1 7 2"), "error", "types", "type.raw", None, 9,
             "type 7 is outside the type map"),
    "text as type": (writing("type.raw", "C\nO\n"), "error", "types", "type.raw", None, None,
                     "not a list of numbers"),
    "fraction as type": (writing("type.raw", "0.5 1"), "error", "types", "type.raw", None, None,
                         "whole numbers"),
    "no type": (writing("type.raw", ""), "error", "types", "type.raw", None, None, "is empty"),
    "no file of types": (removing("type.raw"), "error", "types", "type.raw", None, None, "missing"),
    "type map twice": (writing("type_map.raw", "C O C"), "error", "type-map", "type_map.raw",
                       None, None, "C is there twice"),
    "type map that is no text": (writing("type_map.raw", b"C\nO\n\xff"), "error", "type-map",
                                 "type_map.raw", None, None, "is not a list of names"),
    "ragged type map": (writing("type_map.raw", "C O\nZN"), "error", "type-map", "type_map.raw",
                        None, None, "is not a list of names"),
    "type map of two columns": (writing("type_map.raw", "C 1\nO 2\nZN 3"), "error", "type-map",
                                "type_map.raw", None, None, "lines of several names"),
    "empty type map": (writing("type_map.raw", ""), "error", "type-map", "type_map.raw", None,
                       None, "is empty"),
    "huge type": (writing("type.raw", "0 0 0 0 0 1 1 1 1 2 1e30"), "error", "types", "type.raw",
                  None, None, "whole numbers"),
    "archive for an array": (writing("set.000/force.npy", archive()), "error", "unreadable",
                             "set.000/force.npy", None, None, "it is an archive of arrays"),
    "one number for an array": (replacing("coord", lambda a: a[0, 0]), "error", "shape",
                                "set.000/coord.npy", None, None, "found shape ()"),
    "no set": (lambda system: shutil.rmtree(system / "set.000"), "error", "no-set", None, None,
               None, "there is no set.*"),
    "no frame": (lambda system: [np.save(p, np.load(p)[:0]) for p in system.glob("set.*/*")],
                 "error", "no-frame", "set.000/coord.npy", None, None, "has no frame"),
    "missing mask": (removing("set.000/aparam.npy"), "error", "missing-file",
                     "set.000/aparam.npy", None, None, f"({NFRAMES}, {NSLOTS}), 1 for real"),
    "missing coordinates": (removing("set.000/coord.npy"), "error", "missing-file",
                            "set.000/coord.npy", None, None, "is missing"),
    "shape": (replacing("atom_pref", lambda a: a[:, 1:]), "error", "shape",
              "set.000/atom_pref.npy", None, None, f"found shape ({NFRAMES}, {NSLOTS - 1})"),
    "shape of forces": (replacing("force", lambda a: a[1:]), "error", "shape",
                        "set.000/force.npy", None, None, f"expected ({NFRAMES}, {3 * NSLOTS})"),
    "text as dtype": (replacing("coord", lambda a: a.astype(str)), "error", "dtype",
                      "set.000/coord.npy", None, None, "save it as float64"),
    "complex dtype": (replacing("force", lambda a: a + 0j), "error", "dtype",
                      "set.000/force.npy", None, None, "complex128"),
    "integer dtype": (replacing("energy", lambda a: a.astype(int)), "warning", "dtype",
                      "set.000/energy.npy", None, None, "int64, which rounds"),
    "pickled objects": (replacing("aparam", lambda a: a.astype(object)), "error", "unreadable",
                        "set.000/aparam.npy", None, None, "it holds pickled objects or text"),
    "text as array": (writing("set.000/force.npy", "1.0 2.0"), "error", "unreadable",
                      "set.000/force.npy", None, None, "it holds pickled objects or text"),
    "empty array": (writing("set.000/coord.npy", ""), "error", "unreadable",
                    "set.000/coord.npy", None, None, "No data left"),
    "truncated": (truncate, "error", "unreadable", "set.000/force.npy", None, None,
                  "ends before its last frame"),
    "folder for a system's file": (folder_for_file, "error", "unreadable",
                                   "set.000/energy.npy", None, None, "is a folder"),
    "file for a folder": (file_for_system, "error", "no-system", None, None, None,
                          "cannot be read"),
    "no system": (shutil.rmtree, "error", "no-system", None, None, None, "not found"),
    "loop of links": (loop_of_links, "error", "no-system", None, None, None, "not found"),
    "loop for a set": (loop_for_set, "error", "missing-file", "set.000/coord.npy", None, None,
                       "is missing"),
    "missing force": (removing("set.000/force.npy"), "warning", "missing-file",
                      "set.000/force.npy", None, None, "a loss on it is left out"),
    "type order": (lambda system: np.savetxt(system / "type.raw", FRAMES.types[::-1], fmt="%d"),
                   "warning", "type-order", "type.raw", None, SLOTS[2], "type 1 comes after"),
    "no type map": (removing("type_map.raw"), "warning", "type-map", "type_map.raw", None, None,
                    "is missing"),
    "virtual force": (setting("force", {3 * GHOST + 2: 0.5}), "warning", "virtual-force",
                      "set.000/force.npy", 1, GHOST, "force (0, 0, 0.5) on a virtual atom"),
    "virtual preference": (setting("atom_pref", {GHOST: 3}), "warning", "virtual-preference",
                           "set.000/atom_pref.npy", 1, GHOST, "preference 3 of a virtual atom"),
    "close": (setting("coord", {3 * OTHER + a: FRAMES.coord[1, ONE, a] + 0.1 for a in range(3)}),
              "warning", "close", "set.000/coord.npy", 1, ONE, f"only 0.173 from atom {OTHER}"),
    "far": (setting("coord", moved(1, ONE, [50, 0, 0])), "warning", "far", "set.000/coord.npy", 1,
            ONE, "more than 10"),
    "outlier": (setting("energy", {0: FRAMES.energy[1] + 9}), "warning", "energy-outlier",
                *ENERGY, "off a linear fit on composition"),
}  # fmt: skip


def test_good_system(system):
    checked = check(system)
    assert checked.findings == []
    (numbers,) = checked.systems
    counts = FRAMES.counts()
    assert list(numbers.atoms) == ["all", *TYPE_MAP]
    for t, name in enumerate(TYPE_MAP):
        column = counts[:, t]
        assert numbers.atoms[name] == (column.min(), pytest.approx(column.mean()), column.max())
    assert numbers.shortest_distance == pytest.approx(FRAMES.shortest())
    forces = FRAMES.force[FRAMES.mask == 1]
    assert numbers.force_rms == pytest.approx(np.sqrt(np.mean(forces**2)))
    assert numbers.force_max == pytest.approx(np.linalg.norm(forces, axis=1).max())
    assert numbers.preferred_atoms == pytest.approx(FRAMES.preference.sum() / NFRAMES)
    assert numbers.energy[1] == pytest.approx(FRAMES.energy.mean())
    check_training_data(helpers.make_input([system]))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", SPOILED)
def test_finding(system, kind):
    spoil, level, code, file, frame, atom, message = SPOILED[kind]
    spoil(system)
    found = check(system).findings
    if kind == "type order":  # which changes what the atoms are, too
        found = [finding for finding in found if finding.code == code]
    assert len(found) == 1, found
    finding = found[0]
    place = (finding.level, finding.code, finding.system, finding.file, finding.frame, finding.atom)
    assert place == (level, code, str(system), file, frame, atom)
    assert message in finding.message
    named = [f"system {system}"] + ([file] if file else [])
    named += [f"{kind} {n}" for kind, n in {"frame": frame, "atom": atom}.items() if n is not None]
    line = f"{', '.join(named)}: {finding.message}"
    assert str(finding) == line
    assert f"{level} [{code}] {line}" in run(system)[1].splitlines()


def test_frame_within_its_set_and_within_the_system(tmp_path):
    """Frame 0 of the second set is frame 4."""
    frames = helpers.random_frames(nframes=16, nreal=None)
    first = [int(np.flatnonzero(mask)[0]) for mask in frames.mask]
    for array in frames[1:]:
        array[15] = array[0]  # repeated
    for array in (frames.mask, frames.force, frames.preference):
        array[4] = 0  # no-atom
    frames.coord[7, first[7]] += 50  # far
    frames.coord[8, first[8]] = np.nan  # coord
    frames.energy[10] += 50  # energy-outlier
    frames.force[11, first[11]] = np.inf  # label
    system = helpers.write_system(tmp_path / "system", frames, nsets=4)
    found = check(system).findings
    places = {finding.code: finding.frame_of_system for finding in found}
    assert places == {
        "no-atom": 4, "far": 7, "coord": 8, "energy-outlier": 10, "label": 11, "repeated": 15
    }  # fmt: skip
    for finding in found:
        before = 4 * int(finding.file[4:7])
        assert finding.frame_of_system == before + finding.frame
        assert f"frame {finding.frame} ({finding.frame_of_system} of the system)" in str(finding)
    (system / "set.001/coord.npy").unlink()
    after = [finding for finding in check(system).findings if finding.file > "set.002"]
    assert after
    assert {finding.frame_of_system for finding in after} == {None}


@pytest.mark.parametrize("kind", SPOILED)
def test_training_refuses_just_the_errors(system, kind):
    spoil, level, *_ = SPOILED[kind]
    spoil(system)
    jdata = helpers.make_input([system], sel=[5, 5, 5])
    if level == "warning":
        check_training_data(jdata)
        return
    with pytest.raises(ValueError) as error:
        check_training_data(jdata)
    assert str(error.value) == str(check(system).findings[0])


def test_all_bad_frames_are_found(system):
    setting("aparam", {4: 0.9}, frame=3)(system)
    setting("coord", {3 * int(np.flatnonzero(FRAMES.mask[7])[0]): np.inf}, frame=7)(system)
    setting("force", {3 * int(np.flatnonzero(FRAMES.mask[9])[0]): np.inf}, frame=9)(system)
    findings = check(system).findings
    assert [(f.code, f.frame) for f in findings] == [("mask", 3), ("coord", 7), ("label", 9)]


def test_frame_without_atoms(tmp_path):
    frames = helpers.random_frames(nreal=[[1, 2, 1], [0, 0, 0]])
    (finding,) = check(helpers.write_system(tmp_path / "a", frames)).findings
    assert (finding.level, finding.code, finding.frame) == ("warning", "no-atom", 1)


def test_byte_order_does_not_matter(system):
    replacing("coord", lambda array: array.astype(">f8"))(system)
    assert check(system).findings == []


def test_hdf5(tmp_path, system):
    setting("aparam", {4: 0.9})(system)
    group = helpers.write_hdf5(tmp_path / "all.hdf5", system)
    for path in (group, tmp_path / "all.hdf5"):
        (finding,) = check(path).findings
        assert (finding.code, finding.system, finding.frame) == ("mask", group, 1)


def test_repeated_frames(tmp_path):
    """Also in another system, with other slots, another type map and another order of atoms."""
    first = helpers.write_system(tmp_path / "first", FRAMES.take(slice(0, 20)))
    again = FRAMES.take([4, 25])
    helpers.write_system(tmp_path / "again", again)
    pack(tmp_path / "again", tmp_path / "second", type_map=["ZN", "N", "O", "C"])
    shutil.rmtree(tmp_path / "again")
    findings = check(tmp_path).findings
    repeated = [finding for finding in findings if finding.code == "repeated"]
    assert len(repeated) == 1
    assert (repeated[0].system, repeated[0].frame) == (str(tmp_path / "second"), 0)
    assert f"as system {first}, set.000, frame 4" in repeated[0].message


@pytest.mark.filterwarnings("error")
def test_places_beyond_all_integers_are_not_the_same(tmp_path):
    frames = FRAMES.take([1, 1])
    frames.coord[:, ONE] = [[1e20, 0, 0], [2e20, 0, 0]]
    codes = {f.code for f in check(helpers.write_system(tmp_path / "far", frames)).findings}
    assert "far" in codes
    assert "repeated" not in codes


def test_type_maps_that_differ(tmp_path):
    helpers.write_system(tmp_path / "a", FRAMES.take(slice(0, 5)))
    helpers.write_system(tmp_path / "b", FRAMES.take(slice(5, 9)), type_map=["O", "C", "ZN"])
    helpers.write_system(tmp_path / "c", FRAMES.take(slice(9, 12)), type_map=[*TYPE_MAP, "S"])
    (finding,) = [f for f in check(tmp_path).findings if f.code == "type-map"]
    assert (finding.level, finding.system) == ("warning", str(tmp_path / "b"))
    assert "has the types O,C,ZN" in finding.message
    jdata = helpers.make_input([tmp_path / "a", tmp_path / "b"], sel=[5, 5, 2])
    check_training_data(jdata)
    del jdata["model"]["type_map"]
    with pytest.raises(ValueError, match="set type_map in the model"):
        check_training_data(jdata)


def test_fit_on_composition_survives_outliers():
    """A third of the frames is wrong, and all of them are seen."""
    rng = np.random.default_rng(5)
    counts = rng.integers(1, 30, size=(300, 4))
    counts[:, 3] = counts[:, 0] + counts[:, 1]  # composition does not determine the coefficients
    energies = counts @ [-13.6, -1000.0, -2000.0, -48000.0] + rng.normal(scale=0.5, size=300)
    energies[:100] += rng.uniform(20, 1e4, 100)
    residuals, deviation = fit_composition(counts, energies)
    wrong = np.abs(residuals) > 10 * deviation
    assert wrong[:100].all()
    assert not wrong[100:].any()


def test_numbers_do_not_fail_on_few_frames(tmp_path):
    system = helpers.write_system(tmp_path / "one", helpers.random_frames(nreal=[[1, 0, 0]]))
    checked = check(system)
    assert checked.findings == []
    assert checked.systems[0].shortest_distance is None


# ---- With an input -------------------------------------------------------------------------------


def check_input(directory, systems, more=(), **options):
    jdata = helpers.make_input(systems, **options)
    helpers.write_input(directory, jdata)
    return check(more, directory / "input.json").findings


def test_good_input(tmp_path, system):
    assert check_input(tmp_path, [system], validation=[system])[0].code == "repeated"
    assert check_input(tmp_path, [system.parent]) == []


def test_more_atoms_than_sel(tmp_path, system):
    findings = check_input(tmp_path, [system], sel=[4, 4, 2])
    many = np.flatnonzero(FRAMES.counts()[:, 0] == 5).tolist()
    assert len(many) > 1
    assert [(f.level, f.code, f.frame) for f in findings] == [("error", "sel", k) for k in many]
    assert "5 real atoms of type 0 (C), but sel allows 4" in findings[0].message


def test_sel_of_the_training_data_bounds_the_other(tmp_path):
    small = helpers.write_system(tmp_path / "small", helpers.random_frames(nreal=[[1, 1, 1]] * 2))
    large = helpers.write_system(
        tmp_path / "large", helpers.random_frames(slots=(9, 4, 2), nreal=[[9, 1, 1]], seed=1)
    )
    (finding,) = check_input(tmp_path, [small], validation=[large], sel="auto")
    assert (finding.code, finding.system) == ("sel", str(large))
    (finding,) = check_input(tmp_path, [small], more=[large, small], sel="auto")
    assert (finding.code, finding.system) == ("sel", str(large))


def test_type_that_the_model_lacks(tmp_path, system):
    (system / "type_map.raw").write_text("C\nO\nZn\n")
    (finding,) = check_input(tmp_path, [system])
    assert (finding.level, finding.code, finding.file) == ("error", "type-map", "type_map.raw")
    assert "mind capital letters" in finding.message


def test_preference_that_the_loss_needs(tmp_path, system):
    (system / "set.000/atom_pref.npy").unlink()
    (finding,) = check_input(tmp_path, [system])
    assert (finding.level, finding.code) == ("error", "missing-file")
    loss = {"start_pref_pf": 0.0, "limit_pref_pf": 0.0, "start_pref_e": 1.0}
    assert check_input(tmp_path, [system], loss=loss) == []
    (system / "set.000/energy.npy").unlink()
    (finding,) = check_input(tmp_path, [system], loss=loss)
    assert (finding.level, finding.file) == ("warning", "set.000/energy.npy")


@pytest.mark.parametrize(
    ("message", "options"),
    {
        "axis_neuron (12) is larger than M1": {"descriptor": {"axis_neuron": 12}},
        "descriptor is not se_a_mask": {"descriptor": {"type": "se_e2_a", "rcut": 6.0}},
        "numb_aparam": {"fitting_net": {"numb_aparam": 0, "use_aparam_as_mask": False}},
        "undefined key `colour`": {"descriptor": {"colour": "red"}},
    }.items(),
)
def test_options(tmp_path, system, message, options):
    (finding,) = check_input(tmp_path, [system], **options)
    assert (finding.level, finding.code) == ("error", "input")
    assert finding.file == str(tmp_path / "input.json")
    assert message in finding.message


def test_input_that_is_none(tmp_path):
    (finding,) = check((), tmp_path / "none.json").findings
    assert "not found" in finding.message
    (tmp_path / "bad.json").write_text("{")
    (finding,) = check((), tmp_path / "bad.json").findings
    assert "cannot be read" in finding.message
    with pytest.raises(ValueError, match="nothing to check"):
        check()


def test_systems_that_the_input_names_and_that_are_not_there(tmp_path, system):
    findings = check_input(tmp_path, [tmp_path / "gone", system, tmp_path / "lost"])
    assert [(f.code, f.system) for f in findings] == [
        ("no-system", str(tmp_path / "gone")),
        ("no-system", str(tmp_path / "lost")),
    ]


def test_relative_paths_of_an_input_in_another_folder(tmp_path, system, monkeypatch):
    """They begin in the working directory, as for dp train, and the message says so."""
    helpers.write_input(tmp_path, helpers.make_input([system.name]))
    monkeypatch.chdir(tmp_path)
    assert check((), "input.json").findings == []
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (finding,) = check((), "../input.json").findings
    assert (finding.code, finding.system) == ("no-system", system.name)
    assert f"now {tmp_path / 'elsewhere'}; run it in the folder that is meant" in finding.message


# ---- The command ---------------------------------------------------------------------------------


def run(*arguments):
    arguments = arguments and ("--external-field", *arguments)
    result = CliRunner().invoke(main, ["check", *map(str, arguments)])
    return result.exit_code, result.stdout


def test_command(system):
    code, output = run(system)
    assert code == 0
    assert "0 errors, 0 warnings" in output
    assert "shortest distance" in output
    setting("force", {3 * GHOST: 1}, frame=1)(system)
    code, output = run(system)
    assert code == 0
    assert f"warning [virtual-force] system {system}, set.000/force.npy, frame 1, atom" in output
    setting("aparam", {4: 0.9})(system)
    code, output = run(system)
    assert code == 1
    assert f"error [mask] system {system}, set.000/aparam.npy, frame 1, atom 4: mask" in output
    assert run()[0] == 2


def test_command_prints_ten_of_a_kind(system):
    replacing("aparam", lambda mask: np.full_like(mask, 0.5))(system)
    _, output = run(system)
    assert output.count("error [mask]") == 11
    assert f"{NFRAMES - 10} more of this kind" in output
    assert run("--all", system)[1].count("error [mask]") == NFRAMES


def test_json(system):
    setting("energy", {0: np.nan})(system)
    code, output = run("--json", system)
    assert code == 1
    found = json.loads(output)
    assert found["errors"] == 1
    finding = found["findings"][0]
    place = {name: finding[name] for name in ("system", "file", "frame", "atom")}
    assert place == {
        "system": str(system), "file": "set.000/energy.npy", "frame": 1, "atom": None
    }  # fmt: skip
    assert finding["frame_of_system"] == 1
    assert found["systems"][0]["frames"] == NFRAMES
    assert found["systems"][0]["atoms"]["C"][2] == 5
