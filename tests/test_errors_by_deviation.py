# SPDX-License-Identifier: LGPL-3.0-or-later
"""dp-mask test with several models: errors of their mean against how far they differ."""

import csv
import json

import helpers
import numpy as np
import pytest
from click.testing import CliRunner
from helpers import TYPE_MAP
from plain_models import random_nets, write_model

from deepmd_mask import Potential
from deepmd_mask.cli import main
from deepmd_mask.evaluation import ErrorsByDeviation, evaluate, model_deviation
from deepmd_mask.evaluation.errors_by_deviation import BOUNDS, Correlation

SHAPE = {"neuron": [6, 12], "M2": 4, "fitting_neuron": [12]}
NREAL = np.random.default_rng(0).integers(0, 4, size=(60, 3)) % [4, 4, 3]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("committee ü")


@pytest.fixture(scope="module")
def models(home):
    """Return paths of three models whose forces are some eV/Å."""
    found = []
    for k in range(3):
        nets = random_nets(3, seed=k, **SHAPE)
        last = (SHAPE["fitting_neuron"][-1], 1)
        nets["fitting_parameters"] = [
            1e3 * p if p.shape == last else p for p in nets["fitting_parameters"]
        ]
        found.append(str(write_model(home / f"{k}.pb", nets, TYPE_MAP)))
    return found


@pytest.fixture(scope="module")
def systems(home, models):
    """Return frames with preferences and without, labelled by another model, and their folders."""
    rng = np.random.default_rng(6)
    frames = [helpers.random_frames(seed=s, nreal=NREAL[s::2]) for s in range(2)]
    folders = []
    for s, one in enumerate(frames):
        wanted = Potential(models[0], "cpu").evaluate(one.types, one.coord, one.mask)
        preference = one.mask * rng.integers(0, 3, size=one.mask.shape)
        force = wanted.forces * rng.uniform(0.5, 1.5, size=wanted.forces.shape)
        frames[s] = one._replace(force=force, preference=preference, energy=wanted.energy)
        folders.append(helpers.write_system(home / f"system {s}", frames[s], nsets=2))
    for path in folders[1].glob("set.*/atom_pref.npy"):
        path.unlink()
    frames[1] = frames[1]._replace(preference=frames[1].mask)
    return frames, folders


@pytest.fixture(scope="module")
def of_frames(models, systems):
    """Return, straight from definitions, deviation, |ΔF| and weight of each atom, by frame."""
    found = []
    for frames in systems[0]:
        forces = np.array(
            [Potential(m, "cpu").evaluate(frames.types, frames.coord, frames.mask).forces
             for m in models]
        )  # fmt: skip
        mean = forces.mean(axis=0)
        deviation = np.sqrt(((forces - mean) ** 2).sum(axis=3).mean(axis=0))
        error = np.sqrt(((mean - frames.force) ** 2).sum(axis=2))
        found += zip(deviation, error, frames.preference, strict=True)
    return [(d[w > 0], e[w > 0], w[w > 0]) for d, e, w in found if w.any()]


def test_errors_below_and_above_bounds(models, systems, of_frames):
    result = evaluate(models, systems[1])
    rows = result.by_deviation.rows()
    largest = np.array([d.max() for d, _, _ in of_frames])
    assert len(rows) >= 3
    assert [row["bound"] for row in rows] == [
        b for b in BOUNDS if (largest <= b).any() and (largest > b).any()
    ]
    for row in rows:
        for side, chosen in (
            ("below", largest <= row["bound"]),
            ("above", largest > row["bound"]),
        ):
            some = [
                frame for frame, takes_part in zip(of_frames, chosen, strict=True) if takes_part
            ]
            _, error, w = (np.concatenate(arrays) for arrays in zip(*some, strict=True))
            rmse = np.sqrt(np.average(error**2, weights=w) / 3)
            assert row[f"frames_{side}"] == chosen.sum()
            assert row[f"rmse_{side}"] == pytest.approx(rmse, rel=1e-10)
            assert row[f"max_{side}"] == pytest.approx(error.max(), rel=1e-10)


def test_correlation_and_ratio(models, systems, of_frames):
    found = evaluate(models, systems[1]).by_deviation
    deviation, error, w = (np.concatenate(arrays) for arrays in zip(*of_frames, strict=True))
    cov = np.cov(deviation, error, aweights=w)
    assert found.of_atoms.r == pytest.approx(cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]), rel=1e-9)
    ratio = np.sqrt(np.average(error**2, weights=w) / np.average(deviation**2, weights=w))
    assert found.of_atoms.ratio == pytest.approx(ratio, rel=1e-10)
    pairs = [(d.max(), np.sqrt(np.average(e**2, weights=w) / 3)) for d, e, w in of_frames]
    assert found.of_frames.r == pytest.approx(np.corrcoef(*np.array(pairs).T)[0, 1], rel=1e-9)


def test_all_else_is_of_the_mean(models, systems):
    """Also where all models are one, which does not deviate from itself."""
    one, three = evaluate(models[0], systems[1]), evaluate([models[0]] * 3, systems[1])
    assert one.by_deviation is None
    for key in ("energy", "force", "preferred"):
        wanted = getattr(one.overall, key)
        assert getattr(three.overall, key).rmse == pytest.approx(wanted.rmse, rel=1e-12)
    assert three.by_deviation.of_atoms.ratio > 1e10
    assert np.isnan(evaluate([models[0]] * 2, systems[1]).by_deviation.of_atoms.r)
    assert three.by_deviation.rows() == []
    mean = evaluate(models, systems[1]).overall.force.rmse
    alone = [evaluate(model, systems[1]).overall.force.rmse for model in models]
    assert mean < np.sqrt(np.mean(np.square(alone)))


def test_sums_of_parts_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(5, size=300), rng.normal(size=300), rng.uniform(size=300)
    whole, parts = Correlation(), Correlation()
    whole.add(x, x + y, w)
    for k in range(0, 300, 50):
        parts.add(*(array[k : k + 50] for array in (x, x + y, w)))
    parts.add(x, y, 0 * w)
    assert parts.r == pytest.approx(whole.r, rel=1e-12)
    assert parts.ratio == pytest.approx(whole.ratio, rel=1e-12)
    nothing = ErrorsByDeviation()
    nothing.add(np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 3)))
    assert nothing.as_dict() == {
        "correlation_of_atoms": None,
        "correlation_of_frames": None,
        "error_to_deviation": None,
        "bounds": [],
    }


def test_command(models, systems, tmp_path):
    """Its table, JSON, figure, and rows of a CSV file, whose deviations are those of devi."""
    start = ["test", "-m", *models, "-s", *map(str, systems[1])]

    def run(*options):
        done = CliRunner().invoke(main, [*start, *map(str, options)])
        assert done.exit_code == 0, done.output
        return done.output

    text = run("--csv", tmp_path / "rows.csv", "--plot", tmp_path / "plot.png")
    assert "forces by max_devi_f of a frame" in text
    assert "correlation of error and deviation: " in text
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(run("--json"))["by_deviation"]
    assert found == evaluate(models, systems[1]).by_deviation.as_dict()
    with open(tmp_path / "rows.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    wanted = model_deviation(models, systems[1])
    for column in ("max_devi_f", "avg_devi_f", "devi_e", "preferred_max_devi_f"):
        values = [float(row[column] or "nan") for row in rows]
        np.testing.assert_allclose(values, wanted[column], rtol=1e-12, err_msg=column)


def test_a_model_that_gives_no_numbers_is_named(models, systems, home):
    nets = random_nets(3, seed=7, **SHAPE)
    nets["fitting_parameters"] = [
        np.inf * p if p.shape == (12, 1) else p for p in nets["fitting_parameters"]
    ]
    bad = str(write_model(home / "bad.pb", nets, TYPE_MAP))
    for given in ([models[0], bad, models[1]], [models[0], bad], [bad]):
        with pytest.raises(ValueError, match=r"frame \d+: model .*bad\.pb gives an energy or a f"):
            evaluate(given, systems[1])
