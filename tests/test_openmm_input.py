# SPDX-License-Identifier: LGPL-3.0-or-later
"""Regions, arguments, boxes and systems that dp_force refuses, and those that it takes."""

import inspect
from dataclasses import replace

import helpers
import numpy as np
import openmm as mm
import pytest
from md import add_residue, solvate
from openmm import app, unit
from regions import (
    SITE,
    evaluate,
    members_of,
    of_deeppot,
    symbols_of,
)

from deepmd_mask.openmm import DPRegion, RegionReporter, dp_force


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


def test_options_are_known_by_name(trained, solvated):
    """To `help`, and to who misspells one."""
    shown = inspect.signature(dp_force).parameters
    assert [*shown][:5] == ["model", "topology", "regions", "candidates", "periodic"]
    assert shown["scale"].default == "dp_scale"
    with pytest.raises(TypeError, match="dp_force has no option 'devise', only candidates, peri"):
        dp_force(trained.model, solvated.topology, SITE, devise="cpu")


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
