# SPDX-License-Identifier: LGPL-3.0-or-later
"""Committees in OpenMM: the force is the mean, and a reporter tells how far models differ."""

from dataclasses import replace

import ase.io
import numpy as np
import openmm as mm
import plain_committee
import pytest
from md import simulation, solvate
from openmm import unit
from openmmml import MLPotential
from plain_committee import SHAPE, TYPE_MAP, of_definition, rows_of
from plain_models import random_nets, write_model
from regions import SITE, evaluate, members_of
from smooth import SEEDS, SMOOTH, TYPES

from deepmd_mask import ForceDeviation
from deepmd_mask.learning import openmm as of_openmm
from deepmd_mask.openmm import DeviationError, FrameReporter, RegionReporter, dp_force
from deepmd_mask.openmm.terms import terms_of

WEIGHTED = [SEEDS / f"{name}-frozen.pb" for name in ("plain", "options")]  # of C and O
models, solvated = plain_committee.models, plain_committee.solvated


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


def test_a_serialised_system_has_all_models(models, solvated):
    """A term of one model stays what older versions can read."""
    forces = [dp_force(given, solvated.topology, SITE) for given in (models, models[0])]
    terms = [next(terms_of([force])) for force in forces]
    assert [term.layout for term in terms] == [3, 1]
    assert terms[0].model == tuple(map(str, models))
    assert terms[1].model == str(models[0])
    again = mm.XmlSerializer.clone(forces[0])
    np.testing.assert_array_equal(evaluate(solvated, again)[1], evaluate(solvated, forces[0])[1])


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
    with pytest.raises(ValueError, match=r"the model is \[.*, 3\]; give the path"):
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
    # One of a loop's systems: it need not have all elements of the loop's rule.
    for rule, file in {"element:ZN,FE": "some.csv", "element:FE": "none.csv"}.items():
        of_several = of_openmm._one_of_several(rule)
        running.reporters.append(RegionReporter(tmp_path / file, 2, preference=of_several))
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
    assert rows_of(tmp_path / "some.csv") == rows_of(by_rule)
    assert [row["preferred_max_devi_f"] for row in rows_of(tmp_path / "none.csv")] == ["", ""]
    assert of_openmm._one_of_several("names:OW") == "names:OW"  # only a system knows these


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


def test_models_that_give_no_numbers_stop_a_run(models, solvated, tmp_path):
    nets = random_nets(4, seed=9, **SHAPE)
    nets["fitting_parameters"] = [
        np.inf * p if p.shape[-1:] == (1,) else p for p in nets["fitting_parameters"]
    ]
    bad = write_model(tmp_path / "bad.pb", nets, TYPE_MAP)
    site = replace(SITE, forces_on=[1])
    running = solvated.simulation(dp_force([*models, bad], solvated.topology, site))
    running.context.setParameter("dp_scale", 0)
    running.reporters.append(RegionReporter(tmp_path / "region.csv", 1, stop_above=50))
    with pytest.raises(DeviationError, match="step 1, DP region: the models differ by nan"):
        running.step(1)
    (row,) = rows_of(tmp_path / "region.csv")
    assert row["preferred_max_devi_f"] == "nan"


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
