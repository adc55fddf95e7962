# SPDX-License-Identifier: LGPL-3.0-or-later
"""Positions and forces in the same axes, of one geometry and one method; net forces and torques."""

import ase.io
import numpy as np
import outputs
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from outputs import (
    FORCES,
    INPUT,
    MOVED,
    STANDARD,
    TURN,
    TURNED,
    WATER,
    gaussian,
    psi4,
    table,
)
from packing import packed, refusal, require_water, run, water

from deepmd_mask.data import pack
from deepmd_mask.data.balance import NetForceWarning

pytestmark = pytest.mark.filterwarnings("error::deepmd_mask.data.balance.NetForceWarning")


# ---- Axes of Gaussian ----------------------------------------------------------------------------

READERS = ["{}", "gaussian-out:{}", "gaussian/log:{}", "dpdata:gaussian/md:{}"]


@pytest.mark.parametrize("form", READERS)
@pytest.mark.parametrize(
    "parts", [[INPUT], [INPUT, STANDARD], [table("Z-Matrix", WATER), STANDARD]]
)
def test_forces_along_the_bonds(tmp_path, form, parts):
    (frame,), _ = packed(tmp_path, gaussian(*parts), form)
    require_water(frame)


@pytest.mark.parametrize("form", READERS)
def test_axes_of_the_standard_orientation_are_refused(tmp_path, form):
    assert "Geom=PrintInputOrient" in refusal(tmp_path, gaussian(STANDARD), form)


@pytest.mark.parametrize("form", READERS)
def test_axes_of_another_geometry_are_refused(tmp_path, form):
    """The input orientation of the first geometry does not serve for the second."""
    first = gaussian(INPUT, STANDARD)
    second = gaussian(table("Standard", TURNED * 1.1), energy=-76.2)
    assert "Geom=PrintInputOrient" in refusal(tmp_path, first + second, form)
    stale = gaussian(INPUT, STANDARD).partition(" Center     Atomic                   Forces")[0]
    assert "Geom=PrintInputOrient" in refusal(tmp_path, stale + second, form, skip_incomplete=True)


@pytest.mark.parametrize(
    "route",
    ["#P B3LYP Force NoSymm", "# b3lyp force nosymmetry", "#B3LYP Symmetry=None Force",
     "# force symm=(none)", "#P B3LYP/6-31G(d) Force Integral=UltraFine NoSy\n mm"],
)  # fmt: skip
def test_job_that_kept_its_axes(tmp_path, route):
    (frame,), _ = packed(tmp_path, gaussian(table("Standard", WATER), route=route))
    require_water(frame)


@pytest.mark.parametrize("route", ["#P B3LYP Force", "# force symmetry=loose guess=none"])
def test_job_that_did_not_keep_its_axes(tmp_path, route):
    assert "NoSymm" in refusal(tmp_path, gaussian(table("Standard", WATER), route=route))


def test_several_geometries_of_gaussian(tmp_path):
    moved = gaussian(table("Input", MOVED), table("Standard", MOVED @ TURN.T), energy=-76.2)
    frames, _ = packed(tmp_path, gaussian(INPUT, STANDARD) + moved, external_field=True)
    require_water(frames[0])
    require_water(frames[1], -76.2, MOVED)


def test_energy_of_another_method_than_the_forces(tmp_path):
    """As of excited states, ONIOM and, where the reader takes the SCF's, correlated methods."""
    notes = {
        " Total Energy, E(TD-HF/TD-DFT) =  -75.9": "an excited state",
        " ONIOM: extrapolated energy =  -75.9": "ONIOM",
    }
    for line, what in notes.items():
        for form in READERS:
            assert what in refusal(tmp_path, gaussian(INPUT, notes=line), form)
    mp2 = gaussian(INPUT).replace(
        outputs.gaussian_forces(),
        " E2 =    -0.2000000000D+00 EUMP2 =    -0.76500000000000D+02\n" + outputs.gaussian_forces(),
    )
    (frame,), _ = packed(tmp_path, mp2)
    require_water(frame, -76.5)
    (tmp_path / "system").rename(tmp_path / "other")
    message = refusal(tmp_path, mp2, "gaussian/log:{}")
    assert "a correlated method" in message
    assert "gaussian-out:PATH" in message
    water = psi4(notes="    DF-MP2 Total Energy (a.u.)   :   -76.5\n")
    assert "correlated" in refusal(tmp_path, water, "psi4/out:{}")


# ---- Net force and torque ------------------------------------------------------------------------


def test_net_torque_of_turned_positions(tmp_path):
    """The forces still cancel, but not their torque; the second of three frames."""
    frames = [water(), water(TURNED), water()]
    with pytest.warns(NetForceWarning) as warned:
        result = pack(frames, tmp_path / "system")
    (warning,) = warned
    assert "frame 1 of the given ones: net torque (" in str(warning.message)
    torque = np.cross(TURNED, FORCES).sum(axis=0)
    assert f"of magnitude {np.linalg.norm(torque):.3g}" in str(warning.message)
    assert result.with_net == 1
    assert pack(frames, tmp_path / "b", external_field=True).with_net == 0


def test_net_force_by_command(tmp_path):
    """Pack and check name frame and value, and the option that turns it off."""
    pulled = FORCES + np.array([[0, 0, 0], [0, 0.7, 0], [0, 0, 0]])
    ase.io.write(tmp_path / "a.traj", [water(), water(forces=pulled)] + 12 * [water(TURNED)])
    output = run("pack", tmp_path / "a.traj", "-o", tmp_path / "system").stderr
    place = f"warning: source {tmp_path / 'a.traj'}, frame 1: net force (0, 0.7, 0) eV/Å, of"
    assert place in output
    assert "say so with --external-field" in output
    others = f"3 more frames with a net force or torque: source {tmp_path / 'a.traj'}, frame 11-13"
    assert f"warning: {others}\n" in output
    checked = run("check", tmp_path / "system").stdout
    place = f"warning [net-force] system {tmp_path / 'system'}, set.000/force.npy, frame 1: net"
    assert place in checked
    assert "warning [net-torque]" in checked
    assert "say so with --external-field" in checked
    assert "2 more of this kind" in checked
    options = ["--external-field", "--overwrite"]
    assert not run("pack", tmp_path / "a.traj", "-o", tmp_path / "system", *options).stderr
    checked = run("check", "--external-field", tmp_path / "system").stdout
    assert "net-" not in checked


@pytest.mark.parametrize("natoms", [1, 2, 3, 30, 300])
def test_noise_is_no_net_force(tmp_path, natoms):
    """Random errors of 0.005 eV/Å, as of DFT grids, on forces that are as large or 200 times."""
    rng = np.random.default_rng(natoms)
    frames = []
    for size in (0.0, 1.0):
        for _ in range(20):
            r = rng.normal(size=(natoms, 3)) * natoms ** (1 / 3)
            pair = rng.integers(natoms, size=(3 * natoms, 2))
            forces = rng.normal(scale=0.005, size=(natoms, 3))
            for i, j in pair:  # central forces, whose torques cancel, too
                force = size * rng.normal() * (r[i] - r[j])
                forces[i] += force
                forces[j] -= force
            atoms = Atoms(["H"] * natoms, r)
            atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=forces)
            frames.append(atoms)
    assert pack(frames, tmp_path / "system").with_net == 0
