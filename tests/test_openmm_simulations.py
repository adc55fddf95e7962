# SPDX-License-Identifier: LGPL-3.0-or-later
"""Simulations with the force on DP regions: what they conserve, write and take up again."""

import csv
from dataclasses import replace

import helpers
import numpy as np
import openmm as mm
import pytest
from md import add_residue, simulation, solvate
from regions import (
    KJ,
    NM,
    SITE,
    assert_same,
    evaluate,
    members_of,
    of_deeppot,
    state,
    symbols_of,
)

from deepmd_mask.openmm import DPRegion, RegionReporter, dp_force
from deepmd_mask.openmm.force import DPTerm


def test_energy_is_conserved_in_a_fixed_region(trained):
    """3 ps in steps of 0.5 fs; the drift is the slope of a line through the total energy."""
    solvated = solvate(5, periodic=False)
    region = replace(SITE, radius=2.0).fix(solvated.topology, solvated.positions)
    simulation = solvated.simulation(dp_force(trained.model, solvated.topology, region))
    simulation.minimizeEnergy()
    simulation.context.setVelocitiesToTemperature(300, 1)
    simulation.step(500)
    total, kinetic = [], []
    for _ in range(300):
        simulation.step(20)
        found = simulation.context.getState(getEnergy=True)
        kinetic.append(found.getKineticEnergy().value_in_unit(KJ))
        total.append(found.getPotentialEnergy().value_in_unit(KJ) + kinetic[-1])
    slope, _ = np.polyfit(np.linspace(0, 1, len(total)), total, 1)
    assert np.mean(kinetic) > 10
    assert abs(slope) < 1e-3 * np.mean(kinetic)
    assert np.std(total) < 1e-2 * np.mean(kinetic)


@pytest.mark.parametrize("fixed", [True, False])
def test_minimisation(trained, fixed):
    """As an adaptive region, of all atoms, which none leaves: the energy would jump there.

    Without a box, which molecules would grow out of, as the model is no physics.
    """
    solvated = solvate(26, periodic=False)
    region = replace(SITE, radius=0.75)
    if fixed:
        region = SITE.fix(solvated.topology, solvated.positions)
    simulation = solvated.simulation(dp_force(trained.model, solvated.topology, region))

    def look():
        found = simulation.context.getState(getEnergy=True, getForces=True)
        force = found.getForces(asNumpy=True).value_in_unit(KJ / NM)
        return found.getPotentialEnergy().value_in_unit(KJ), np.sqrt(np.mean(force**2))

    before = look()
    mm.LocalEnergyMinimizer.minimize(simulation.context, tolerance=1.0)
    after = look()
    assert after[0] < before[0] - 10
    if fixed:
        assert after[1] < 2


def test_barostat(trained, solvated):
    """The box changes; the energy is that of the members in the box that there is."""
    force = dp_force(trained.model, solvated.topology, replace(SITE, radius=0.4))
    force.setForceGroup(1)
    integrator = mm.LangevinMiddleIntegrator(300, 5, 0.0005)
    integrator.setRandomNumberSeed(1)
    barostat = mm.MonteCarloBarostat(1.0, 300, 3)
    barostat.setRandomNumberSeed(1)
    simulation = solvated.simulation(force, barostat, integrator=integrator)
    simulation.step(120)
    found = simulation.context.getState(getPositions=True)
    box = found.getPeriodicBoxVectors()
    assert box[0][0].value_in_unit(NM) != pytest.approx(solvated.box[0, 0], rel=1e-4)
    positions = found.getPositions(asNumpy=True).value_in_unit(NM)
    topology = mm.app.Topology()
    for residue in solvated.topology.residues():
        add_residue(topology, residue.name, *symbols_of(residue))
    topology.setPeriodicBoxVectors(box)
    now = solvated._replace(topology=topology, positions=positions)
    assert_same(state(simulation), of_deeppot(trained, now, members_of(now, 0.4)))


def test_checkpoint_and_restart(trained, solvated, tmp_path):
    """The same bits as without a break, also in another Context."""

    def start():
        integrator = mm.LangevinMiddleIntegrator(300, 5, 0.0005)
        integrator.setRandomNumberSeed(7)
        force = dp_force(trained.model, solvated.topology, SITE)
        return solvated.simulation(force, integrator=integrator)

    def coordinates(simulation):
        return simulation.context.getState(getPositions=True).getPositions(asNumpy=True)._value

    first = start()
    first.step(20)
    first.saveCheckpoint(str(tmp_path / "checkpoint"))
    first.step(20)
    second = start()
    second.loadCheckpoint(str(tmp_path / "checkpoint"))
    second.step(20)
    assert second.currentStep == 40
    np.testing.assert_array_equal(coordinates(second), coordinates(first))


def test_serialised_system_in_a_new_process(trained, solvated, tmp_path):
    """It holds all but the model, whose file must still be there."""
    regions = [SITE, DPRegion(centres=[21], radius=0.3, forces_on=[21])]
    force = dp_force(trained.model, solvated.topology, regions, scale="coupling")
    force.setForceGroup(1)
    started = solvated.simulation(force)
    energy, forces = state(started)
    (tmp_path / "system.xml").write_text(mm.XmlSerializer.serialize(started.system))
    np.save(tmp_path / "positions.npy", solvated.positions)
    (tmp_path / "again.py").write_text(
        "import numpy as np, openmm as mm\n"
        "system = mm.XmlSerializer.deserialize(open('system.xml').read())\n"
        "platform = mm.Platform.getPlatform('Reference')\n"
        "context = mm.Context(system, mm.VerletIntegrator(0.001), platform)\n"
        "context.setPositions(np.load('positions.npy'))\n"
        "context.setParameter('coupling', 0.5)\n"
        "state = context.getState(getEnergy=True, getForces=True, groups={1})\n"
        "np.savez('found', energy=state.getPotentialEnergy()._value,\n"
        "         forces=state.getForces(asNumpy=True)._value)\n"
    )
    helpers.run_python(["again.py"], tmp_path)
    with np.load(tmp_path / "found.npz") as found:
        assert_same((found["energy"], found["forces"]), (energy / 2, forces / 2))


def test_serialised_system_whose_model_is_gone(trained, solvated, tmp_path):
    model = tmp_path / "model.pb"
    model.write_bytes(trained.model.read_bytes())
    started = solvated.simulation(dp_force(model, solvated.topology, SITE))
    model.unlink()
    started.step(1)
    xml = mm.XmlSerializer.serialize(started.system)
    again = simulation(solvated, mm.XmlSerializer.deserialize(xml))
    with pytest.raises(mm.OpenMMException, match=rf"No such file.*{model}"):
        again.step(1)


def test_force_of_another_version(trained, solvated, monkeypatch):
    """A System that was serialised when a DPTerm was something else, without a number for it."""
    with monkeypatch.context() as patch:
        patch.setattr(DPTerm, "__getstate__", lambda term: {"model": term.model, "scale": "dp"})
        force = dp_force(trained.model, solvated.topology, SITE)
        xml = mm.XmlSerializer.serialize(force)
    for _ in range(2):  # the number stays
        again = mm.XmlSerializer.deserialize(xml)
        message = "this DPForce was serialised by another version of deepmd-mask; make it anew with"
        with pytest.raises(mm.OpenMMException, match=message):
            evaluate(solvated, again)
        xml = mm.XmlSerializer.serialize(again)


def test_path_of_a_model_that_is_a_loop(solvated, tmp_path):
    (tmp_path / "model.pb").symlink_to(tmp_path / "model.pb")
    with pytest.raises(OSError, match=r"symbolic links.*model\.pb"):
        dp_force(tmp_path / "model.pb", solvated.topology, SITE)


def test_model_file_that_has_changed_is_another_model(trained, solvated, tmp_path):
    model = tmp_path / "model.pb"
    model.write_bytes(trained.model.read_bytes())
    evaluate(solvated, dp_force(model, solvated.topology, SITE))
    model.write_bytes(b"no model")
    with pytest.raises(ValueError, match="is not a frozen model"):
        dp_force(model, solvated.topology, SITE)


# ---- The reporter --------------------------------------------------------------------------------


def read_report(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_reporter(trained, solvated, tmp_path):
    """Its lines are of the positions at the time of the report, whatever the scale."""
    regions = [replace(SITE, name="site"), DPRegion(centres=[21], radius=0.3, name="other")]
    simulation = solvated.simulation(dp_force(trained.model, solvated.topology, regions))
    simulation.context.setParameter("dp_scale", 0.25)
    simulation.reporters.append(RegionReporter(tmp_path / "regions.csv", 4))
    simulation.step(8)
    report = read_report(tmp_path / "regions.csv")
    assert [(row["step"], row["region"]) for row in report] == [
        ("4", "site"), ("4", "other"), ("8", "site"), ("8", "other"),
    ]  # fmt: skip
    found = simulation.context.getState(getPositions=True)
    positions = found.getPositions(asNumpy=True).value_in_unit(NM)
    members = members_of(solvated, 0.45, positions)
    energy, _ = of_deeppot(trained, solvated, members, positions)
    assert int(report[2]["atoms"]) == len(members)
    assert float(report[2]["energy"]) == pytest.approx(energy, rel=0, abs=1e-4)
    names = report[2]["residues"].split()
    assert names[0] == "A:ZN:1"
    assert len(names) == 1 + (len(members) - 1) // 2


def test_reporter_goes_on_with_a_file_and_a_serialised_system(trained, solvated, tmp_path):
    started = solvated.simulation(dp_force(trained.model, solvated.topology, SITE))
    again = simulation(
        solvated, mm.XmlSerializer.deserialize(mm.XmlSerializer.serialize(started.system))
    )
    for each in (started, again):
        each.reporters.append(RegionReporter(tmp_path / "regions.csv", 2, append=True))
        each.step(2)
    first, second = read_report(tmp_path / "regions.csv")
    assert first == second


def test_reporter_without_a_force_to_report_on(solvated, tmp_path):
    simulation = solvated.simulation(mm.PythonForce(_nothing))
    simulation.reporters.append(RegionReporter(tmp_path / "regions.csv", 1))
    with pytest.raises(ValueError, match="no force of the system was made by dp_force"):
        simulation.step(1)


def _nothing(state):
    return 0.0, np.zeros((state._getNumParticles(), 3))
