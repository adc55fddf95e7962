# SPDX-License-Identifier: LGPL-3.0-or-later
"""What dp-mask check finds: each rule provoked once, named with its place, and dp train agrees."""

import shutil
from functools import partial

import helpers
import numpy as np
import pytest
from helpers import SLOTS, TYPE_MAP
from spoiling import (
    FRAMES,
    GHOST,
    NFRAMES,
    NSLOTS,
    ONE,
    OTHER,
    archive,
    file_for_system,
    folder_for_file,
    loop_for_set,
    loop_of_links,
    moved,
    removing,
    replacing,
    run,
    setting,
    truncate,
    writing,
)

from deepmd_mask import data
from deepmd_mask.data import pack
from deepmd_mask.data.checking.suspicions import fit_composition
from deepmd_mask.data.training import check_training_data

check = partial(data.check, external_field=True)  # forces here are random
pytestmark = pytest.mark.filterwarnings("ignore::deepmd_mask.data.balance.NetForceWarning")


@pytest.fixture
def system(tmp_path):
    """Write a good system, which tests then spoil; its path has spaces and a letter with a dot."""
    return helpers.write_system(tmp_path / "мокрая вода ä", FRAMES)


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


@pytest.mark.parametrize(
    "nreal, message",
    [
        ([[2, 2, 1]] * 3, "all 3 frames have one composition"),
        ([[2, 2, 1], [2, 1, 2], [1, 4, 0]], "none of 3 compositions is another one with residues"),
        ([[2, 2, 1], [2, 1, 2], [2, 2, 2]], None),
        ([[2, 2, 1], [0, 2, 1]], None),
    ],
)
def test_compositions_that_leave_entering_open(tmp_path, nreal, message):
    """Also where each frame is in a system of its own."""
    for k, counts in enumerate(nreal):
        helpers.write_system(tmp_path / "all" / f"{k}", helpers.random_frames(k, nreal=[counts]))
    found = [f for f in check(tmp_path / "all").findings if f.code == "one-composition"]
    assert len(found) == (message is not None)
    for finding in found:
        assert finding.level == "warning"
        assert message in finding.message


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
