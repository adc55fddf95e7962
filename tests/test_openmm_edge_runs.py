# SPDX-License-Identifier: LGPL-3.0-or-later
"""Regions with a smooth edge in simulations of OpenMM: calibration, what is conserved, reports."""

import csv
import logging
from dataclasses import replace

import numpy as np
import openmm as mm
import pytest
from md import simulation, solvate
from openmm import unit
from regions import KJ, NM, evaluate, state
from smooth import (
    ABRUPT,
    MODEL,
    REGIONS,
    SMOOTH,
    TYPES,
    costs_of,
    force_of,
    frames_of,
    grouped,
    laid_out,
)

from deepmd_mask.openmm import RegionReporter
from deepmd_mask.openmm import edge as edges
from deepmd_mask.openmm.options import Options
from deepmd_mask.openmm.term import make_term


@pytest.fixture(scope="module")
def boxed():
    return solvate(26)


@pytest.fixture(scope="module")
def droplet():
    return solvate(26, periodic=False)


# ---- Calibration ---------------------------------------------------------------------------------


@pytest.mark.parametrize("system", ["boxed", "droplet"])
def test_calibration(system, request):
    """Of what residues in the buffer give, by differences of the energy, a straight line."""
    solvated = request.getfixturevalue(system)
    frames = frames_of(solvated)
    blank = replace(SMOOTH, reference=None, exclude=["ZN"], always=[], centres=[1])
    found = blank.calibrate(MODEL, solvated.topology, frames, **TYPES)
    assert list(found.reference) == ["CO"]
    alpha, _, least, most = found.reference["CO"]
    W, costs = costs_of(solvated, found, frames)
    assert len(W) > 50
    assert least == W.min() and most == W.max()
    assert abs(costs.mean()) < 1e-8 * abs(alpha)  # what is left of a straight line
    assert abs((costs * W).mean()) < 1e-8 * abs(alpha) * W.max()
    boxes = None if solvated.box is None else [solvated.box * NM] * len(frames)
    for others in ((frames * NM, solvated.box), (list(frames), boxes)):
        again = blank.calibrate(MODEL, solvated.topology, *others, **TYPES)
        assert again.reference == found.reference


@pytest.mark.parametrize(
    "change, frames, message",
    [
        (
            {"buffer": None, "reference": None},
            None,
            "a region with a smooth edge; it has no buffer",
        ),
        ({"atoms": [0, 1, 2]}, None, "a region with a smooth edge; fixed atoms do not enter"),
        ({"buffer": 1e-6}, None, "in 8 frames no residue is in the buffer, between radius"),
        ({}, [], "in 0 frames no residue is in the buffer"),
        ({}, 5, "frames is a int; give a list of positions"),
        ({}, [np.zeros((3, 3))], r"frame 0: positions must be finite, of the shape \(53, 3\)"),
    ],
)
def test_calibrations_that_cannot_be(droplet, change, frames, message):
    frames = frames_of(droplet) if frames is None else frames
    with pytest.raises(ValueError, match=message):
        replace(SMOOTH, **change).calibrate(MODEL, droplet.topology, frames, **TYPES)


def test_calibration_on_too_little(droplet):
    with pytest.raises(ValueError, match=r"too few or too alike to tell .* give more frames"):
        SMOOTH.calibrate(MODEL, droplet.topology, [droplet.positions] * 3, **TYPES)


def test_boxes_of_frames(boxed):
    with pytest.raises(ValueError, match="2 boxes for 8 frames; give one for each, or one"):
        SMOOTH.calibrate(MODEL, boxed.topology, frames_of(boxed), [boxed.box] * 2, **TYPES)


# ---- Simulations ---------------------------------------------------------------------------------


def test_serialised(boxed):
    force = grouped(force_of(boxed, REGIONS["two regions"]))
    started = boxed.simulation(force)
    wanted = state(started)
    xml = mm.XmlSerializer.serialize(started.system)
    again = state(simulation(boxed, mm.XmlSerializer.deserialize(xml)))
    assert again[0] == wanted[0]
    np.testing.assert_array_equal(again[1], wanted[1])
    # What knows no edges must not read one as abrupt, and can read what has none.
    options = Options(**TYPES)
    terms = (make_term(MODEL, boxed.topology, [region], options) for region in (SMOOTH, ABRUPT))
    assert [term.__getstate__()["layout"] for term in terms] == [2, 1]


def test_candidates(boxed):
    wanted = evaluate(boxed, force_of(boxed, SMOOTH))
    near = laid_out(boxed, replace(SMOOTH, radius=0.5)).members(boxed.positions, boxed.box)
    found = evaluate(boxed, force_of(boxed, SMOOTH, candidates=near.tolist()))
    assert found[0] == wanted[0]
    np.testing.assert_array_equal(found[1], wanted[1])


def drift(solvated, regions):
    """Return the slope of the total energy in kJ/mol/ps, and its range over the kinetic energy.

    In 300 steps of 0.5 fs.
    """
    running = solvated.simulation(force_of(solvated, regions))
    running.context.setVelocitiesToTemperature(200, 1)
    times, total, kinetic = [], [], []
    for _ in range(60):
        running.step(5)
        found = running.context.getState(getEnergy=True)
        times.append(found.getTime().value_in_unit(unit.picosecond))
        kinetic.append(found.getKineticEnergy().value_in_unit(KJ))
        total.append(found.getPotentialEnergy().value_in_unit(KJ) + kinetic[-1])
    return np.polyfit(times, total, 1)[0], np.ptp(total) / np.mean(kinetic)


def test_energy_is_conserved_while_residues_come_and_go(droplet, monkeypatch):
    """And is not by an abrupt edge, nor without the forces of the weights, which are large here."""
    region = replace(SMOOTH, reference={"CO": (0, 0)})
    smooth, spread = drift(droplet, region)
    abrupt, _ = drift(droplet, ABRUPT)
    monkeypatch.setattr(edges.Weights, "forces", lambda self, entering: iter(()))
    without, _ = drift(droplet, region)
    assert abs(smooth) < 10 and spread < 2e-3, (smooth, spread)
    assert abs(abrupt) > 100 and abs(without) > 100, (abrupt, without)


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_reporter(droplet, tmp_path, caplog):
    """Its numbers are those of a calibration; W beyond what was fitted is one warning."""
    frames = frames_of(droplet)
    region = SMOOTH.calibrate(MODEL, droplet.topology, frames, **TYPES)
    running = droplet.simulation(force_of(droplet, region))
    running.reporters.append(RegionReporter(tmp_path / "regions.csv", 1))
    with caplog.at_level(logging.WARNING, "deepmd.mask"):
        running.step(1)
    assert not [message for message in caplog.messages if "W of" in message]
    (row,) = rows(tmp_path / "regions.csv")
    now = running.context.getState(getPositions=True).getPositions(asNumpy=True)._value
    _, costs = costs_of(droplet, region, [now])
    assert float(row["cost"]) == pytest.approx(costs.mean(), abs=1e-3)
    assert float(row["spread"]) == pytest.approx(costs.std(), abs=1e-3)
    least, most = region.reference["CO"][2:]
    assert least < float(row["W"]) < most
    alpha, beta = region.reference["CO"][:2]
    few = replace(region, reference={"CO": (alpha, beta, 0.0, 1.0)})
    running = droplet.simulation(force_of(droplet, [few, ABRUPT]))
    running.reporters.append(RegionReporter(tmp_path / "others.csv", 1))
    with caplog.at_level(logging.WARNING, "deepmd.mask"):
        running.step(2)
    (message,) = (message for message in caplog.messages if "W of" in message)
    assert "W of CO is" in message and "fitted from 0.000 to 1.000; calibrate" in message
    assert [bool(row["W"]) for row in rows(tmp_path / "others.csv")] == [True, False] * 2


def test_reporter_of_several_kinds(droplet, tmp_path):
    """In the order of the alphabet; the ion is there always, so that nothing enters of its kind."""
    running = droplet.simulation(force_of(droplet, SMOOTH))
    running.reporters.append(RegionReporter(tmp_path / "regions.csv", 1))
    running.step(1)
    (row,) = rows(tmp_path / "regions.csv")
    of_molecules, of_ion = map(float, row["W"].split())
    assert of_molecules > 2 and of_ion == 1
    assert np.isnan(float(row["cost"].split()[1])) and np.isfinite(float(row["cost"].split()[0]))


def test_reporter_of_an_abrupt_region_is_what_it_was(droplet, tmp_path):
    path = tmp_path / "regions.csv"
    running = droplet.simulation(force_of(droplet, ABRUPT))
    running.reporters.append(RegionReporter(path, 1))
    running.step(1)
    assert path.read_text().splitlines()[0] == "step,region,atoms,energy,residues"
    smooth = droplet.simulation(force_of(droplet, SMOOTH))
    smooth.reporters.append(RegionReporter(path, 1, append=True))
    with pytest.raises(ValueError, match=r"regions.csv has the columns step, .* give another"):
        smooth.step(1)


def test_minimisation(droplet):
    """To where forces end, which an abrupt region does not let it come to."""
    region = SMOOTH.calibrate(MODEL, droplet.topology, frames_of(droplet), **TYPES)
    running = droplet.simulation(force_of(droplet, region))
    mm.LocalEnergyMinimizer.minimize(running.context, tolerance=1.0, maxIterations=2000)
    found = running.context.getState(getForces=True).getForces(asNumpy=True)._value
    assert np.sqrt(np.mean(found**2)) < 2
