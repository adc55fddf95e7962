# SPDX-License-Identifier: LGPL-3.0-or-later
"""Committees in OpenMM: the force is the mean, and reporters tell how far models differ."""

import csv
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
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from click.testing import CliRunner
from md import simulation, solvate
from openmm import unit
from openmmml import MLPotential
from plain_models import random_nets, write_model
from regions import SITE, evaluate, members_of
from smooth import SEEDS, SMOOTH, TYPES

from deepmd_mask import ForceDeviation, Potential
from deepmd_mask.cli import main
from deepmd_mask.data import open_system
from deepmd_mask.evaluation import model_deviation
from deepmd_mask.openmm import DeviationError, DPRegion, FrameReporter, RegionReporter, dp_force
from deepmd_mask.shared.selection import farthest, fingerprint

TYPE_MAP = ["C", "O", "ZN", "H"]
ELEMENTS = ["C", "O", "Zn"]
SHAPE = {"neuron": [6, 12], "M2": 4, "fitting_neuron": [12]}
WEIGHTED = [SEEDS / f"{name}-frozen.pb" for name in ("plain", "options")]  # of C and O


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return paths of four models of one type map."""
    folder = tmp_path_factory.mktemp("models")
    nets = {f"{k}.pb": random_nets(4, seed=k, **SHAPE) for k in range(4)}
    # As large forces as water has, in eV/Å, so that models differ by much of them.
    for one in nets.values():
        one["fitting_parameters"] = [60 * p if p.shape[-1:] == (1,) else p
                                     for p in one["fitting_parameters"]]  # fmt: skip
    return [write_model(folder / name, one, TYPE_MAP) for name, one in nets.items()]


@pytest.fixture(scope="module")
def solvated():
    return solvate(30)


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def of_definition(models, solvated, atoms, positions):
    """Return the deviation of each atom of a region, from models that are evaluated alone."""
    types = [TYPE_MAP.index(a.element.symbol.upper()) for a in solvated.topology.atoms()]
    r = 10 * (positions[atoms] - positions[0])
    box = 10 * solvated.box.diagonal()
    first = atoms - (atoms > 0) * ((atoms - 1) % 2)  # of each molecule
    r_first = 10 * (positions[first] - positions[0])
    r -= np.rint(r_first / box) * box
    r -= np.rint((r - r_first + np.rint(r_first / box) * box) / box) * box
    forces = [Potential(m, "cpu").evaluate(np.array(types)[atoms], r).forces for m in models]
    return np.sqrt(((forces - np.mean(forces, axis=0)) ** 2).sum(axis=2).mean(axis=0))


# ---- The force -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["abrupt", "smooth", "two regions"])
def test_the_force_is_the_mean(models, solvated, kind):
    regions = {"smooth": SMOOTH, "two regions": [SITE, replace(SITE, centres=[9], name="two")]}
    given, options = (WEIGHTED, TYPES) if kind == "smooth" else (models, {})

    def of(model):
        region = regions.get(kind, SITE)
        return evaluate(solvated, dp_force(model, solvated.topology, region, **options))

    energy, forces = of(given)
    alone = [of(model) for model in given]
    assert energy == pytest.approx(np.mean([one[0] for one in alone]), rel=1e-12)
    np.testing.assert_allclose(forces, np.mean([one[1] for one in alone], axis=0), atol=1e-9)


def test_openmm_ml_and_calibration_take_committees(models, solvated):
    potential = MLPotential("deepmd-mask", modelPath=models)
    mixed = potential.createMixedSystem(solvated.topology, solvated.system, [0, 1, 2])
    reported = simulation(solvated, mixed)
    reported.step(1)
    rng = np.random.default_rng(3)
    shape = (8, *solvated.positions.shape)
    frames = solvated.positions + rng.normal(scale=0.02, size=shape)
    bare = replace(SMOOTH, reference=None)
    alpha = [
        bare.calibrate(given, solvated.topology, frames, **TYPES).reference["CO"].alpha
        for given in (WEIGHTED, *WEIGHTED)
    ]
    assert alpha[0] == pytest.approx(np.mean(alpha[1:]), rel=1e-9)


def test_files_are_named(models, solvated, tmp_path):
    with pytest.raises(ValueError, match="there is no model"):
        dp_force([], solvated.topology, SITE)
    with pytest.raises(ValueError, match="the model is a list with 3; give the path"):
        dp_force([models[0], 3], solvated.topology, SITE)
    other = write_model(tmp_path / "other.pb", random_nets(4, sel=9, **SHAPE), TYPE_MAP)
    with pytest.raises(ValueError, match=r"0\.pb and .*other\.pb have different sums of sel"):
        dp_force([models[0], other], solvated.topology, SITE)


# ---- Columns, and what stops a run ---------------------------------------------------------------


def test_columns_of_the_region_and_of_preferred_atoms(models, solvated, tmp_path):
    """Of the region, and of those that feel the force; a rule has the last word."""
    regions = [replace(SITE, forces_on=["O"]), replace(SITE, centres=[21], radius=0.3, name="two")]
    running = solvated.simulation(dp_force(models, solvated.topology, regions))
    by_rule = tmp_path / "rule.csv"
    running.reporters.append(RegionReporter(tmp_path / "region.csv", 2))
    running.reporters.append(RegionReporter(by_rule, 2, preference="element:ZN"))
    running.step(2)
    positions = running.context.getState(positions=True).getPositions(asNumpy=True)._value
    atoms = members_of(solvated, 0.45, positions)
    deviation = of_definition(models, solvated, atoms, positions)
    oxygen = atoms % 2 == 0
    oxygen[0] = False
    site, two = rows_of(tmp_path / "region.csv")
    assert deviation.max() > 1e-2
    for prefix, chosen in (("", atoms >= 0), ("preferred_", oxygen)):
        for name, value in ForceDeviation.of(deviation, chosen)._asdict().items():
            assert float(site[prefix + name]) == pytest.approx(value, abs=6e-7)
    assert two["preferred_max_devi_f"] == two["max_devi_f"]
    site, two = rows_of(by_rule)
    assert float(site["preferred_avg_devi_f"]) == pytest.approx(deviation[0], abs=6e-7)
    assert two["preferred_max_devi_f"] == ""  # zinc is no member


def test_columns_beside_those_of_a_smooth_edge(models, solvated, tmp_path):
    running = solvated.simulation(
        dp_force(WEIGHTED, solvated.topology, SMOOTH, **TYPES),
        dp_force(models[0], solvated.topology, SITE, scale="of_one"),
    )
    running.reporters.append(RegionReporter(tmp_path / "region.csv", 1))
    running.step(1)
    smooth, one = rows_of(tmp_path / "region.csv")
    assert float(smooth["max_devi_f"]) > float(smooth["avg_devi_f"]) > 0
    assert float(smooth["W"].split()[0]) > 1
    assert one["max_devi_f"] == ""


def test_a_run_stops_above_a_bound(models, solvated, tmp_path):
    def start():
        site = replace(SITE, name="the site")
        return solvated.simulation(dp_force(models, solvated.topology, site))

    running = start()
    running.reporters.append(FrameReporter(tmp_path / "frames.xyz", 3, deviation=(1e-3, None)))
    running.reporters.append(RegionReporter(tmp_path / "region.csv", 3, stop_above=1e-3))
    message = (
        r"^step 3, the site: the models differ by [\d.]+ eV/Å about the force on "
        r"atom (\d+), (\w+) of residue (A:\w+:\d+), and the run stops above 0.001"
    )
    with pytest.raises(DeviationError, match=message):
        running.step(9)
    (row,) = rows_of(tmp_path / "region.csv")
    frame = ase.io.read(tmp_path / "frames.xyz")
    worst = int(frame.arrays["index"][frame.arrays["deviation"].argmax()])
    assert frame.info["atom"].startswith(f"atom {worst}, ")
    assert float(row["max_devi_f"]) == pytest.approx(frame.arrays["deviation"].max(), abs=1e-6)
    running = start()
    running.reporters.append(RegionReporter(tmp_path / "region.csv", 3, stop_above=50))
    running.step(3)


def test_bad_arguments_of_reporters(models, solvated, tmp_path):
    file = tmp_path / "x"
    for make, message in (
        (lambda: RegionReporter(file, 1, stop_above=0), "stop_above is 0; give a bound in eV/Å"),
        (lambda: RegionReporter(file, 1, preference="array:x"), "a simulation has no arrays"),
        (lambda: RegionReporter(file, 1, preference="near"), 'preference` "near" is none of'),
        (lambda: FrameReporter(file, 1, preference=3), "FrameReporter: preference is 3"),
        (lambda: FrameReporter(file, 0), "FrameReporter: the interval is 0"),
        (lambda: FrameReporter(file, 1, most=0.5), "most is 0.5"),
        (lambda: FrameReporter(file, 1, deviation=0.3), "deviation is 0.3; give two bounds"),
        (lambda: FrameReporter(file, 1, deviation=(0.3, 0.1)), "give two bounds"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    for reporter, message in (
        (RegionReporter(file, 1, stop_above=1), "stop_above needs a committee"),
        (FrameReporter(file, 1, deviation=(1, None)), "deviation needs a committee"),
        (FrameReporter(file, 1, preference="element:FE"), "atoms of the element FE; there are non"),
        (FrameReporter(file, 1, preference="names:OW"), "atoms named OW; there are none"),
    ):
        running = solvated.simulation(dp_force(models[0], solvated.topology, SITE))
        running.reporters.append(reporter)
        with pytest.raises(ValueError, match=message):
            running.step(1)
    running = solvated.simulation()
    running.reporters.append(FrameReporter(file, 1))
    with pytest.raises(ValueError, match="no force of the system was made by dp_force"):
        running.step(1)


# ---- Frames --------------------------------------------------------------------------------------


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
    wanted = [2 * k + 2 for k, one in enumerate(deviations) if lower < one < upper]
    with caplog.at_level(logging.WARNING):
        run(FrameReporter(tmp_path / "frames.xyz", 2, deviation=(lower, upper)))
    frames = ase.io.read(tmp_path / "frames.xyz", ":")
    assert [frame.info["step"] for frame in frames] == wanted
    (record,) = caplog.records
    assert f"step {wanted[0]}, DP region: the models differ by" in record.getMessage()
    assert "of residue A:" in record.getMessage()


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
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    frames = ase.io.read(path, ":")
    assert [frame.info["step"] for frame in frames] == list(range(1, len(frames) + 1))
    assert {len(frame.arrays["index"]) for frame in frames} == {len(frames[0])}


def test_deviations_are_in_one_unit(models, solvated, tmp_path):
    """In eV/Å, whatever the model's: here 2 eV and 0.5 Å."""
    units = {"energy_unit": 2 * unit.ev, "length_unit": unit.angstrom / 2}
    running = solvated.simulation(dp_force(models, solvated.topology, SITE, **units))
    running.reporters.append(RegionReporter(tmp_path / "region.csv", 1))
    running.step(1)
    positions = running.context.getState(positions=True).getPositions(asNumpy=True)._value
    atoms = members_of(solvated, 0.45, positions)
    topology = solvate(30).topology
    topology.setPeriodicBoxVectors(2 * solvated.box * unit.nanometer)
    wanted = of_definition(models, solvated._replace(topology=topology), atoms, 2 * positions)
    (row,) = rows_of(tmp_path / "region.csv")
    assert float(row["max_devi_f"]) == pytest.approx(2 * wanted.max() / 0.5, rel=1e-4)
