# SPDX-License-Identifier: LGPL-3.0-or-later
"""From sources to masked systems: nothing lost, nothing mixed up."""

import itertools
import shutil

import ase.io
import ase.units
import helpers
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.neighborlist import neighbor_list
from molecules import FRAMES, GOOD, KEYS, load, molecule, require_frames, same_files

from deepmd_mask.data import pack, scan_systems, unpack
from deepmd_mask.data.packing.readers.units import energy_factor, force_factor

# Forces here are random.
pytestmark = pytest.mark.filterwarnings("ignore::deepmd_mask.data.balance.NetForceWarning")


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


def test_preferences_of_sources_are_kept(tmp_path):
    """Of masked systems and other sources, unless a rule is given; never of some of them only."""
    pack(FRAMES, tmp_path / "masked", preference="element:ZN,S")
    pack(FRAMES, tmp_path / "all")
    unpack(tmp_path / "masked", tmp_path / "frames.xyz")
    type_map = ["H", "O", "S", "Zn"]
    for source in ("masked", "frames.xyz"):
        kept = pack(tmp_path / source, tmp_path / "again", type_map=type_map, overwrite=True)
        assert kept.kept_preference
        same_files(tmp_path / "masked", tmp_path / "again")
    packed = pack(tmp_path / "masked", tmp_path / "again", preference="all", overwrite=True)
    assert not packed.kept_preference
    same_files(tmp_path / "all", tmp_path / "again")
    assert not pack([tmp_path / "all", FRAMES], tmp_path / "ones").kept_preference
    for sources in ([tmp_path / "masked", FRAMES], [FRAMES, tmp_path / "masked"]):
        with pytest.raises(ValueError) as error:
            pack(sources, tmp_path / "mixed")
        assert f"source {tmp_path / 'masked'}, set.000, frame 0: it has weights" in str(error.value)
        assert "frame 0 of the given ones has none; say by `preference`" in str(error.value)
        pack(sources, tmp_path / "mixed", preference="all", overwrite=True)
        shutil.rmtree(tmp_path / "mixed")


def test_frames_that_are_alike_are_on_one_side(tmp_path):
    """Also with atoms in another order."""
    frames = [molecule(["H"] * (1 + k % 2) + ["O"], k % 8, -float(k % 8)) for k in range(24)]
    frames += [atoms[::-1] for atoms in frames[:4]]
    for new, old in zip(frames[24:], frames, strict=False):
        results = old.calc.results
        new.calc = SinglePointCalculator(
            new, energy=results["energy"], forces=results["forces"][::-1]
        )
    for seed in range(4):
        packed = pack(
            frames, tmp_path / "a", type_map=["H", "O"], validation=6, seed=seed, overwrite=True
        )
        parts = [load(tmp_path / "a" / part)[0]["energy"] for part in ("train", "validation")]
        assert not set(parts[0]) & set(parts[1])
        assert packed.repeated == len(frames) - 8
        assert 6 - 3 <= len(parts[1]) <= 6
    with pytest.raises(ValueError, match="all 3 frames are alike; at least one must be left"):
        pack([FRAMES[0]] * 3, tmp_path / "b", validation=1)


def test_frames_that_are_there_many_times_are_for_training(tmp_path):
    """Whoever repeats a frame wants it to weigh more there."""
    frames = [molecule(["O"], 9, -1.0)] * 9 + [molecule(["O", "H"], k, float(k)) for k in range(3)]
    for seed in range(4):
        packed = pack(frames, tmp_path / "a", validation=0.17, seed=seed, overwrite=True)
        assert packed.repeated == 8
        energies = load(tmp_path / "a" / "validation")[0]["energy"]
        assert len(energies) == 2 and -1 not in energies
    pack(frames[8:9] * 3 + frames[9:10] * 2, tmp_path / "b", validation=1)
    assert load(tmp_path / "b" / "validation")[0]["energy"].tolist() == [0, 0]


def test_other_arrays_of_systems_are_said_to_be_left_out(tmp_path):
    pack(FRAMES, tmp_path / "a")
    for key in ("virial", "atom_ener", "box"):
        np.save(tmp_path / "a" / "set.000" / f"{key}.npy", np.zeros((3, 9)))
    shutil.copytree(tmp_path / "a", tmp_path / "folder" / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "folder" / "b")
    with pytest.warns(UserWarning) as caught:
        pack([tmp_path / "a", tmp_path / "folder"], tmp_path / "c", external_field=True)
    assert [str(warning.message).partition(" left out;")[0] for warning in caught] == [
        f"source {tmp_path / name}: atom_ener.npy, virial.npy" for name in ("a", "folder")
    ]


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
