# SPDX-License-Identifier: LGPL-3.0-or-later
"""What this package finds and reads by itself is what DeePMD-kit finds and reads."""

from copy import deepcopy

import h5py
import helpers
import numpy as np
import pytest
from deepmd.common import expand_sys_str
from deepmd.utils.argcheck import normalize
from deepmd.utils.compat import update_deepmd_input
from deepmd.utils.data_system import process_systems
from deepmd.utils.path import DPPath
from deepmd.utils.update_sel import BaseUpdateSel

from deepmd_mask.data.checking.input_file import check_input, with_defaults
from deepmd_mask.data.folders import load_text, open_array, open_folder
from deepmd_mask.data.systems import systems_in
from deepmd_mask.data.training import auto_sel, training_systems, wanted_by
from deepmd_mask.shared.options import REFUSALS, check_options

GROUPS = ("a", "deep/b", "with space/c", "d[1]", ".hidden", "set.000/e", "ä")
NAMES = ("", "#", "#/", "#/a", "#/a/", "#a", "#/deep", "#/deep/b", "#/with space", "#/d[1]",
         "#/soft", "#/hard", "#/gone", "#/a/type.raw", "#/a#b", "#/.hidden", "#/ä")  # fmt: skip


@pytest.fixture(scope="module")
def hdf5(tmp_path_factory):
    """Write systems where they may be looked for, with links of both kinds."""
    path = tmp_path_factory.mktemp("hdf5") / "all.hdf5"
    with h5py.File(path, "w") as file:
        for group in GROUPS:
            file[f"{group}/type.raw"] = [0, 1]
            file[f"{group}/type_map.raw"] = np.array(["C", "Zn"], dtype="S")
            for name in ("set.000", "set.010", "set.002", "sets"):
                file[f"{group}/{name}/coord.npy"] = np.arange(12.0).reshape(2, 6)
        file["soft"] = h5py.SoftLink("/a")
        file["hard"] = file["a"]
    return path


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Make the same of folders."""
    root = tmp_path_factory.mktemp("tree")
    for group in GROUPS:
        (root / group).mkdir(parents=True)
        (root / group / "type.raw").write_text("0\n1\n")
        (root / group / "type_map.raw").write_text("C\nZn\n")
        for name in ("set.000", "set.010", "set.002", "sets"):
            (root / group / name).mkdir()
            np.save(root / group / name / "coord.npy", np.arange(12.0).reshape(2, 6))
    (root / "soft").symlink_to(root / "deep")
    (root / "loop").symlink_to(root / "loop")
    (root / "file").write_text("")
    return root


def require_same(path):
    """Require that both find the same below a path, and read the same there."""
    assert (systems_in(path) or [path]) == (sorted(set(expand_sys_str(path))) or [path])
    ours, theirs = open_folder(path), DPPath(path)
    assert str(ours) == str(theirs)
    assert sorted(map(str, ours.glob("set.*"))) == sorted(map(str, theirs.glob("set.*")))
    for part in ("", "type.raw", "set.000", "set.000/coord.npy", "nopbc"):
        mine, other = (root / part if part else root for root in (ours, theirs))
        assert (str(mine), mine.name) == (str(other), other.name)
        assert (mine.is_file(), mine.is_dir()) == (other.is_file(), other.is_dir())
    if (theirs / "type.raw").is_file():
        np.testing.assert_array_equal(
            load_text(ours / "type.raw"), (theirs / "type.raw").load_txt()
        )
        names = [root / "type_map.raw" for root in (ours, theirs)]
        assert load_text(names[0], str).tolist() == names[1].load_txt(dtype=str).tolist()
        array = "set.000/coord.npy"
        np.testing.assert_array_equal(open_array(ours / array), (theirs / array).load_numpy())


@pytest.mark.parametrize("name", NAMES)
def test_hdf5(hdf5, name):
    require_same(f"{hdf5}{name}")


@pytest.mark.parametrize("name", ["", "/", "/a", "/a/", "/deep", "/d[1]", "/soft", "/./a", "/ä"])
def test_folders(tree, name):
    require_same(f"{tree}{name}")


@pytest.mark.parametrize("name", ["gone", "loop", "file"])
def test_what_is_no_folder(tree, name):
    errors = []
    for opened in (open_folder, DPPath):
        with pytest.raises(OSError) as error:
            opened(str(tree / name))
        errors.append(error)
    assert errors[0].type is errors[1].type
    assert str(errors[0].value) == str(errors[1].value)
    assert systems_in(tree / name) == [str(tree / name)]


def test_hdf5_that_changes_is_read_again(tmp_path):
    path = tmp_path / "a.hdf5"
    for group in ("first", "second"):
        with h5py.File(path, "w") as file:  # nothing keeps it open
            file[f"{group}/type.raw"] = [0]
        assert systems_in(path) == [f"{path}#/{group}"]


@pytest.mark.parametrize("patterns", [["*"], ["a", "deep/*"], ["**/c"], ["gone"]])
def test_patterns(tree, patterns):
    assert systems_in(tree, patterns) == sorted(process_systems([str(tree)], patterns))


@pytest.mark.parametrize("sel", ["auto", "auto:1", "auto:1.0", "auto:1.37", "auto:2."])
def test_automatic_sel(sel):
    class UpdateSel(BaseUpdateSel):
        neighbor_stat = None

    theirs = UpdateSel()
    counts = np.arange(50)
    wanted = [theirs.wrap_up_4(n * theirs.parse_auto_sel_ratio(sel)) for n in counts]
    assert auto_sel(sel, counts) == wanted


# ---- Inputs --------------------------------------------------------------------------------------


def without(*paths, **sections):
    """Return an input that leaves options to their defaults."""
    jdata = helpers.make_input(["system"], **sections)
    for path in paths:
        part = jdata
        *way, last = path.split("/")
        for name in way:
            part = part[name]
        del part[last]
    return jdata


INPUTS = {
    "all": without(),
    "defaults": without(
        *(f"model/descriptor/{name}" for name in ("sel", "neuron", "axis_neuron")),
        *(f"loss/{when}_pref_{term}" for when in ("start", "limit") for term in ("e", "f", "pf")),
    ),
    "no loss": without("loss"),
    "no type map": without("model/type_map"),
    "another name": without(
        "model/descriptor/axis_neuron", descriptor={"n_axis_neuron": 10, "_comment": {}}
    ),
    "one system": without(training_data={"systems": "system", "rglob_patterns": ["a*"]}),
    "validation": helpers.make_input(["one"], validation=["two"]),
    "no mask": without("model/fitting_net/numb_aparam", "model/fitting_net/use_aparam_as_mask"),
    "other fitting": without(
        "model/fitting_net/use_aparam_as_mask", fitting_net={"type": "dos", "numb_aparam": 0}
    ),
}


@pytest.mark.parametrize("name", INPUTS)
def test_defaults(name):
    """What is made of an input without DeePMD-kit asks the same of its data."""
    theirs = normalize(update_deepmd_input(deepcopy(INPUTS[name]), warning=False))
    ours = with_defaults(INPUTS[name])
    assert [refusal.holds(ours) for refusal in REFUSALS.values()] == [
        refusal.holds(theirs) for refusal in REFUSALS.values()
    ]
    assert wanted_by(ours) == wanted_by(theirs)
    assert training_systems(ours) == training_systems(theirs)
    if name in ("no mask", "other fitting"):
        return
    assert check_options(ours)
    assert check_options(theirs)
    for section in ("descriptor", "fitting_net"):
        for option, value in ours["model"][section].items():
            assert theirs["model"][section].get(option, value) == value


def test_input_of_the_first_version():
    """Systems were in training itself; what else was there, DeePMD-kit alone knows."""
    jdata = without()
    jdata["training"] |= jdata["training"].pop("training_data")
    assert training_systems(with_defaults(jdata)) == {"training_data": ["system"]}


@pytest.mark.parametrize(
    ("section", "option", "value"),
    [
        ("descriptor", "sel", 3),
        ("descriptor", "sel", [1.5, 2]),
        ("descriptor", "neuron", "many"),
        ("descriptor", "axis_neuron", 2.5),
        ("descriptor", "precision", None),
        ("fitting_net", "numb_aparam", "1"),
        ("training_data", "systems", 3),
    ],
)
def test_values_of_a_wrong_type(section, option, value):
    jdata = without(**{section: {option: value}})
    messages = []
    for make in (with_defaults, lambda data: normalize(update_deepmd_input(data, warning=False))):
        with pytest.raises(Exception) as error:
            make(deepcopy(jdata))
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert option in messages[0]


def test_yaml(tmp_path):
    file = tmp_path / "input.yaml"
    file.write_text("model: {descriptor: {type: se_a_mask, neuron: many}}\ntraining: {}\n")
    findings = []
    check_input(str(file), findings.append)
    assert "`neuron` gets wrong value type" in findings[0].message
    for text in ("a: [", "- 1", "a: b: c"):
        file.write_text(text)
        check_input(str(file), findings.append)
        assert findings[-1].message.startswith("cannot be read (")
    check_input(__file__, findings.append)
    assert "must end in .json, .yml or .yaml" in findings[-1].message
