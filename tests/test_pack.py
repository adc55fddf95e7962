# SPDX-License-Identifier: LGPL-3.0-or-later
"""From sources to masked systems and back: nothing lost, nothing mixed up, nothing half done."""

import itertools
import os
import signal
import subprocess
import sys
import tracemalloc

import ase.io
import ase.units
import helpers
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.neighborlist import neighbor_list
from click.testing import CliRunner
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepmd_mask.cli import main
from deepmd_mask.data import pack, scan_systems, unpack
from deepmd_mask.data import systems as reader
from deepmd_mask.data.packing.readers.units import energy_factor, force_factor

# Forces here are random.
pytestmark = pytest.mark.filterwarnings("ignore::deepmd_mask.data.balance.NetForceWarning")
KEYS = ("coord", "force", "energy", "aparam", "atom_pref")


def molecule(symbols, seed=0, energy=-1.5, **arrays):
    """Atoms on a shaken lattice, with random forces."""
    rng = np.random.default_rng(seed)
    lattice = 2.0 * np.stack(np.unravel_index(np.arange(9**3), (9, 9, 9)), axis=1)
    atoms = Atoms(symbols, lattice[: len(symbols)] + rng.uniform(-0.3, 0.3, (len(symbols), 3)))
    forces = rng.normal(size=(len(symbols), 3))
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    for name, array in arrays.items():
        atoms.set_array(name, np.asarray(array))
    return atoms


FRAMES = [
    molecule(["O", "H", "H", "Zn"], 0, -10.0),
    molecule(["Zn", "S", "O"], 1, -11.0),
    molecule(["H", "O", "H", "O", "H"], 2, -12.0),
]


def load(system):
    """Return a system's arrays, and the types of its slots."""
    sets = sorted(system.glob("set.*"))
    data = {key: np.concatenate([np.load(s / f"{key}.npy") for s in sets]) for key in KEYS}
    names = (system / "type_map.raw").read_text().split()
    types = np.loadtxt(system / "type.raw", dtype=int, ndmin=1)
    return data, np.array(names)[types]


def require_frames(system, frames):
    """Require that a system holds just these frames, in this order."""
    data, names = load(system)
    assert len(data["energy"]) == len(frames)
    for f, atoms in enumerate(frames):
        real = data["aparam"][f] == 1
        order = np.argsort([names.tolist().index(s) for s in atoms.symbols], kind="stable")
        assert names[real].tolist() == [atoms.symbols[k] for k in order]
        np.testing.assert_array_equal(
            data["coord"][f].reshape(-1, 3)[real], atoms.positions[order]
        )  # fmt: skip
        np.testing.assert_array_equal(
            data["force"][f].reshape(-1, 3)[real], atoms.calc.results["forces"][order]
        )
        assert not data["force"][f].reshape(-1, 3)[~real].any()
        assert data["energy"][f] == atoms.calc.results["energy"]


def same_files(one, other):
    """Require that two systems are equal to the last byte."""
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(other) for p in other.rglob("*") if p.is_file())
    for file in files:
        assert (one / file).read_bytes() == (other / file).read_bytes(), file


# ---- What is written -----------------------------------------------------------------------------


def test_files_of_a_system(tmp_path):
    packed = pack(FRAMES, tmp_path / "system", set_size=2)
    assert packed.systems == {str(tmp_path / "system"): 3}
    assert packed.type_map == ["H", "O", "S", "Zn"]  # by atomic number
    assert packed.sel == [4, 4, 4, 4]
    assert packed.atoms == (3, 5)
    found = {str(p.relative_to(tmp_path / "system")) for p in tmp_path.glob("system/**/*")}
    sets = {"set.000", "set.001"}
    assert found == {"type.raw", "type_map.raw", "nopbc", *sets} | {
        f"{s}/{key}.npy" for s in sets for key in KEYS
    }
    require_frames(tmp_path / "system", FRAMES)
    assert load(tmp_path / "system")[0]["aparam"].dtype == np.float64
    np.testing.assert_array_equal(
        scan_systems([tmp_path / "system"], packed.type_map, packed.sel, True).max_count,
        [3, 2, 1, 1],
    )


def test_virtual_atoms_disturb_nobody(tmp_path):
    import dpdata

    far = molecule(["H"] * 3)
    far.positions += 1200  # where virtual atoms are, were their places the same for all frames
    pack([*FRAMES, far], tmp_path / "system", precision="float32")
    loaded = dpdata.LabeledSystem(tmp_path / "system", fmt="deepmd/npy")
    assert loaded["nopbc"]
    for positions, mask in zip(
        loaded["coords"], load(tmp_path / "system")[0]["aparam"], strict=True
    ):
        first, second, distance = neighbor_list("ijd", Atoms("X" * len(mask), positions), 20.0)
        assert distance.min() > 1
        assert mask[first].all()
        assert mask[second].all()


def test_float32_keeps_the_digits_of_energies(tmp_path):
    pack([molecule("H", energy=-123456.789012)], tmp_path / "system", precision="float32")
    data, _ = load(tmp_path / "system")
    assert {array.dtype for key, array in data.items() if key != "energy"} == {np.dtype("f4")}
    assert data["energy"][0] == -123456.789012


def test_forces_of_fixed_atoms_stay(tmp_path):
    atoms = molecule(["O", "H", "H"])
    atoms.set_constraint(FixAtoms([0, 1]))
    pack(atoms, tmp_path / "system")
    require_frames(tmp_path / "system", [atoms])


def test_type_map_and_sel(tmp_path):
    pack(FRAMES, tmp_path / "system", type_map=["ZN", "o", "C", "S", "H"], sel=[1, 2, 0, 1, 3])
    assert (tmp_path / "system/type_map.raw").read_text().split() == ["ZN", "o", "C", "S", "H"]
    assert np.loadtxt(tmp_path / "system/type.raw").tolist() == [0, 1, 1, 3, 4, 4, 4]
    data, _ = load(tmp_path / "system")
    assert data["aparam"].tolist() == [
        [1, 1, 0, 0, 1, 1, 0],
        [1, 1, 0, 1, 0, 0, 0],
        [0, 1, 1, 0, 1, 1, 1],
    ]


@pytest.mark.parametrize(
    ("rule", "weights"),
    {
        "all": [[1, 1, 1, 1], [1, 1, 1], [1] * 5],
        "element:zn,S": [[0, 0, 0, 1], [1, 1, 0], [0] * 5],
        "within:2.8:ZN": None,
        "array:weight": [[0.5, 0, 0, 2], [3, 0, 0], [0, 0, 0, 0, 7]],
        "names:A0,A3": [[1, 0, 0, 1], [1, 0, 0], [1, 0, 0, 1, 0]],
        "names:label:B1": [[0, 1, 0, 0], [0, 1, 0], [0, 1, 0, 0, 0]],
    }.items(),
)
def test_preference(tmp_path, rule, weights):
    frames = [atoms.copy() for atoms in FRAMES]
    for atoms, old, weight in zip(
        frames, FRAMES, [[0.5, 0, 0, 2], [3, 0, 0], [0, 0, 0, 0, 7]], strict=True
    ):
        atoms.calc = old.calc
        atoms.set_array("weight", np.array(weight, dtype=float))
        for array, letter in (("atomtypes", "A"), ("label", "B")):
            atoms.set_array(array, np.array([f"{letter}{k}" for k in range(len(atoms))]))
    if weights is None:
        distances = [a.get_all_distances()[:, a.symbols == "Zn"] for a in frames]
        weights = [(d <= 2.8).any(axis=1).astype(float) for d in distances]
    packed = pack(frames, tmp_path / "system", preference=rule)
    data, names = load(tmp_path / "system")
    for f, (atoms, expected) in enumerate(zip(frames, weights, strict=True)):
        order = np.argsort([names.tolist().index(s) for s in atoms.symbols], kind="stable")
        real = data["aparam"][f] == 1
        assert data["atom_pref"][f, real].tolist() == np.array(expected)[order].tolist()
        assert not data["atom_pref"][f, ~real].any()
    assert packed.without_preference == sum(not any(w) for w in weights)


@pytest.mark.parametrize(("wanted", "number"), [(0.25, 5), (7, 7), (0.01, 1)])
def test_validation(tmp_path, wanted, number):
    frames = [molecule(["H"] * (1 + k % 3), k, -float(k)) for k in range(20)]
    chosen = []
    for name, seed in {"a": 3, "again": 3, "other": 4}.items():
        pack(frames, tmp_path / name, validation=wanted, seed=seed, set_size=4)
        parts = [load(tmp_path / name / part) for part in ("train", "validation")]
        training, validation = (data["energy"] for data, _ in parts)
        assert len(validation) == number
        assert np.all(np.diff(training) < 0), "frames stay in their order"
        assert sorted([*training, *validation]) == [-float(k) for k in range(19, -1, -1)]
        assert parts[0][1].tolist() == parts[1][1].tolist(), "both have the same slots"
        chosen.append(validation.tolist())
    assert chosen[0] == chosen[1] != chosen[2]


@pytest.mark.parametrize("unit", ["hartree", "Ha", "kcal/mol", "kJ/mol", "eV", "rydberg"])
def test_energy_units(unit):
    known = {
        "hartree": 27.211386024, "Ha": 27.211386024, "kcal/mol": 0.0433641, "kJ/mol": 0.01036427,
        "eV": 1.0, "rydberg": 13.605693012,
    }  # fmt: skip
    assert energy_factor(unit) == pytest.approx(known[unit], rel=1e-6)


def test_units_of_sources(tmp_path):
    assert force_factor("Hartree/Bohr") == pytest.approx(51.42206, rel=1e-6)
    assert force_factor("kJ/mol/nm") == pytest.approx(0.001036427, rel=1e-6)
    assert force_factor("kcal/mol/angstrom") == pytest.approx(0.0433641, rel=1e-6)
    pack(FRAMES, tmp_path / "ev")
    pack(FRAMES, tmp_path / "au", energy_unit="hartree", force_unit="hartree/bohr")
    ev, au = load(tmp_path / "ev")[0], load(tmp_path / "au")[0]
    np.testing.assert_allclose(au["energy"], ev["energy"] * ase.units.Hartree)
    np.testing.assert_allclose(au["force"], ev["force"] * ase.units.Hartree / ase.units.Bohr)
    np.testing.assert_array_equal(au["coord"], ev["coord"])


# ---- Sources -------------------------------------------------------------------------------------


def test_sources_in_any_mix(tmp_path):
    """Extended XYZ, another format of ASE, plain and mixed systems, a folder, objects."""
    import dpdata

    folder = tmp_path / "Ordner mit Ümlaut"
    folder.mkdir()
    ase.io.write(folder / "a [1] b@c.traj", FRAMES)
    unpack_me = pack(FRAMES, folder / "masked/a")
    pack(FRAMES[:1], folder / "masked/b")
    unpack(folder / "masked/a", folder / "exact.xyz")
    many = dpdata.MultiSystems().load_systems_from_file(folder / "masked/a", fmt="deepmd/mask")
    many.to("deepmd/npy", folder / "plain")
    many.to("deepmd/npy/mixed", folder / "mixed", atom_numb_pad=8, prec=np.float64)
    again = [atoms[np.argsort(atoms.numbers, kind="stable")] for atoms in FRAMES]
    for new, old in zip(again, FRAMES, strict=True):
        order = np.argsort(old.numbers, kind="stable")
        new.calc = SinglePointCalculator(
            new, energy=old.calc.results["energy"], forces=old.calc.results["forces"][order]
        )
    by_dpdata = [again[k] for k in (0, 1, 2)]
    sources = {
        folder / "a [1] b@c.traj": FRAMES,
        f"traj:{folder}/a [1] b@c.traj": FRAMES,
        folder / "exact.xyz": again,
        folder / "masked": [*again, again[0]],
    }
    output = tmp_path / "all"
    pack([*sources, many, FRAMES[0], iter(FRAMES)], output, type_map=unpack_me.type_map)
    expected = [*itertools.chain(*sources.values()), *by_dpdata, FRAMES[0], *FRAMES]
    require_frames(output, expected)
    for source in ("plain", "mixed"):
        pack(folder / source, tmp_path / source, type_map=unpack_me.type_map)
        found, _ = load(tmp_path / source)
        by_energy = np.argsort(found["energy"])[::-1]
        require = {key: array[by_energy] for key, array in found.items()}
        reference, _ = load(folder / "masked/a")
        for key in ("coord", "force", "energy"):
            np.testing.assert_array_equal(require[key], reference[key])


def test_hdf5(tmp_path):
    packed = pack(FRAMES, tmp_path / "a")
    group = helpers.write_hdf5(tmp_path / "all.hdf5", tmp_path / "a")
    pack(group, tmp_path / "b", type_map=packed.type_map)
    same_files(tmp_path / "a", tmp_path / "b")
    assert unpack(group, tmp_path / "c.xyz") == 3


def test_hdf5_of_several_systems(tmp_path):
    """As dpdata writes it; a file and a group are folders of systems."""
    import dpdata

    pack(FRAMES, tmp_path / "a")
    many = dpdata.MultiSystems().load_systems_from_file(tmp_path / "a", fmt="deepmd/mask")
    many.to("deepmd/hdf5", str(tmp_path / "h.hdf5"))
    energies = []
    for k, source in enumerate(("h.hdf5", "h.hdf5#", "h.hdf5#/")):
        pack(tmp_path / source if k == 0 else f"{tmp_path}/{source}", tmp_path / str(k))
        energies.append(sorted(load(tmp_path / str(k))[0]["energy"]))
    assert energies == [[-12.0, -11.0, -10.0]] * 3
    for group in ("/none", "/C1/set.000"):
        with pytest.raises(ValueError, match="no system"):
            pack(f"{tmp_path}/h.hdf5#{group}", tmp_path / "none")
    (tmp_path / "text#1.xyz").write_text(GOOD)
    pack(tmp_path / "text#1.xyz", tmp_path / "text")
    (tmp_path / "text#1.xyz").rename(tmp_path / "text.xyz")
    with pytest.raises(ValueError, match="no system"):
        pack(f"{tmp_path}/text.xyz#/group", tmp_path / "none")


def test_index_of_ase(tmp_path):
    ase.io.write(tmp_path / "a@b.traj", FRAMES)
    ase.io.write(tmp_path / "a.xyz", FRAMES)
    for k, (index, frames) in enumerate(
        {"1": FRAMES[1:2], ":2": FRAMES[:2], "-1": FRAMES[2:]}.items()
    ):
        for source in (f"{tmp_path}/a@b.traj", f"traj:{tmp_path}/a@b.traj"):
            pack(f"{source}@{index}", tmp_path / str(k), overwrite=True)
            require_frames(tmp_path / str(k), frames)
        assert pack(f"{tmp_path}/a.xyz@{index}", tmp_path / "x", overwrite=True).atoms == (
            min(map(len, frames)), max(map(len, frames))
        )  # fmt: skip
    with pytest.raises(ValueError, match='"last" is no index'):
        pack(f"{tmp_path}/a.xyz@last", tmp_path / "none")
    with pytest.raises(ValueError, match="no frame"):
        pack(f"{tmp_path}/a@b.traj@7:", tmp_path / "none")


def test_format_of_dpdata(tmp_path):
    """A format with a slash is dpdata's."""
    pack(FRAMES[:1], tmp_path / "a")
    pack(f"deepmd/mask:{tmp_path}/a", tmp_path / "b")
    same_files(tmp_path / "a", tmp_path / "b")


def test_labels_under_other_names(tmp_path):
    atoms = molecule(["O", "H", "H"])
    bare = atoms.copy()
    bare.info["dft_energy"] = atoms.calc.results["energy"]
    bare.set_array("dft_force", atoms.calc.results["forces"])
    with pytest.raises(ValueError, match=r"no energy under the name energy; it has dft_energy"):
        pack(bare, tmp_path / "system")
    with pytest.raises(ValueError, match=r"no forces under the name forces; it has dft_force"):
        pack(bare, tmp_path / "system", energy_key="dft_energy")
    pack(bare, tmp_path / "system", energy_key="dft_energy", forces_key="dft_force")
    require_frames(tmp_path / "system", [atoms])


def periodic():
    atoms = molecule(["O", "H", "H"])
    atoms.set_cell([9, 9, 9])
    atoms.pbc = True
    return atoms


def test_cell_is_dropped_if_asked(tmp_path):
    pack(periodic(), tmp_path / "system", drop_cell=True)
    require_frames(tmp_path / "system", [periodic()])


def with_nan(key):
    atoms = molecule(["O", "H", "H"])
    if key == "energy":
        atoms.calc.results["energy"] = np.nan
    else:
        array = atoms.positions if key == "positions" else atoms.calc.results["forces"]
        array[1, 2] = np.inf
    return atoms


def touching():
    atoms = molecule(["O", "H", "H"])
    atoms.positions[2] = atoms.positions[0]
    return atoms


REFUSED = {
    "frame 0 of the given ones, atom 3: Zn is not in `type_map` ['H', 'O']":
        {"type_map": ["H", "O"]},
    "frame 2 of the given ones: 3 atoms of H, but `sel` allows 2; raise it":
        {"type_map": ["H", "O", "S", "Zn"], "sel": [2, 2, 1, 1]},
    "`sel` is a list; give `type_map`": {"sel": [4, 4, 4, 4]},
    "must have one number, not negative, for each type": {"type_map": ["H", "O"], "sel": [4]},
    '`sel` is "automatic"': {"sel": "automatic"},
    '`sel` is "auto:0.5"; its factor must be at least 1': {"sel": "auto:0.5"},
    '"O" is there twice': {"type_map": ["O", "o", "H", "S", "Zn"]},
    "it is periodic": {"sources": [FRAMES[0], periodic()]},
    "the energy is nan": {"sources": with_nan("energy")},
    "atom 1: the position is": {"sources": with_nan("positions")},
    "atom 1: the force is": {"sources": with_nan("forces")},
    "`preference` names FE, which no frame has": {"preference": "element:FE"},
    '`preference` "element" is none of': {"preference": "element"},
    '`preference` "within:x:ZN" is none of': {"preference": "within:x:ZN"},
    "there is no per-atom array w": {"preference": "array:w"},
    "there is no per-atom array atomtypes": {"preference": "names:SG"},
    '`preference` "names" is none of': {"preference": "names"},
    "array atomtypes has the shape (3,) and the dtype":
        {"sources": molecule(["H"] * 3, atomtypes=[1, 2, 3]), "preference": "names:SG"},
    "`preference` names SG, which no frame has":
        {"sources": molecule(["H"] * 3, atomtypes=["HA", "HB", "HC"]), "preference": "names:HA,SG"},
    "atom 2: preference -1 in array w":
        {"sources": molecule(["H"] * 3, w=[0, 1, -1]), "preference": "array:w"},
    "array w has the shape (3, 3)":
        {"sources": molecule(["H"] * 3, w=np.eye(3)), "preference": "array:w"},
    "at least one must be left": {"validation": 3},
    "`validation` is 1.5; give a fraction below 1": {"validation": 1.5},
    "`validation` is nan": {"validation": float("nan")},
    "`validation` is inf": {"validation": float("inf")},
    "`validation` is -1": {"validation": -1},
    "`seed` is -4": {"seed": -4},
    "`set_size` is 0": {"set_size": 0},
    '`precision` is "float16"': {"precision": "float16"},
    '`energy_unit`: "furlong" is no unit of energy': {"energy_unit": "furlong"},
    '`force_unit`: "hartree" is no unit of force': {"force_unit": "hartree"},
    '`force_unit`: "stone" is no unit of energy': {"force_unit": "stone/nm"},
    "there is no source": {"sources": []},
    "no frame has an atom": {"sources": molecule([])},
    "there is no frame in it": {"sources": [[]]},
    "a float is no source": {"sources": 1.5},
    "nowhere: not found; check": {"sources": "nowhere"},
    "dpdata/hdf5 is meant as a format, it is none of dpdata's (write dpdata:FORMAT:PATH ":
        {"sources": "dpdata/hdf5:x"},
    "deepmd/hdf5, ": {"sources": "ase/db:x"},
    "gauss is meant as a format, it is none of ASE's (write ase:FORMAT:PATH for any of them): a":
        {"sources": "gauss:x"},
    "vasp/outcar:nowhere: there is no file": {"sources": "vasp/outcar:nowhere"},
    'extxyz:: there is no file "";': {"sources": "extxyz:"},
    ":nowhere: not found; check": {"sources": ":nowhere"},
    "`sel` gives 120000000 slots": {"sel": "auto:40000000", "sources": FRAMES[1]},
    "atom 1: X, with atomic number 0": {"sources": molecule(["H", "X"])},
    "frame 1 of the given ones, atom 0: at the same point as atom 2 (distance 0)":
        {"sources": [FRAMES[0], touching()]},
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_refused(tmp_path, message):
    options = {"sources": FRAMES, **REFUSED[message]}
    with pytest.raises(ValueError) as error:
        pack(output=tmp_path / "system", **options)
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


HEAD = 'Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.5 pbc="F F F"'
GOOD = f"2\n{HEAD}\nH 0 0 0 0 0 0\nH 0 0 1 0 0 0\n"
MALFORMED = {
    "text where a number belongs": (GOOD + GOOD.replace("0 0 1", "0 0 one"), "frame 1: ASE cannot"),
    "a column too few": (GOOD + GOOD.replace("H 0 0 1 0", "H 0 0 1"), "frame 1"),
    "ends too early": (GOOD + f"3\n{HEAD}\nH 0 0 0 0 0 0\n", "frame 1: ASE cannot read it as "
                       "extxyz (it should have 3 atoms and has 1)"),
    "no number of atoms": (GOOD + "junk\n" + GOOD, "frame 1: ASE cannot read it as extxyz "
                           "(expected a number of atoms, found 'junk')"),
    "text as energy": (GOOD.replace("-1.5", "low"), "frame 0: there is no energy"),
    "unknown element": (GOOD.replace("H 0 0 1", "Qq 0 0 1"), "frame 0: ASE cannot"),
    "empty": ("", "ASE does not know its format"),
    "no labels": ("1\n\nH 0 0 0\n", "frame 0: there is no energy"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_file(tmp_path, kind):
    text, message = MALFORMED[kind]
    source = tmp_path / "quelle 1.xyz"
    source.write_text(text)
    with pytest.raises(ValueError) as error:
        pack(source, tmp_path / "system")
    assert f"source {source}" in str(error.value)
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == [source]


def test_blank_lines_do_not_end_a_file(tmp_path):
    (tmp_path / "a.xyz").write_text(f"{GOOD}\n{GOOD}\n\n{GOOD}")
    assert pack(tmp_path / "a.xyz", tmp_path / "system").systems == {str(tmp_path / "system"): 3}


def test_folder_without_system(tmp_path):
    with pytest.raises(ValueError, match="no system"):
        pack(tmp_path, tmp_path / "system")


# ---- There and back ------------------------------------------------------------------------------


@st.composite
def frames_and_precision(draw):
    width = draw(st.sampled_from([32, 64]))
    finite = st.floats(allow_nan=False, allow_infinity=False, width=width)
    frames = []
    for seed in range(draw(st.integers(1, 6))):
        symbols = draw(st.lists(st.sampled_from(["H", "C", "Zn"]), max_size=7))
        atoms = molecule(symbols, seed, draw(st.floats(allow_nan=False, allow_infinity=False)))
        atoms.calc.results["forces"] = draw(
            arrays(f"f{width // 8}", (len(symbols), 3), elements=finite)
        )
        weights = arrays(
            float, len(symbols), elements=st.floats(0, 2.0**99, allow_subnormal=False, width=width)
        )
        atoms.set_array("atom_pref", draw(weights))
        frames.append(atoms)
    assume(any(len(atoms) for atoms in frames))
    return frames, f"float{width}"


@settings(max_examples=60, deadline=None)
@given(frames_and_precision(), st.integers(1, 4))
def test_there_and_back_is_the_identity(tmp_path_factory, drawn, set_size):
    frames, precision = drawn
    directory = tmp_path_factory.mktemp("round trip é")
    options = {
        "type_map": ["C", "H", "ZN"],
        "preference": "array:atom_pref",
        "precision": precision,
        "set_size": set_size,
    }
    packed = pack(frames, directory / "one", **options)
    assert unpack(directory / "one", directory / "frames.xyz") == len(frames)
    pack(directory / "frames.xyz", directory / "two", **options)
    same_files(directory / "one", directory / "two")
    pack(directory / "one", directory / "three", **options)
    same_files(directory / "one", directory / "three")
    images = ase.io.read(directory / "frames.xyz", ":")
    assert [len(atoms) for atoms in images] == [len(atoms) for atoms in frames]
    assert sum(packed.sel) >= max(map(len, frames))


def test_unpack_several(tmp_path):
    pack(FRAMES, tmp_path / "data", validation=1)
    assert unpack([tmp_path / "data"], tmp_path / "all.xyz") == 3
    images = ase.io.read(tmp_path / "all.xyz", ":")
    energies = [atoms.get_potential_energy() for atoms in images]
    assert sorted(energies) == [-12.0, -11.0, -10.0]
    assert "atom_pref" in images[0].arrays


def test_unpack_refuses(tmp_path):
    pack(FRAMES, tmp_path / "a")
    with pytest.raises(ValueError, match="not found"):
        unpack(tmp_path / "nowhere", tmp_path / "b.xyz")
    (tmp_path / "b.xyz").write_text("precious")
    with pytest.raises(FileExistsError, match="exists"):
        unpack(tmp_path / "a", tmp_path / "b.xyz")
    assert (tmp_path / "b.xyz").read_text() == "precious"
    unpack(tmp_path / "a", tmp_path / "b.xyz", overwrite=True)
    assert (tmp_path / "b.xyz").read_text().startswith("4\n")
    np.save(tmp_path / "a/set.000/aparam.npy", np.full((3, 16), 0.5))
    with pytest.raises(ValueError, match=r"frame 0, atom 0: mask value 0.5"):
        unpack(tmp_path / "a", tmp_path / "c.xyz")
    (tmp_path / "a/type_map.raw").write_text("H\nOW\nS\nZn\n")
    with pytest.raises(ValueError, match="OW is no element"):
        unpack(tmp_path / "a", tmp_path / "c.xyz")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b.xyz"}


# ---- All or nothing ------------------------------------------------------------------------------


def test_what_exists_stays(tmp_path):
    pack(FRAMES, tmp_path / "system")
    with pytest.raises(FileExistsError, match="exists"):
        pack(FRAMES[:1], tmp_path / "system")
    require_frames(tmp_path / "system", FRAMES)
    pack(FRAMES[:1], tmp_path / "system", overwrite=True)
    require_frames(tmp_path / "system", FRAMES[:1])
    pack(tmp_path / "system", tmp_path / "system", overwrite=True)  # onto its own source
    require_frames(tmp_path / "system", FRAMES[:1])
    (tmp_path / "system" / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match=r"thesis.tex"):
        pack(FRAMES, tmp_path / "system", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["system"]


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path):
    pack(FRAMES, tmp_path / "system")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileExistsError, match="is a folder"):
        unpack(tmp_path / "system", tmp_path / "folder", overwrite=True)
    with pytest.raises(ValueError, match="`systems` and `output` are both"):
        unpack(tmp_path / "system", tmp_path / "system", overwrite=True)
    for file in ("type.raw", "set.000/coord.npy"):
        with pytest.raises(FileExistsError, match="is a file of a system"):
            unpack(tmp_path / "system", tmp_path / "system" / file, overwrite=True)
    require_frames(tmp_path / "system", FRAMES)
    (tmp_path / "file").write_text("precious")
    with pytest.raises(FileExistsError, match="is a file"):
        pack(FRAMES, tmp_path / "file", overwrite=True)
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("overwrite", [False, True])
def test_interrupted_run_leaves_nothing(tmp_path, error, overwrite):
    def frames():
        yield from FRAMES
        raise error

    if overwrite:
        pack(FRAMES, tmp_path / "system")
    with pytest.raises(error):
        pack(frames(), tmp_path / "system", overwrite=overwrite)
    if overwrite:
        require_frames(tmp_path / "system", FRAMES)
    assert [path.name for path in tmp_path.iterdir()] == ["system"] * overwrite


KILLED = """
import os, signal, sys
from deepmd_mask.data import pack
from deepmd_mask.data.writer import SystemWriter
add, calls = SystemWriter.add, []
def add_or_die(*arguments):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    add(*arguments)
SystemWriter.add = add_or_die
pack(*sys.argv[1:3], set_size=1, validation=int(sys.argv[3]))
"""


@pytest.mark.parametrize("validation", [0, 1])
def test_killed_run_leaves_nothing_that_looks_complete(tmp_path, validation):
    pack(FRAMES, tmp_path / "source")
    command = [sys.executable, "-c", KILLED, tmp_path / "source", tmp_path / "out/system"]
    command.append(str(validation))
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == -signal.SIGKILL
    left = list((tmp_path / "out").iterdir())
    assert [path.name.startswith(".system.") for path in left] == [True]
    assert len(list(left[0].rglob("set.*"))) == 2, "it was killed too early to test anything"
    assert reader.systems_in(tmp_path / "out") == [str(tmp_path / "out")]  # none is in it
    pack(FRAMES, tmp_path / "out/system")
    require_frames(tmp_path / "out/system", FRAMES)


FULL = """
import resource, sys
from deepmd_mask.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
main(sys.argv[2:])
"""


@pytest.mark.parametrize("room", [0, 2000, 6000])
def test_full_disk(tmp_path, room):
    """No file can grow beyond the room: neither spool, nor arrays, nor extended XYZ."""
    pack(FRAMES * 40, tmp_path / "source")
    for command, name in {"pack": "system", "unpack": "frames.xyz"}.items():
        output = tmp_path / "out" / name
        arguments = [str(room), command, tmp_path / "source", "-o", output]
        message = helpers.run_python(["-c", FULL, *arguments], tmp_path, succeeds=False)
        assert f"File too large; nothing was left of the output: '{output}'" in message
        assert not list((tmp_path / "out").iterdir())


def test_output_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OSError, match="nothing was left"):
        pack(FRAMES, tmp_path / "file" / "system")
    assert (tmp_path / "file").read_text() == "precious"
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(OSError):
        pack(FRAMES, loop / "system")
    with pytest.raises(ValueError, match="not found"):
        pack(loop, tmp_path / "system")


def test_memory_does_not_grow_with_frames(tmp_path):
    """More than twice the frames, in one set, and little more memory."""
    atoms = molecule(["C"] * 600)
    peaks = []
    for nframes in (300, 700):
        tracemalloc.start()
        pack(itertools.repeat(atoms, nframes), tmp_path / str(nframes), set_size=10**6)
        pack(tmp_path / str(nframes), tmp_path / f"{nframes} again", set_size=10**6)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] + 20 * 400  # two numbers and a bit for each frame


# ---- Commands ------------------------------------------------------------------------------------


def run(*arguments, exit_code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result.output


def test_commands(tmp_path):
    ase.io.write(tmp_path / "in.traj", FRAMES)
    output = run(
        "pack", tmp_path / "in.traj", "-o", tmp_path / "data", "--type-map", "O,H,S,ZN", "--sel",
        "auto:1.0", "--preference", "within:2.5:ZN", "--validation", "0.34",
        "--precision", "float32",
    )  # fmt: skip
    assert f"{tmp_path / 'data/train'}: 2 frames" in output
    assert f"{tmp_path / 'data/validation'}: 1 frames" in output
    assert "type_map: O,H,S,ZN" in output
    assert "sel: 4,4,4,4" in output
    assert "3 frames" in run("unpack", tmp_path / "data", "-o", tmp_path / "out.xyz")
    run(
        "pack",
        tmp_path / "out.xyz",
        "-o",
        tmp_path / "b",
        "--type-map",
        "H,O,S,Zn",
        "--sel",
        "3,2,1,1",
    )
    assert "exists" in run("pack", tmp_path / "out.xyz", "-o", tmp_path / "b", exit_code=1)


def test_messages_of_commands_name_options(tmp_path):
    """And not the parameters of functions, nor the numbers of system errors."""
    ase.io.write(tmp_path / "in.traj", FRAMES)
    (tmp_path / "there").write_text("precious")

    def refused(*options, exit_code=1):
        output = tmp_path / "out"
        message = run("pack", tmp_path / "in.traj", "-o", output, *options, exit_code=exit_code)
        assert not {"_", "`", "Errno"} & set(message.replace(str(tmp_path), ""))
        assert not output.exists()
        return message

    assert "name another with --energy-key" in refused("--energy-key", "E")
    assert "name another with --forces-key" in refused("--forces-key", "F")
    assert '--sel is "auto:0.5"; its factor' in refused("--sel", "auto:0.5")
    assert "--sel is a list; give --type-map" in refused("--sel", "3,4")
    assert '--force-unit: "eV" is no unit of force' in refused("--force-unit", "eV")
    assert '--preference "near" is none of' in refused("--preference", "near")
    assert "which --preference wants of all sources" in refused("--preference", "array:w")
    assert "--validation is 3.0, which is 3 of 3 frames" in refused("--validation", "3")
    assert "--validation is nan" in refused("--validation", "nan")
    for option in ("--validation", "--seed", "--set-size"):
        assert f"'{option}': -4 is not in the range" in refused(option, "-4", exit_code=2).replace(
            "-4.0", "-4"
        )
    assert "write auto" in refused("--sel", "3,many", exit_code=2)
    message = refused("-o", tmp_path / "there")
    assert f"{tmp_path / 'there'} exists; choose another name, or replace it with --over" in message
    message = refused("-o", tmp_path / "there" / "system")
    assert "Error: Not a directory; nothing was left" in message or "Error: File exists" in message


def test_tools_start_without_tensorflow(tmp_path):
    """TensorFlow takes seconds to start, which these tools do not need."""
    pack(FRAMES, tmp_path / "a")
    jdata = helpers.make_input(["a"], sel="auto", model={"type_map": ["H", "O", "S", "Zn"]})
    helpers.write_input(tmp_path, jdata)
    code = (
        "import sys; from deepmd_mask.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print('tensorflow' in sys.modules)"
    )
    for arguments in (
        ["pack", "a", "-o", "b"], ["unpack", "a", "-o", "c.xyz"],
        ["check", "a", "--input", "input.json"],
    ):  # fmt: skip
        output = helpers.run_python(["-c", code, *arguments], tmp_path)
        assert output.splitlines()[-1] == "False"
    assert os.path.exists(tmp_path / "c.xyz")
