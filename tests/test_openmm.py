# SPDX-License-Identifier: LGPL-3.0-or-later
"""The force on DP regions in OpenMM: what DeepPot gives, and what a simulation does with it."""

import csv
from dataclasses import replace
from itertools import pairwise

import helpers
import numpy as np
import openmm as mm
import pytest
from md import BOND, add_residue, simulation, solvate
from openmm import app, unit

from deepmd_mask.openmm import DPRegion, RegionReporter, dp_force
from deepmd_mask.openmm.force import DPTerm

EV = 96.48533212331002  # kJ/mol
NM, KJ = unit.nanometer, unit.kilojoule_per_mole
TYPE = {"C": 0, "O": 1, "Zn": 2}
FORCES = {"rtol": 0, "atol": 1e-8}  # kJ/mol/nm, of some 10^3
SITE = DPRegion(centres=[0], radius=0.45)


@pytest.fixture(scope="module")
def solvated():
    """Fill a box, 1.02 nm wide, with 26 molecules."""
    return solvate(26)


def state(simulation, **options):
    """Return energy, in kJ/mol, and forces, in kJ/mol/nm, of what is in force group 1."""
    found = simulation.context.getState(getEnergy=True, getForces=True, groups={1}, **options)
    forces = found.getForces(asNumpy=True).value_in_unit(KJ / NM)
    return found.getPotentialEnergy().value_in_unit(KJ), forces


def evaluate(solvated, force, positions=None, **options):
    """Return energy and forces of a force alone."""
    force.setForceGroup(1)
    simulation = solvated.simulation(force, **options)
    if positions is not None:
        simulation.context.setPositions(positions)
    return state(simulation)


def of_deeppot(trained, solvated, members, positions=None, unit_of_length=0.1):
    """Return what DeepPot gives for these atoms at their images near the ion, and no force else."""
    positions = solvated.positions if positions is None else positions
    r = positions[members] - positions[0]
    if solvated.box is not None:
        for k, (first, second) in enumerate(zip(members[1::2], members[2::2], strict=True), 1):
            assert second == first + 1  # a molecule
            both = r[2 * k - 1 : 2 * k + 1]
            lengths = solvated.box.diagonal()
            images = np.rint(both / lengths)
            nearest = np.linalg.norm(both - images * lengths, axis=1).argmin()
            both -= images[nearest] * lengths
            both[1 - nearest] -= np.rint((both[1 - nearest] - both[nearest]) / lengths) * lengths
    types = [TYPE[atom.element.symbol] for atom in solvated.topology.atoms()]
    energy, forces, _ = trained.potential.eval(
        r.reshape(1, -1) / unit_of_length,
        None,
        np.array(types)[members],
        aparam=np.ones((1, len(members))),
    )
    everywhere = np.zeros_like(positions)
    everywhere[members] = forces[0] * EV / unit_of_length
    return energy[0, 0] * EV, everywhere


def symbols_of(residue):
    return [atom.element.symbol for atom in residue.atoms()]


def members_of(solvated, radius, positions=None):
    """Return the atoms of molecules that are near the ion, atom 0."""
    positions = solvated.positions if positions is None else positions
    d = positions - positions[0]
    if solvated.box is not None:
        d -= np.rint(d / solvated.box.diagonal()) * solvated.box.diagonal()
    near = np.linalg.norm(d, axis=1) < radius
    residue = np.array([atom.residue.index for atom in solvated.topology.atoms()])
    return np.flatnonzero(np.isin(residue, residue[near]))


def assert_same(found, wanted):
    assert found[0] == pytest.approx(wanted[0], rel=1e-11)
    np.testing.assert_allclose(found[1], wanted[1], **FORCES)


# ---- Energy and forces ---------------------------------------------------------------------------


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("fixed", [True, False])
def test_equals_deeppot_on_the_members(trained, periodic, fixed):
    solvated = solvate(26, periodic=periodic)
    region = SITE.fix(solvated.topology, solvated.positions * NM) if fixed else SITE
    members = members_of(solvated, 0.45)
    assert 10 < len(members) < 50
    force = dp_force(trained.model, solvated.topology, region)
    assert force.usesPeriodicBoundaryConditions() == periodic
    assert len(force.getParticles()) == (len(members) if fixed else 0)
    found = evaluate(solvated, force)
    assert np.abs(found[1]).max() > 10
    assert_same(found, of_deeppot(trained, solvated, members))


def test_forces_are_the_slope_of_the_energy_while_members_stay(trained, solvated):
    force = dp_force(trained.model, solvated.topology, SITE)
    force.setForceGroup(1)
    simulation = solvated.simulation(force)
    _, forces = state(simulation)
    members, step = members_of(solvated, 0.45), 1e-5
    for atom in [*members[:5], *members[-2:]]:
        for axis in range(3):
            energies = []
            for sign in (1, -1):
                moved = solvated.positions.copy()
                moved[atom, axis] += sign * step
                np.testing.assert_array_equal(members_of(solvated, 0.45, moved), members)
                simulation.context.setPositions(moved)
                energies.append(state(simulation)[0])
            slope = (energies[0] - energies[1]) / (2 * step)
            assert forces[atom, axis] == pytest.approx(-slope, rel=1e-5, abs=1e-3)


def test_molecules_across_the_boundary_are_made_whole(trained, solvated):
    """Every atom in any image of its own: the same energy and forces."""
    force = dp_force(trained.model, solvated.topology, SITE)
    images = np.random.default_rng(0).integers(-2, 3, size=solvated.positions.shape)
    scattered = solvated.positions + images @ solvated.box
    wanted = of_deeppot(trained, solvated, members_of(solvated, 0.45))
    assert_same(evaluate(solvated, force, scattered), wanted)


def test_molecule_that_walks_in_and_out(trained, solvated):
    """Its oxygen is its nearest atom; the others are as far away as the box allows."""
    force = dp_force(trained.model, solvated.topology, SITE)
    force.setForceGroup(1)
    simulation = solvated.simulation(force)
    positions = solvated.positions.copy()
    positions[3:] = positions[0] + 0.5 * solvated.box.diagonal()
    seen = []
    for x in (0.46, 0.4501, 0.4499, 0.40, 0.4499, 0.4501, 0.46):
        positions[1] = positions[0] + [x, BOND, 0]
        positions[2] = positions[0] + [x, 0, 0]
        simulation.context.setPositions(positions)
        members = np.array([0, 1, 2] if x < 0.45 else [0])
        assert_same(state(simulation), of_deeppot(trained, solvated, members, positions))
        seen.append(len(members))
    assert seen == [1, 1, 3, 3, 3, 1, 1]


def test_several_regions_add_up(trained, solvated):
    other = DPRegion(centres=[21], radius=0.3, name="other")
    each = [
        evaluate(solvated, dp_force(trained.model, solvated.topology, region))
        for region in (SITE, other)
    ]
    both = dp_force(trained.model, solvated.topology, [SITE, other])
    wanted = each[0][0] + each[1][0], each[0][1] + each[1][1]
    assert_same(evaluate(solvated, both), wanted)


def test_forces_on_named_atoms_only(trained, solvated):
    energy, forces = of_deeppot(trained, solvated, members_of(solvated, 0.45))
    named = [0, 2, 40]
    region = replace(SITE, forces_on=named)
    found = evaluate(solvated, dp_force(trained.model, solvated.topology, region))
    forces[~np.isin(np.arange(len(forces)), named)] = 0
    assert_same(found, (energy, forces))


def test_scale_multiplies_energy_and_forces(trained, solvated):
    force = dp_force(trained.model, solvated.topology, SITE)
    force.setForceGroup(1)
    simulation = solvated.simulation(force)
    energy, forces = state(simulation)
    for scale in (0.5, 0.0, 1.0):
        simulation.context.setParameter("dp_scale", scale)
        assert_same(state(simulation), (scale * energy, scale * forces))


def test_derivative_by_a_parameter(trained, solvated):
    """PythonForce has none, but CustomCVForce has."""
    energy, forces = of_deeppot(trained, solvated, members_of(solvated, 0.45))
    force = mm.CustomCVForce("coupling^2*model")
    force.addCollectiveVariable("model", dp_force(trained.model, solvated.topology, SITE))
    force.addGlobalParameter("coupling", 0.3)
    force.addEnergyParameterDerivative("coupling")
    force.setForceGroup(1)
    simulation = solvated.simulation(force)
    assert_same(state(simulation), (0.09 * energy, 0.09 * forces))
    found = simulation.context.getState(getParameterDerivatives=True, groups={1})
    derivative = found.getEnergyParameterDerivatives()["coupling"]
    assert derivative == pytest.approx(0.6 * energy, rel=1e-11)


def test_units_of_the_model(trained, solvated):
    """As if it had been trained in units of 2 Å and of hartree."""
    region = DPRegion(centres=[0], radius=4.5 * unit.angstrom)
    force = dp_force(
        trained.model,
        solvated.topology,
        region,
        length_unit=2 * unit.angstrom,
        energy_unit=unit.hartree,
    )
    energy, forces = evaluate(solvated, force)
    members = members_of(solvated, 0.45)
    wanted = of_deeppot(trained, solvated, members, unit_of_length=0.2)
    hartree = 2625.4996394799 / EV
    assert energy == pytest.approx(wanted[0] * hartree, rel=1e-9)
    np.testing.assert_allclose(forces, wanted[1] * hartree, rtol=1e-9, atol=1e-8)
    per_mole = dp_force(
        trained.model, solvated.topology, region, energy_unit=unit.kilocalorie_per_mole
    )
    kcal, _ = evaluate(solvated, per_mole)
    wanted, _ = of_deeppot(trained, solvated, members)
    assert kcal == pytest.approx(wanted * 4.184 / EV, rel=1e-11)


def test_candidates_are_all_that_openmm_hands_over(trained, solvated):
    near = members_of(solvated, 0.47)
    assert len(near) < len(solvated.positions)
    force = dp_force(trained.model, solvated.topology, SITE, candidates=near[1::2].tolist())
    assert list(force.getParticles()) == near.tolist()
    wanted = of_deeppot(trained, solvated, members_of(solvated, 0.45))
    assert_same(evaluate(solvated, force), wanted)
    few = dp_force(trained.model, solvated.topology, SITE, candidates=near[1:5].tolist())
    members = np.intersect1d(members_of(solvated, 0.45), near[:5])
    wanted = of_deeppot(trained, solvated, members)
    assert_same(evaluate(solvated, few), wanted)


def with_sites(solvated, name="M", residues=None):
    """Return a topology with an atom without element more in residues, and where those are."""
    topology = app.Topology()
    for residue in solvated.topology.residues():
        atoms = add_residue(topology, residue.name, *symbols_of(residue))
        if residues is None or residue.index in residues:
            topology.addAtom(name, None, atoms[0].residue)
    return topology, np.array([atom.element is None for atom in topology.atoms()])


def test_fixed_members_need_not_be_candidates(trained, solvated):
    region = DPRegion([0], atoms=[0, 1, 2, 5, 6])
    wanted = evaluate(solvated, dp_force(trained.model, solvated.topology, region))
    few = dp_force(trained.model, solvated.topology, region, candidates=[0, 3])
    assert list(few.getParticles()) == region.atoms
    assert_same(evaluate(solvated, few), wanted)


def test_virtual_sites_are_left_out(trained):
    """Those of all molecules lie on the ion, which makes no molecule a member."""
    solvated = solvate(26, periodic=False)
    topology, sites = with_sites(solvated, residues=range(1, 27))
    positions = np.full((len(sites), 3), solvated.positions[0])
    positions[~sites] = solvated.positions
    system = mm.System()
    for site in sites:
        system.addParticle(0.0 if site else 1.0)
    for site in np.flatnonzero(sites).tolist():
        system.setVirtualSite(site, mm.TwoParticleAverageSite(0, site - 1, 1.0, 0.0))
    wanted = of_deeppot(trained, solvated, members_of(solvated, 0.45))
    for options in ({"system": system}, {"types": {"M": None}}):
        force = dp_force(trained.model, topology, SITE, **options)
        added = mm.XmlSerializer.clone(system)
        added.addForce(force)
        platform = mm.Platform.getPlatform("Reference")
        context = mm.Context(added, mm.VerletIntegrator(0.001), platform)
        context.setPositions(positions)
        found = context.getState(getEnergy=True, getForces=True)
        forces = found.getForces(asNumpy=True).value_in_unit(KJ / NM)
        assert_same((found.getPotentialEnergy().value_in_unit(KJ), forces[~sites]), wanted)
        assert not forces[sites].any()


# ---- Simulations ---------------------------------------------------------------------------------


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
def test_minimisation(trained, solvated, fixed):
    """As an adaptive region, of all atoms, which none leaves: the energy would jump there."""
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


@pytest.mark.parametrize("region", [DPRegion([0], atoms=range(20)), DPRegion([0], 0.4)])
def test_molecule_longer_than_half_the_box(trained, region):
    """As the same molecule without a box."""
    topology = app.Topology()
    residue = topology.addResidue("LIG", topology.addChain())
    carbon = app.Element.getBySymbol("C")
    atoms = [topology.addAtom(f"C{k}", carbon, residue) for k in range(20)]
    for first, second in pairwise(atoms):
        topology.addBond(first, second)
    positions = np.outer(np.arange(20), [0.15, 0, 0])
    found = []
    for box in (None, 4 * np.eye(3)):
        topology.setPeriodicBoxVectors(None if box is None else box * NM)
        force = dp_force(trained.model, topology, region)
        force.setForceGroup(1)
        system = mm.System()
        for _ in atoms:
            system.addParticle(12)
        if box is not None:
            system.setDefaultPeriodicBoxVectors(*box)
        system.addForce(force)
        running = app.Simulation(topology, system, mm.VerletIntegrator(0.001))
        running.context.setPositions(positions)
        found.append(state(running))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-10)
    np.testing.assert_allclose(found[1][1], found[0][1], **FORCES)


# ---- Bad input -----------------------------------------------------------------------------------


def test_more_atoms_than_sel_is_one_warning(trained, solvated, tmp_path):
    (tmp_path / "run.py").write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(helpers.TESTS)!r})\n"
        "from md import solvate\n"
        "from deepmd_mask.openmm import DPRegion, dp_force\n"
        "solvated = solvate(26)\n"
        f"force = dp_force({str(trained.model)!r}, solvated.topology, DPRegion([0], 0.5))\n"
        "solvated.simulation(force).step(5)\n"
        "print('done')\n"
    )
    output = helpers.run_python(["run.py"], tmp_path)
    assert "done" in output
    assert output.count("more than the 5 that sel bounds") == 1


def test_element_that_the_model_lacks(trained, solvated):
    """An error at once for who is a member for certain, and else when it becomes one."""
    topology = app.Topology()
    for residue in solvated.topology.residues():
        symbols = symbols_of(residue)
        add_residue(topology, residue.name, *(["C", "Fe"] if residue.index == 1 else symbols))
    message = r"atom 2, Fe of residue A:CO:2, is Fe, which is not in the model's type map, \["
    for region in (DPRegion([2], 0.1), replace(SITE, always=[1]), replace(SITE, atoms=[0, 2])):
        with pytest.raises(ValueError, match=message):
            dp_force(trained.model, topology, region)
    near = float(np.linalg.norm(solvated.positions[1:3] - solvated.positions[0], axis=1).min())
    plain = solvate(26, periodic=False)
    assert near < 0.45
    force = dp_force(trained.model, topology, SITE)
    with pytest.raises(mm.OpenMMException, match=message):
        plain.simulation(force).step(1)
    without = replace(SITE, exclude=["CO"])
    energy, _ = evaluate(plain, dp_force(trained.model, topology, without))
    assert energy == pytest.approx(of_deeppot(trained, plain, np.array([0]))[0], rel=1e-11)


def test_messages_count_the_atoms_of_the_system(trained, solvated):
    positions = solvated.positions.copy()
    positions[2] = positions[0]  # of types that the model has in another order
    simulation = solvated.simulation(dp_force(trained.model, solvated.topology, SITE))
    simulation.context.setPositions(positions)
    with pytest.raises(mm.OpenMMException, match="atom 0: at the same point as atom 2"):
        simulation.step(1)


def test_topology_of_another_system(trained, solvated):
    force = dp_force(trained.model, solvate(20).topology, SITE)
    with pytest.raises(mm.OpenMMException, match=r"system has 53 particles.* has 41 atoms"):
        solvated.simulation(force).step(1)


@pytest.mark.parametrize(
    "region, message",
    [
        (DPRegion([], 0.3), "needs at least one centre"),
        (DPRegion([0]), "the radius is None; it must be above 0"),
        (DPRegion([53], 0.3), "centres has the atom 53; the last one is 52"),
        (DPRegion([0], 0.3, always=[-1]), "always has the atom -1"),
        (DPRegion([0], 0.3, forces_on=[99]), "forces_on has the atom 99"),
        (DPRegion(0, 0.3), "centres takes a list of indices"),
        (DPRegion([0.7], 0.3), "centres takes a list of indices"),
        (
            DPRegion([0], 0.3, forces_on=np.arange(53) < 3),
            "forces_on takes a list .* np.flatnonzero",
        ),
        (DPRegion([0], 0.3, exclude="CO"), r"exclude takes a list, as in \[\"CO\"\]"),
        (DPRegion([0], atoms=[]), "`atoms` has no atom; None finds"),
        (DPRegion([0], atoms=[0, 1, 2], exclude=["CO"]), r"atoms has atom 1, C .* exclude keeps"),
        (DPRegion([0], 0.3, always=[4], exclude=["CO"]), r"always has atom 4, .* exclude keeps"),
        (DPRegion([0], 0.3, exclude=["ZN"]), r"centres has atom 0, Zn .* exclude keeps"),
        (DPRegion([0], "3.5"), r"radius is '3.5'; it must be above 0, a number in nm or a length"),
        (DPRegion([0], [0.3]), r"radius is \[0.3\]; it must be"),
        (DPRegion([0], np.nan), r"radius is nan; it must be"),
        (DPRegion([0], True), r"radius is True; it must be"),
        (DPRegion([0], -3 * unit.angstrom), r"radius is .*-3.*; it must be"),
        (DPRegion([0], 3 * unit.ev), r"radius is .*; it must be"),
        (DPRegion(["ZN"], 0.3), "centres takes a list of indices"),
        (DPRegion("0", 0.3), "centres takes a list of indices"),
        (DPRegion([[0, 1]], 0.3), "centres takes a list of indices"),
        (DPRegion([[0], [1, 2]], 0.3), "centres takes a list of indices"),
        (DPRegion([0], 0.3, exclude=[1]), r"exclude is \[1\]; it takes a list of names"),
        (DPRegion([0], 0.3, exclude=None), "exclude is None; it takes a list of names"),
        (DPRegion([0], 0.3, forces_on=[]), "forces_on has no atom; None lets all members"),
        (DPRegion([0], 0.3, forces_on="ZN"), r'forces_on takes a list, as in \["ZN"\]'),
        (DPRegion([0], 0.3, forces_on=["OH2"]), r'forces_on has atoms named "OH2", but the'),
        (DPRegion([0], 0.3, forces_on=["Zn", 1]), "forces_on is .*; it takes a list of names"),
        (DPRegion([0], 0.3, name=1), "name is 1; a region's name is a string"),
    ],
)
def test_region_that_does_not_fit(trained, solvated, region, message):
    with pytest.raises(ValueError, match=message):
        dp_force(trained.model, solvated.topology, region)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"regions": []}, "there is no region"),
        ({"regions": 3}, "dp_force: 3 is no region; give a DPRegion"),
        ({"regions": [SITE, [0]]}, r"dp_force: \[0\] is no region"),
        ({"topology": None}, "topology is a NoneType; give an openmm.app.Topology"),
        ({"topology": app.Topology()}, "topology has no atoms"),
        ({"model": None}, "the model is None; give the path"),
        ({"candidates": [-1]}, "candidates has the atom -1; the last one is 52"),
        ({"candidates": 5}, "candidates takes a list of indices"),
        ({"candidates": []}, "candidates has no atom; None is for all"),
        ({"periodic": "no"}, "periodic is 'no'; give True, False or None"),
        ({"scale": ""}, "scale is ''; it is the name of a global parameter"),
        ({"scale": 0.5}, "scale is 0.5; it is the name"),
        ({"length_unit": "angstrom"}, "length_unit is 'angstrom'; give a unit of OpenMM"),
        ({"length_unit": 0.1}, "length_unit is 0.1; give a unit"),
        ({"length_unit": unit.ev}, "length_unit is .*; give a unit"),
        ({"length_unit": -1 * unit.angstrom}, "length_unit is .*; give a unit"),
        ({"energy_unit": 27.2}, "energy_unit is 27.2; give a unit"),
        ({"energy_unit": unit.angstrom}, "energy_unit is .*; give a unit"),
        ({"energy_unit": 0 * unit.ev}, "energy_unit is .*; give a unit"),
        ({"system": 5}, "system is a int; give an openmm.System"),
    ],
)
def test_arguments_that_cannot_be_meant(trained, solvated, changes, message):
    given = {"model": trained.model, "topology": solvated.topology, "regions": SITE}
    with pytest.raises(ValueError, match=message):
        dp_force(**{**given, **changes})


def test_arguments_of_other_kinds_that_are_meant(trained, solvated):
    """Arrays, sets, generators, quantities and whole numbers of NumPy."""
    members = members_of(solvated, 0.45)
    regions = [
        DPRegion(np.array([0]), np.float32(0.45)),
        DPRegion({0}, 4.5 * unit.angstrom, exclude=(name for name in ("NA", "CL"))),
        DPRegion((k for k in [0]), 0.45, forces_on=(k for k in range(53))),
        DPRegion(range(1), 0.45, exclude={"NA"}, always=np.array([], int)),
        DPRegion([np.int64(0)], unit.Quantity(np.float64(0.45), unit.nanometer), forces_on={"Zn"}),
    ]
    for region in regions:
        cut = region.cut(solvated.topology, solvated.positions * unit.nanometer)
        assert cut.atoms.tolist() == members.tolist()
        dp_force(trained.model, solvated.topology, region)


def test_boxes_of_other_forms(solvated):
    wanted = SITE.cut(solvated.topology, solvated.positions)
    box = solvated.box
    skew = box + np.outer([0, 1, 0], 3 * box[0])  # the same lattice
    vectors = [mm.Vec3(*row) for row in box] * unit.nanometer
    for same in (box, 10 * box * unit.angstrom, skew, vectors, [v * unit.nanometer for v in box]):
        found = SITE.cut(solvated.topology, solvated.positions, same)
        np.testing.assert_allclose(found.coordinates, wanted.coordinates, atol=1e-12)
    listed = [mm.Vec3(*r) * unit.nanometer for r in solvated.positions]
    found = SITE.cut(solvated.topology, listed)
    np.testing.assert_allclose(found.coordinates, wanted.coordinates, atol=1e-12)
    for wrong, message in (
        ([2.0, 2.0, 2.0], r"box must be finite, of the shape \(3, 3\), not \(3,\)"),
        (box[::-1], "box must have the form"),
        (-box, "box must have the form"),
        (box * np.nan, "box must be finite"),
        ("2 2 2", "box must be lengths, or numbers in nm"),
        (box * unit.kelvin, "box must be lengths, or numbers in nm"),
    ):
        with pytest.raises(ValueError, match=f"DP region: {message}"):
            SITE.cut(solvated.topology, solvated.positions, wrong)


def test_positions_of_others(solvated):
    for wrong in (solvated.positions[:-1], np.full((53, 3), np.nan)):
        with pytest.raises(ValueError, match=r"positions must be finite, of the shape \(53, 3\)"):
            SITE.fix(solvated.topology, wrong)


@pytest.mark.parametrize("interval", [0, -1, 1.5, "5", None, np.nan])
def test_interval_of_no_steps(tmp_path, interval):
    with pytest.raises(ValueError, match=f"the interval is {interval!r}; give steps"):
        RegionReporter(tmp_path / "regions.csv", interval)


def test_radius_of_more_than_half_the_box(trained, solvated):
    force = dp_force(trained.model, solvated.topology, DPRegion([0], 11 * unit.angstrom))
    with pytest.raises(mm.OpenMMException, match=r"radius, 1.1, is larger than half of the box"):
        solvated.simulation(force).step(1)
