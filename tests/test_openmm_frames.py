# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frames that a reporter keeps of a simulation in OpenMM."""

import logging
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import openmm as mm
import plain_committee
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from click.testing import CliRunner
from md import solvate
from plain_committee import of_definition, rows_of
from regions import SITE, members_of
from smooth import SEEDS, SMOOTH, TYPES

from deepmd_mask import ForceDeviation
from deepmd_mask.cli import main
from deepmd_mask.data import open_system
from deepmd_mask.evaluation import model_deviation
from deepmd_mask.learning import select
from deepmd_mask.openmm import DPRegion, FrameReporter, RegionReporter, dp_force
from deepmd_mask.shared.selection import farthest, fingerprint

ELEMENTS = ["C", "O", "Zn"]
WEIGHTED = [SEEDS / f"{name}-frozen.pb" for name in ("plain", "options")]  # of C and O
models, solvated = plain_committee.models, plain_committee.solvated


def with_charges(solvated, zinc=2.0):
    """Return the system with charges, and the site that holds them whole."""
    system = mm.XmlSerializer.clone(solvated.system)
    (force,) = [f for f in system.getForces() if isinstance(f, mm.NonbondedForce)]
    for atom in range(system.getNumParticles()):
        charge = zinc if atom == 0 else 0.2 * (-1) ** atom
        force.setParticleParameters(atom, charge, 0.28, 0.4)
    return solvated._replace(system=system)


def test_frames_are_whole_and_say_what_they_are(models, solvated, tmp_path):
    charged = with_charges(solvated)
    region = replace(SITE, radius=0.5, name="zinc site")
    running = charged.simulation(dp_force(models, solvated.topology, region))
    reporter = FrameReporter(tmp_path / "frames.xyz", 2, preference="within:3.6:ZN")
    running.reporters.append(reporter)
    running.step(4)
    first, frame = ase.io.read(tmp_path / "frames.xyz", ":")
    assert (first.info["step"], frame.info["step"]) == (2, 4)
    assert frame.info["time"] == pytest.approx(4 * 0.0005)
    assert (frame.info["region"], frame.info["charge"]) == ("zinc site", 2)
    positions = running.context.getState(positions=True).getPositions(asNumpy=True)._value
    index = frame.arrays["index"]
    np.testing.assert_array_equal(index, members_of(solvated, 0.5, positions))
    elements = [a.element.symbol for a in solvated.topology.atoms()]
    assert frame.get_chemical_symbols() == [elements[k] for k in index]
    bonds = np.linalg.norm(np.diff(frame.positions[1:], axis=0)[::2], axis=1)
    assert bonds.max() < 1.5  # no molecule is torn
    assert not frame.pbc.any()
    near = np.linalg.norm(frame.positions - frame.positions[0], axis=1) <= 3.6
    np.testing.assert_array_equal(frame.arrays["preference"], near)
    assert 1 < near.sum() < len(near)
    wanted = of_definition(models, solvated, index, positions)
    np.testing.assert_allclose(frame.arrays["deviation"], wanted, atol=1e-7)
    for name, value in ForceDeviation.of(wanted, near)._asdict().items():
        assert frame.info[f"preferred_{name}"] == pytest.approx(value, abs=1e-7)
    found = model_deviation(models, tmp_path / "frames.xyz")
    assert found["max_devi_f"][1] == pytest.approx(frame.info["max_devi_f"], abs=1e-7)
    half = with_charges(solvated, zinc=1.9)
    running = half.simulation(dp_force(models[0], solvated.topology, region))
    running.reporters.append(FrameReporter(tmp_path / "one.xyz", 1))
    running.step(1)
    frame = ase.io.read(tmp_path / "one.xyz")
    assert "charge" not in frame.info
    assert "deviation" not in frame.arrays
    assert (frame.arrays["preference"] == 1).all()


def test_at_a_smooth_edge_atoms_have_no_deviation(solvated, tmp_path):
    """It would be of residues that are there in part; what is labelled is whole."""
    running = solvated.simulation(dp_force(WEIGHTED, solvated.topology, SMOOTH, **TYPES))
    running.reporters.append(FrameReporter(tmp_path / "frames.xyz", 1))
    running.step(1)
    frame = ase.io.read(tmp_path / "frames.xyz")
    frame.symbols[frame.symbols == "Zn"] = "C"  # as TYPES has it
    (found,) = select.deviations([*map(str, WEIGHTED)], [frame], [np.ones(len(frame))])
    assert abs(found - frame.info["max_devi_f"]) > 0.01 * found


def test_frames_are_packed_when_they_are_labelled(models, solvated, tmp_path):
    running = solvated.simulation(dp_force(models, solvated.topology, SITE))
    running.reporters.append(
        FrameReporter(tmp_path / "frames.xyz", 1, preference="names:Zn,O", most=3)
    )
    running.step(3)
    frames = ase.io.read(tmp_path / "frames.xyz", ":")
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=1.0, forces=np.zeros((len(atoms), 3)))
    ase.io.write(tmp_path / "labelled.xyz", frames)
    arguments = ["pack", str(tmp_path / "labelled.xyz"), "-o", str(tmp_path / "system")]
    options = ["--type-map", "C,O,ZN", "--preference", "array:preference"]
    done = CliRunner().invoke(main, [*arguments, *options])
    assert done.exit_code == 0, done.output
    (chunk,) = open_system(tmp_path / "system").chunks()
    assert len(chunk.mask) == len(frames) == 3
    preferred = [frame.arrays["preference"].sum() for frame in frames]
    np.testing.assert_array_equal(chunk.preference.sum(axis=1), preferred)


def test_most_frames_and_those_that_differ(solvated, tmp_path):
    """No more than wanted, farther from each other than at even times; and one may go on."""
    region = replace(SITE, forces_on=[0])
    every, some = tmp_path / "every.xyz", tmp_path / "some.xyz"
    running = solvated.simulation()
    running.context.setVelocitiesToTemperature(300, 1)
    running.reporters.append(FrameReporter(every, 2, regions=region))
    running.reporters.append(FrameReporter(some, 2, regions=region, most=6))
    running.step(160)
    all_of_them, kept = (ase.io.read(path, ":") for path in (every, some))
    assert (len(all_of_them), len(kept)) == (80, 6)
    assert [frame.info["step"] for frame in kept] == sorted(frame.info["step"] for frame in kept)
    features = np.array(
        [
            fingerprint(atoms.symbols, atoms.positions, atoms.arrays["preference"], ELEMENTS)
            for atoms in all_of_them
        ]
    )

    def apart(rows):
        between = np.linalg.norm(features[rows][:, None] - features[rows], axis=2)
        return between[np.triu_indices(len(rows), 1)].min()

    rows = [frame.info["step"] // 2 - 1 for frame in kept]
    assert apart(rows) > 0.6 * apart(farthest(features, 6))
    assert apart(rows) > 2 * apart([*range(6)])
    again = solvated.simulation()
    again.reporters.append(FrameReporter(some, 1, regions=region, most=7, append=True))
    again.step(1)
    steps = [frame.info["step"] for frame in ase.io.read(some, ":")]
    assert sorted(steps) == sorted([1, *(frame.info["step"] for frame in kept)])
    again = solvated.simulation()  # its frame is there, so that none comes in
    again.reporters.append(FrameReporter(some, 1, regions=region, most=6, append=True))
    again.step(1)
    assert len(ase.io.read(some, ":")) == 6


def test_bounds_of_the_deviation(models, solvated, tmp_path, caplog):
    """Frames between them, with a message for the first of each region."""

    def run(reporter):
        running = solvated.simulation(dp_force(models, solvated.topology, SITE))
        running.context.setVelocitiesToTemperature(600, 1)
        running.reporters.append(reporter)
        running.step(40)

    run(RegionReporter(tmp_path / "region.csv", 2))
    deviations = [float(row["preferred_max_devi_f"]) for row in rows_of(tmp_path / "region.csv")]
    lower, upper = np.quantile(deviations, [0.25, 0.75])
    wanted = [2 * k + 2 for k, one in enumerate(deviations) if lower <= one < upper]
    with caplog.at_level(logging.WARNING):
        run(FrameReporter(tmp_path / "frames.xyz", 2, deviation=(lower, upper)))
    frames = ase.io.read(tmp_path / "frames.xyz", ":")
    assert [frame.info["step"] for frame in frames] == wanted
    (record,) = caplog.records
    assert f"step {wanted[0]}, DP region: the models differ by" in record.getMessage()
    assert "of residue A:" in record.getMessage()
    run(FrameReporter(tmp_path / "frames.xyz", 2, deviation=(2 * max(deviations), None)))
    assert not (tmp_path / "frames.xyz").exists()  # nothing stays of the run before


def test_link_atoms_are_in_frames(models, tmp_path):
    """Where a bond is cut there is hydrogen, which is no atom of the system."""
    solvated = solvate(12, periodic=False)
    region = DPRegion([0], 0.5, whole_residues=False, exclude=[], link_atoms={"C": 0.1, "O": 0.1})
    region = replace(region, atoms=[0, 1, 2, 3])  # of the third molecule only C
    running = solvated.simulation(dp_force(models, solvated.topology, region))
    running.reporters.append(FrameReporter(tmp_path / "frames.xyz", 1))
    running.step(1)
    frame = ase.io.read(tmp_path / "frames.xyz")
    assert frame.get_chemical_symbols() == ["Zn", "C", "O", "C", "H"]
    assert frame.arrays["index"].tolist() == [0, 1, 2, 3, -1]
    assert frame.arrays["preference"].tolist() == [1, 1, 1, 1, 0]
    assert np.linalg.norm(frame.positions[4] - frame.positions[3]) == pytest.approx(1.0, abs=1e-6)


def test_frames_without_a_model(solvated, tmp_path):
    """To begin with: sampled by the force field alone."""
    running = solvated.simulation()
    regions = [SITE, replace(SITE, centres=[9], name="other")]
    running.reporters.append(FrameReporter(tmp_path / "frames.xyz", 2, regions=regions))
    running.step(2)
    frames = ase.io.read(tmp_path / "frames.xyz", ":")
    assert [frame.info["region"] for frame in frames] == ["DP region", "other"]
    positions = running.context.getState(positions=True).getPositions(asNumpy=True)._value
    wanted = members_of(solvated, 0.45, positions)
    np.testing.assert_array_equal(frames[0].arrays["index"], wanted)


def test_regions_that_are_none(tmp_path):
    for regions, message in (([], "there is no region"), ([0], "FrameReporter: 0 is no region")):
        with pytest.raises(ValueError, match=message):
            FrameReporter(tmp_path / "frames.xyz", 1, regions=regions)


def test_the_file_is_whole_whenever_a_run_is_killed(solvated, tmp_path):
    script = (
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from md import solvate\n"
        "from deepmd_mask.openmm import DPRegion, FrameReporter\n"
        "running = solvate(30).simulation()\n"
        "region = DPRegion([0], 0.6)\n"
        "running.reporters.append(FrameReporter('frames.xyz', 1, regions=region, most=400))\n"
        "running.step(10 ** 6)\n"
    )
    path = tmp_path / "frames.xyz"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path)
    try:
        end = time.monotonic() + 60
        while not (path.is_file() and path.stat().st_size > 10**4):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    frames = ase.io.read(path, ":")
    assert [frame.info["step"] for frame in frames] == list(range(1, len(frames) + 1))
    assert {len(frame.arrays["index"]) for frame in frames} == {len(frames[0])}
