# SPDX-License-Identifier: LGPL-3.0-or-later
"""Each format of ASE and dpdata, and cclib: found, read, and right."""

import ase.io
import numpy as np
import pytest
from ase.io.formats import ioformats
from outputs import (
    FORCES,
    GRADIENT,
    HARTREE,
    INPUT,
    ORCA_NEXT,
    SYMBOLS,
    WATER,
    gaussian,
    molpro,
    orca,
    orca_step,
    psi4,
    qchem,
)
from packing import load, packed, refusal, require_water, water

from deepmd_mask.data import pack
from deepmd_mask.data.packing.readers import naming

pytestmark = pytest.mark.filterwarnings("error::deepmd_mask.data.balance.NetForceWarning")


# ---- All formats ---------------------------------------------------------------------------------


def require_right_or_refused(tmp_path, source):
    """Pack what a library has written, if its format has labels."""
    try:
        pack(source, tmp_path / "system", drop_cell=True)
    except ValueError:
        return False
    for r, f, E in load(tmp_path / "system"):
        np.testing.assert_allclose(np.diff(r, axis=0), np.diff(WATER[[1, 2, 0]], axis=0), atol=1e-6)
        np.testing.assert_allclose(f, FORCES[[1, 2, 0]], atol=1e-6)
        assert pytest.approx(-10.0, abs=1e-4) == E
    return True


@pytest.mark.filterwarnings("ignore")
def test_formats_that_ase_writes(tmp_path):
    right = set()
    for name, each in ioformats.items():
        if not (each.can_read and each.can_write) or name in ("mysql", "postgresql"):
            continue
        (tmp_path / name).mkdir()
        path = tmp_path / name / ("a.db" if name == "db" else "a")
        try:
            ase.io.write(path, water(), format=name)
        except Exception:  # wants a cell, parameters, or another package
            continue
        if require_right_or_refused(tmp_path / name, f"ase:{name}:{path}"):
            right.add(name)
    assert right - {"netcdftrajectory"} == {
        "bundletrajectory", "db", "extxyz", "json", "runnerdata", "traj"
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_formats_that_dpdata_writes(tmp_path):
    import dpdata

    data = {
        "atom_names": ["O", "H"], "atom_numbs": [1, 2], "atom_types": np.array([0, 1, 1]),
        "orig": np.zeros(3), "cells": 30 * np.eye(3)[None], "nopbc": True,
        "coords": WATER[None], "energies": np.array([-10.0]), "forces": FORCES[None],
    }  # fmt: skip
    right = set()
    for name in naming.formats_of("dpdata"):
        folder = tmp_path / name.replace("/", " ")
        folder.mkdir()
        path = folder / ("a.traj" if "traj" in name else "a")
        system = dpdata.LabeledSystem(data=dict(data))
        try:
            many = "mixed" in name or "hdf5" in name
            (dpdata.MultiSystems(system) if many else system).to(name, str(path))
        except Exception:  # has no writer, or wants parameters
            continue
        if require_right_or_refused(folder, f"dpdata:{name}:{path}"):
            right.add(name)
    assert right >= {
        "ase/traj", "deepmd", "deepmd/comp", "deepmd/hdf5", "deepmd/mask", "deepmd/npy",
        "deepmd/npy/mixed", "deepmd/raw", "extxyz", "gpumd/xyz", "mace/xyz", "n2p2", "nequip/xyz",
        "quip/gap/xyz",
    }  # fmt: skip


# ---- Which reader --------------------------------------------------------------------------------


def test_suffix_that_leads_astray(tmp_path):
    """As ASE takes each .out for Quantum ESPRESSO's, and each .log for Gaussian's."""
    for name, tried in {"a.out": "espresso-out", "a.log": "gaussian-out"}.items():
        message = refusal(tmp_path, "output of some program\n" * 9, name=name)
        assert f"read as {tried} of ASE, which its name suggests" in message
        assert "name the format, as in gaussian-out:PATH" in message
        assert "dpdata:dftbplus:PATH,PATH" in message


@pytest.mark.parametrize("name", ["a.out", "a.log", "a.dat", "a.qcout"])
@pytest.mark.parametrize("program", [qchem, psi4, molpro])
@pytest.mark.parametrize("form", ["{}", "cclib:{}"])
def test_outputs_by_cclib(tmp_path, name, program, form):
    pytest.importorskip("cclib")
    (frame,), _ = packed(tmp_path, program(), form, name)
    require_water(frame, positions=WATER - WATER.mean(axis=0) if program is psi4 else WATER)


def test_cclib_refuses_what_does_not_fit_together(tmp_path):
    pytest.importorskip("cclib")
    text = qchem(
        correction=" Adding empirical dispersion correction\n"
        " Dispersion energy =    -0.0010000000 hartrees\n"
    )
    found = refusal(tmp_path, text, "cclib:{}")
    assert "cclib finds scfenergies, dispersionenergies; say to which" in found
    for energy, right in {
        "scfenergies": -76.3, "scfenergies+dispersionenergies": -76.301
    }.items():  # fmt: skip
        (frame,), _ = packed(tmp_path, text, f"cclib:{{}}?energy={energy}")
        require_water(frame, right)
    (tmp_path / "system").rename(tmp_path / "other")
    assert "cclib finds no mpenergies in it" in refusal(
        tmp_path, qchem(), "cclib:{}?energy=mpenergies"
    )
    assert "has the option energy only" in refusal(tmp_path, qchem(), "cclib:{}?force=x")
    second = qchem(positions=WATER * 1.1).partition("Standard Nuclear")
    text = qchem() + " " * 13 + second[1] + second[2].partition(" Gradient of SCF")[0]
    assert "2 geometries, 2 energies and 1 gradients" in refusal(tmp_path, text, "cclib:{}")
    assert "through cclib only those of Q-Chem" in refusal(tmp_path, gaussian(INPUT), "cclib:{}")
    assert "no gradient" in refusal(tmp_path, qchem().partition(" Gradient of SCF")[0], "cclib:{}")


def test_names_in_outputs_are_elements(tmp_path):
    text = psi4().replace("         O   ", "         Qq  ")
    assert "atom 0: Qq is no element" in refusal(tmp_path, text, "psi4/out:{}")


def test_cclib_is_optional(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "cclib", None)
    message = refusal(tmp_path, qchem(), name="a.out")
    assert "outputs of Q-Chem are read by cclib" in message
    assert 'pip install "deepmd-mask[cclib]"' in message


def test_several_files_and_options(tmp_path):
    """DFTB+ by dpdata, from two files."""
    geometry = "\n".join(
        f"{k} {1 if s == 'O' else 2} {x} {y} {z}"
        for k, (s, (x, y, z)) in enumerate(zip(SYMBOLS, WATER, strict=True), 1)
    )
    forces = "\n".join(f"{k} {x} {y} {z}" for k, (x, y, z) in enumerate(-GRADIENT, 1))
    (tmp_path / "dftb_in.hsd").write_text(f"Geometry = GenFormat {{\n3 C\nO H\n{geometry}\n}}\n")
    detailed = f"Total energy:   -76.3 H  -2076.0 eV\nTotal Forces\n{forces}\n"
    (tmp_path / "detailed.out").write_text(detailed)
    source = f"dpdata:dftbplus:{tmp_path}/dftb_in.hsd,{tmp_path}/detailed.out"
    pack(source, tmp_path / "system")
    require_water(load(tmp_path / "system")[0])
    for spoilt in ("Geometry optimization step: 7", "SCC is NOT converged"):
        (tmp_path / "detailed.out").write_text(f"{spoilt}\n{detailed}")
        with pytest.raises(ValueError, match=r"geometry that moved|SCF did not converge"):
            pack(source, tmp_path / "none")
    with pytest.raises(ValueError, match=r'there is no file ".*nowhere"'):
        pack(f"{source},{tmp_path}/nowhere", tmp_path / "none")


def test_amber_from_files_that_options_name(tmp_path):
    """Five files without a common name; AMBER's unit is kcal/mol."""
    from scipy.io import netcdf_file

    (tmp_path / "a.parm7").write_text(
        "%FLAG ATOMIC_NUMBER\n%FORMAT(10I8)\n" + f"{8:8d}{1:8d}{1:8d}\n"
        "%FLAG AMBER_ATOM_TYPE\n%FORMAT(20a4)\nOW  HW  HW  \n"
    )
    for name, arrays in {
        "b.nc": {
            "coordinates": WATER[None], "cell_lengths": [[30.0] * 3], "cell_angles": [[90.0] * 3]
        },
        "c.frc": {"forces": FORCES[None] / 0.04336411},
    }.items():  # fmt: skip
        with netcdf_file(tmp_path / name, "w") as file:
            for key, array in arrays.items():
                sizes = np.shape(array)
                names = [f"{key}{k}" for k in range(len(sizes))]
                for dimension, size in zip(names, sizes, strict=True):
                    file.createDimension(dimension, size)
                file.createVariable(key, "f8", names)[:] = array
    (tmp_path / "d.mden").write_text("L6 x E_pot\nL6 0 -150.0\n")
    files = zip(
        ("parm7_file", "nc_file", "mdfrc_file", "mden_file"),
        ("a.parm7", "b.nc", "c.frc", "d.mden"),
        strict=True,
    )
    options = "&".join(f"{option}={tmp_path}/{name}" for option, name in files)
    pack(
        f"dpdata:amber/md:?{options}&use_element_symbols=0,1,2", tmp_path / "system",
        drop_cell=True,
    )  # fmt: skip
    require_water(load(tmp_path / "system")[0], -150.0 * 0.0433641 / HARTREE, atol=1e-4)


def test_lammps_dump_with_options(tmp_path):
    """Energies are the sum of a column, in LAMMPS's own unit."""
    rows = "\n".join(
        f"{k} {1 if s == 'O' else 2} {' '.join(map(str, [*r, *(f / 0.04336411)]))} {e}"
        for k, (s, r, f, e) in enumerate(
            zip(SYMBOLS, WATER.tolist(), FORCES, [-100.0, -20.0, -30.0], strict=True), 1)
    )  # fmt: skip
    (tmp_path / "run.dump").write_text(
        "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n3\nITEM: BOX BOUNDS ss ss ss\n"
        "-9 9\n-9 9\n-9 9\nITEM: ATOMS id type x y z fx fy fz c_pe\n" + rows + "\n"
    )
    pack(
        f"ase:lammps-dump-text:{tmp_path}/run.dump?units=real&specorder=O,H", tmp_path / "system",
        energy_key="c_pe", energy_unit="kcal/mol", force_unit="eV/Å",
    )  # fmt: skip
    require_water(load(tmp_path / "system")[0], -150.0 * 0.0433641 / HARTREE, atol=1e-4)


def test_options_in_names(tmp_path):
    (tmp_path / "a").touch()
    named = naming.parse_source(f"dpdata:amber/md:{tmp_path}/a?x=1&y=0.5&z=O,H&w=true&v=O,&u=None")
    assert (named.library, named.file_format, named.path) == ("dpdata", "amber/md", f"{tmp_path}/a")
    assert named.options == {"x": 1, "y": 0.5, "z": ["O", "H"], "w": True, "v": ["O"], "u": None}
    (tmp_path / "a?b=c").touch()
    assert naming.parse_source(f"traj:{tmp_path}/a?b=c").options == {}
    assert naming.parse_source(f"{tmp_path}/a?b=c").library is None
    for wrong in ("x", "x y=1", "=1", "x=1&"):
        with pytest.raises(ValueError, match="is no option; write them as"):
            naming.parse_source(f"ase:traj:{tmp_path}/a?{wrong}")
    for library in ("ase", "dpdata"):
        for name in naming.formats_of(library):
            assert naming.parse_source(f"{library}:{name}:{tmp_path}/a").file_format == name
    message = refusal(tmp_path, "", "dpdata:gaussian:{}", "b")
    assert "it is none of dpdata's: abacus/lcao/md, " in message


def test_orca_optimisation_that_is_still_running(tmp_path):
    """Its last, unfinished step is no frame."""
    text = orca(orca_step(), orca_step(energy=-76.4), end=ORCA_NEXT + "FINAL SINGLE POINT")
    with pytest.warns(UserWarning, match="did not finish"):
        frames, _ = packed(tmp_path, text + "\nORCA SCF GRADIENT CALCULATION\n")
    assert [frame[2] / HARTREE for frame in frames] == pytest.approx([-76.3, -76.4])
