# SPDX-License-Identifier: LGPL-3.0-or-later
"""Model deviations on frames without labels: systems, and files that ASE reads."""

import shutil

import ase.io
import committee
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from committee import assert_rows
from helpers import TYPE_MAP

from deepmd_mask.evaluation import model_deviation

frames, home = committee.frames, committee.home
models, wanted = committee.models, committee.wanted


def test_systems_without_labels(home, models, wanted, tmp_path):
    system = shutil.copytree(home / "wide", tmp_path / "system")
    for name in ("energy", "force"):
        (system / "set.000" / f"{name}.npy").unlink()
    assert_rows(model_deviation(models, system), wanted)
    (system / "set.000" / "atom_pref.npy").unlink()
    found = model_deviation(models, system)
    assert np.isnan(found["preferred_max_devi_f"]).all()
    np.testing.assert_allclose(found["max_devi_f"][0], wanted[0]["max_devi_f"])


def as_atoms(frames, frame):
    """Return the real atoms of a frame for ASE, with preferences and an energy, which is no use."""
    real = frames.mask[frame] == 1
    symbols = [TYPE_MAP[t].capitalize() for t in frames.types[real]]
    atoms = ase.Atoms(symbols, frames.coord[frame, real])
    atoms.set_array("atom_pref", frames.preference[frame, real])
    atoms.calc = SinglePointCalculator(atoms, energy=1.0)
    return atoms


def test_files_that_ase_reads(models, frames, wanted, tmp_path):
    some = [0, 2, 4, 5]
    ase.io.write(tmp_path / "a.xyz", [as_atoms(frames, frame) for frame in some])
    found = model_deviation(models, tmp_path / "a.xyz")
    assert_rows(found, [wanted[frame] for frame in some], tolerance=1e-5)  # of 8 digits
    assert str(found.place(2)) == f"{tmp_path / 'a.xyz'}, frame 2"


def test_virtual_atoms_of_a_file(models, frames, wanted, tmp_path):
    atoms = as_atoms(frames, 0)
    atoms.set_array("mask", np.ones(len(atoms)))
    virtual = ase.Atoms("H", [[0, 0, 50]])
    virtual.set_array("mask", np.zeros(1))
    ase.io.write(tmp_path / "a.xyz", atoms + virtual)
    assert_rows(model_deviation(models, tmp_path / "a.xyz"), wanted[:1], tolerance=1e-5)


@pytest.mark.parametrize("unit", ["bohr", "nm"])
def test_units_of_a_file(models, frames, wanted, tmp_path, unit):
    """Those of labels, which are not read, have no effect."""
    atoms = as_atoms(frames, 0)
    atoms.positions /= {"bohr": ase.units.Bohr, "nm": ase.units.nm}[unit]
    atoms.info.update({"position-unit": unit, "energy-unit": "hartree"})
    ase.io.write(tmp_path / "a.xyz", atoms)
    assert_rows(model_deviation(models, tmp_path / "a.xyz"), wanted[:1], tolerance=1e-5)


def test_some_frames_of_a_file(models, frames, wanted, tmp_path):
    file = tmp_path / "a.xyz"
    ase.io.write(file, [as_atoms(frames, frame) for frame in (0, 2, 4)])
    found = model_deviation(models, f"{file}@1:")
    assert_rows(found, [wanted[2], wanted[4]], tolerance=1e-5)
    assert str(found.place(1)) == f"{file}@1:, frame 2"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ValueError, match=r"a\.xyz, frame 2: it is cut off \(.* FILE@:-1"):
        model_deviation(models, file)
    assert_rows(model_deviation(models, f"{file}@:-1"), [wanted[0], wanted[2]], tolerance=1e-5)


def test_bad_frames_of_a_file(models, frames, tmp_path, monkeypatch):
    good = as_atoms(frames, 0)
    bad = {
        ", atom 0: the models do not know Fe": good.copy(),
        ", atom 1: coordinate y of a real atom is nan": good.copy(),
        ", atom 0: at the same point as atom 2": good.copy(),
        ": the input is periodic": good.copy(),
    }
    iron, nowhere, same, periodic = bad.values()
    iron.symbols[0] = "Fe"
    nowhere.positions[1, 1] = np.nan
    same.positions[2] = same.positions[0]
    periodic.set_cell([50, 50, 50])
    periodic.pbc = True
    file = tmp_path / "a.traj"
    for message, atoms in bad.items():
        ase.io.write(file, [good, atoms])
        with pytest.raises(ValueError, match=rf"a\.traj, frame 1{message}"):
            model_deviation(models, file)
    monkeypatch.setenv("DP_MASK_IGNORE_BOX", "1")
    ase.io.write(file, [good, periodic])
    assert np.ptp(model_deviation(models, file)["max_devi_f"]) < 1e-12
    file.write_text("nothing")
    with pytest.raises(ValueError, match=r"a\.traj, frame 0: ASE cannot read it"):
        model_deviation(models, file)


def test_bad_arrays_and_units_of_a_file(models, frames, tmp_path):
    good = as_atoms(frames, 0)
    bad = {
        ", atom 2: preference -1 in array atom_pref; it must be 0 or": good.copy(),
        ", atom 1: preference nan in array atom_pref": good.copy(),
        ": array atom_pref has the shape .* one number for each of the 6 atoms": good.copy(),
        ": array mask has the shape": good.copy(),
        ": it says position-unit=furlong, and .* no unit of length": good.copy(),
    }
    negative, nan, wide, masks, furlong = bad.values()
    negative.arrays["atom_pref"][2] = -1
    nan.arrays["atom_pref"][1] = np.nan
    wide.arrays["atom_pref"] = np.ones((len(wide), 2))
    masks.arrays["mask"] = np.ones((len(masks), 3))
    furlong.info["position-unit"] = "furlong"
    for message, atoms in bad.items():
        ase.io.write(tmp_path / "a.xyz", [good, atoms])
        with pytest.raises(ValueError, match=rf"a\.xyz, frame 1{message}"):
            model_deviation(models, tmp_path / "a.xyz")
