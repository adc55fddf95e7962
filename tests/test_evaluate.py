# SPDX-License-Identifier: LGPL-3.0-or-later
"""dp-mask test: its numbers, with models of the plugin and of the built-in."""

import csv
import json
import shutil
import sys

import frozen_models
import helpers
import jobs
import numpy as np
import pytest
from click.testing import CliRunner

from deepmd_mask.cli import main
from deepmd_mask.evaluation import Errors, Evaluation, evaluate, model_deviation
from deepmd_mask.evaluation.metrics import Place


def weighted(frames, force, weights):
    """Return the metrics of forces as sums over everything, straight from their definition."""
    w = np.repeat(weights.ravel(), 3)
    reference = frames.force.ravel()
    error = force.ravel() - reference
    mean = np.average(reference, weights=w)
    square = np.average(error**2, weights=w)
    return {
        "rmse": np.sqrt(square),
        "mae": np.average(np.abs(error), weights=w),
        "max": np.abs(error[w > 0]).max(),
        "r2": 1 - square / np.average((reference - mean) ** 2, weights=w),
    }


def assert_close(errors, expected, tolerance=1e-12):
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(errors, name), value, tolerance, 1e-12, err_msg=name)


@pytest.fixture(scope="module")
def unlike(trained, tmp_path_factory):
    """Two systems that differ in slots, sets and preferences; the last frame has one real atom."""
    folder = tmp_path_factory.mktemp("unlike ü")
    first = helpers.random_frames(seed=5, nframes=7)
    rng = np.random.default_rng(6)
    first = first._replace(preference=first.mask * rng.uniform(0, 2, size=first.mask.shape))
    second = helpers.random_frames(seed=7, slots=(3, 8, 2), nreal=[[2, 5, 1], [1, 0, 0]])
    systems = [
        helpers.write_system(folder / "a b", first, nsets=2),
        helpers.write_system(folder / "c", second),
    ]
    return (first, second), systems


def concatenated(trained, frames):
    """Return forces and atomic energies that the model gives, frame by frame."""
    results = [trained.evaluate(part) for part in frames]
    return [r["force"] for r in results], [r["atom_energy"][..., 0] for r in results]


def test_metrics_are_those_of_all_frames_at_once(trained, unlike):
    frames, systems = unlike
    forces, atomic = concatenated(trained, frames)
    result = evaluate(trained.model, systems)
    assert result.nframes == 9
    assert list(result.systems) == [str(system) for system in systems]
    for part, force, energies, errors in zip(
        frames, forces, atomic, result.systems.values(), strict=True
    ):
        assert_close(errors.force, weighted(part, force, part.mask))
        assert_close(errors.preferred, weighted(part, force, part.preference))
        natoms = part.mask.sum(axis=1)
        difference = ((energies * part.mask).sum(axis=1) - part.energy) / natoms
        assert_close(errors.energy, {"rmse": np.sqrt(np.mean(difference**2))}, 1e-9)

    def joined(arrays):
        return np.concatenate([array.reshape(-1, *array.shape[2:]) for array in arrays])

    everything = frames[0]._replace(force=joined([part.force for part in frames]))
    force, types = joined(forces), np.concatenate([np.tile(p.types, len(p.mask)) for p in frames])
    for key, weights in {"mask": "force", "preference": "preferred"}.items():
        w = joined([getattr(part, key) for part in frames])
        assert_close(getattr(result.overall, weights), weighted(everything, force, w))
        for kind, name in enumerate(helpers.TYPE_MAP):
            errors = getattr(result.elements[name], weights)
            assert_close(errors, weighted(everything, force, w * (types == kind)))


def test_energy_is_the_models_where_nothing_is_added_for_virtual_atoms(trained, unlike):
    frames, systems = unlike
    energy = trained.evaluate(frames[0])["energy"][:, 0]
    difference = np.abs(energy - frames[0].energy) / frames[0].mask.sum(axis=1)
    assert_close(
        evaluate(trained.model, systems[0]).overall.energy, {"max": difference.max()}, 1e-9
    )


def test_worst_names_the_atom(trained, unlike):
    frames, systems = unlike
    force = concatenated(trained, frames[:1])[0][0]
    worst = evaluate(trained.model, systems[0]).overall.force.worst
    error = np.abs(force - frames[0].force).max(axis=2) * frames[0].mask
    frame, atom = np.unravel_index(error.argmax(), error.shape)
    nfirst = 4  # frames of the first set
    place = Place(str(systems[0]), f"set.{frame // nfirst:03d}", frame % nfirst, atom)
    assert worst == place


def test_models_of_the_builtin(tmp_path):
    """Its energy has a constant for each virtual atom; its several frames crash dp test."""
    frames = helpers.random_frames(seed=3, nframes=4)
    system = helpers.write_system(tmp_path / "system", frames)
    # What takes time is to build graphs, net by net and layer by layer, the built-in's above all.
    few = {"neuron": [4, 8], "type_one_side": True}
    jdata = helpers.make_input([system], steps=3, descriptor=few)
    plugin = helpers.write_input(tmp_path / "plugin", jdata)
    builtin = helpers.write_input(tmp_path / "builtin", jdata)
    start = plugin / "start.pb"
    jobs.run([[plugin, "train", "input.json"], [plugin, "freeze", "-o", str(start)]])
    stop = helpers.make_input([system], steps=0, descriptor=few)
    helpers.write_input(builtin, stop)
    initial = ["--init-frz-model", start]
    train = [[builtin, "train", "input.json", *initial], [builtin, "freeze", "-o", "frozen.pb"]]
    helpers.run_jobs(train, tmp_path, builtin=True)
    frozen = builtin / "frozen.pb"
    energy = [
        jobs.evaluate(m, frames.coord, frames.types, frames.mask, batch=1)["energy"]
        for m in (start, frozen)
    ]
    assert np.abs(energy[1] - energy[0]).min() > 1e-3
    expected, found = (evaluate(model, system) for model in (start, frozen))
    for key in ("energy", "force", "preferred"):
        reference = getattr(expected.overall, key)
        values = {name: getattr(reference, name) for name in ("rmse", "mae", "max", "r2")}
        assert_close(getattr(found.overall, key), values, 1e-7)


def test_factor_between_displayed_and_masked_error(tmp_path):
    """docs/data.md, the displayed error: what dp train displays, times the factor."""
    frames = helpers.random_frames(seed=8, nframes=5)
    rng = np.random.default_rng(9)
    frames = frames._replace(preference=frames.mask * rng.uniform(size=frames.mask.shape))
    system = helpers.write_system(tmp_path / "system", frames)
    options = {"sel": (7, 5, 4), "descriptor": {"type_one_side": True}}
    jdata = helpers.make_input([system], [system], steps=4, **options)
    jdata["training"]["validation_data"] |= {"batch_size": len(frames.mask), "numb_btch": 1}
    helpers.write_input(tmp_path, jdata)
    jobs.run([[tmp_path, "train", "input.json"], [tmp_path, "freeze", "-o", "frozen.pb"]])
    header, *_, last = (tmp_path / "lcurve.out").read_text().strip().split("\n")
    rows = [line for line in (tmp_path / "lcurve.out").read_text().split("\n") if line[:1] != "#"]
    last = next(line for line in reversed(rows) if line)
    displayed = dict(zip(header.lstrip("# ").split(), last.split(), strict=True))
    assert int(displayed["step"]) == 4
    factor = np.sqrt(len(frames.mask) * 16 / frames.preference.sum())
    error = evaluate(tmp_path / "frozen.pb", system).overall.preferred.rmse
    assert factor > 1.2
    # lcurve.out has three digits.
    np.testing.assert_allclose(float(displayed["rmse_pf_val"]) * factor, error, rtol=6e-3)


def test_command_writes_text_json_table_and_figures(trained, unlike, tmp_path):
    frames, systems = unlike
    names = [str(system) for system in systems]
    start = ["test", "-m", str(trained.model), "-s", *names]
    files = {"csv": tmp_path / "frames ü.csv", "plot": tmp_path / "figure.png"}
    arguments = [*start, "--json", *(f"--{name}={path}" for name, path in files.items())]
    done = CliRunner(catch_exceptions=False).invoke(main, arguments)
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    overall = evaluate(trained.model, systems).overall
    assert summary["overall"] == json.loads(json.dumps(overall.as_dict()))
    assert files["plot"].read_bytes().startswith(b"\x89PNG")

    with open(files["csv"], newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["system"] for row in rows] == [names[0]] * 7 + [names[1]] * 2
    assert [int(row["real_atoms"]) for row in rows] == [
        n for part in frames for n in part.mask.sum(axis=1).astype(int)
    ]
    square = sum(float(r["preferred_rmse"] or 0) ** 2 * float(r["preference"]) for r in rows)
    weight = sum(float(r["preference"]) for r in rows)
    np.testing.assert_allclose(np.sqrt(square / weight), overall.preferred.rmse, rtol=1e-9)

    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1
    assert "frames ü.csv" in again.output
    pdf = tmp_path / "figure.pdf"
    done = CliRunner().invoke(main, [*start, f"--plot={pdf}"])
    assert done.exit_code == 0, done.output
    assert "force, preferred atoms" in done.output
    assert pdf.read_bytes().startswith(b"%PDF")
    assert not list(tmp_path.glob(".*"))


def test_labels_that_are_missing_are_left_out(trained, tmp_path):
    system = helpers.write_system(tmp_path / "system", trained.frames)
    for name in ("energy", "atom_pref"):
        (system / "set.000" / f"{name}.npy").unlink()
    result = evaluate(trained.model, system, csv_file=tmp_path / "t.csv", plot=tmp_path / "p.png")
    assert (result.overall.energy.count, result.overall.preferred.count) == (0, 0)
    assert result.overall.force.count == 3 * trained.frames.mask.sum()
    assert json.loads(result.as_json())["overall"]["energy"]["rmse"] is None
    (system / "set.000" / "force.npy").unlink()
    with pytest.raises(ValueError, match=r"system.*neither energy.npy nor force.npy"):
        evaluate(trained.model, system)


def test_types_without_names_are_warned_of(trained, unlike, tmp_path, caplog):
    """Types are then the model's own numbers, or other elements."""
    system = tmp_path / "nameless"
    shutil.copytree(unlike[1][0], system)
    names = (system / "type_map.raw").read_text()
    evaluate(trained.model, system)
    model_deviation([trained.model, trained.model], system)
    assert not caplog.records
    assert names.split() == helpers.TYPE_MAP
    (system / "type_map.raw").unlink()
    evaluate(trained.model, system)
    model_deviation([trained.model, trained.model], system)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert all(
        f"{system}" in text and "type_map.raw: is missing; types are" in text for text in told
    )


def test_what_is_refused(trained, tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        evaluate(trained.model, tmp_path / "nowhere")
    other = helpers.write_system(tmp_path / "other", trained.frames, ["C", "O", "FE"])
    with pytest.raises(ValueError, match=r"FE is not in the model's type_map"):
        evaluate(trained.model, other)
    bad = trained.frames._replace(coord=np.zeros_like(trained.frames.coord))
    with pytest.raises(
        ValueError, match=r"bad, set\.000/coord\.npy, frame 0, atom \d+: at the same point"
    ):
        evaluate(trained.model, helpers.write_system(tmp_path / "bad", bad))


def test_outputs_are_refused_before_the_evaluation(unlike, tmp_path):
    """Even before the model is read, which is none here."""
    model, systems = tmp_path / "none.pb", unlike[1]
    (tmp_path / "there.png").write_text("precious")
    for error, message, options in (
        (ValueError, r"figure x\.tex: the suffix must be one of", {"plot": "x.tex"}),
        (
            ValueError,
            "`csv_file` and `plot` are both a.png",
            {"plot": "a.png", "csv_file": "a.png"},
        ),
        (ValueError, "`model` and `csv_file` are both", {"csv_file": model, "overwrite": True}),
        (ValueError, "`systems` and `plot` are both", {"plot": systems[0], "overwrite": True}),
        (OSError, "file of a system", {"csv_file": systems[0] / "type.raw", "overwrite": True}),
        (ValueError, "table a.dat: the suffix must be .csv", {"csv_file": "a.dat"}),
        (OSError, "there.png exists", {"plot": tmp_path / "there.png"}),
        (OSError, "there.png exists", {"csv_file": tmp_path / "there.png"}),
        (OSError, "is a folder", {"csv_file": tmp_path, "overwrite": True}),
    ):
        with pytest.raises(error, match=message):
            evaluate(model, systems, **options)
    arguments = ["test", "-m", model, "-s", systems[0], "--csv", tmp_path / "there.png"]
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert "there.png exists; choose another name, or replace it with --overwrite" in done.output


def test_folder_that_cannot_be_written_is_refused_before_the_evaluation(
    trained, unlike, tmp_path, monkeypatch
):
    def too_late(*_):
        raise AssertionError

    monkeypatch.setattr(sys.modules["deepmd_mask.evaluation.predict"].Model, "predict", too_late)
    (tmp_path / "file").write_text("precious")
    for name, file in {"csv_file": "x.csv", "plot": "x.png"}.items():
        with pytest.raises(OSError, match="nothing was left"):
            evaluate(trained.model, unlike[1], **{name: tmp_path / "file" / file})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


BROKEN = {
    "truncated": lambda path, whole: path.write_bytes(whole[: len(whole) // 2]),
    "no graph": lambda path, whole: path.write_bytes(bytes(range(256)) * 9),
    "text": lambda path, whole: path.write_text("se_a_mask\n"),
    "empty": lambda path, whole: path.write_bytes(b""),
    "folder": lambda path, whole: path.mkdir(),
    "missing": lambda path, whole: None,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_model_that_is_broken(trained, unlike, tmp_path, kind):
    """All commands say so in the same line."""
    model = tmp_path / "model.pb"
    BROKEN[kind](model, trained.model.read_bytes())
    lines = set()
    for command in (
        ["test", "-m", model, "-s", unlike[1][0]],
        ["info", model],
        ["convert", model, "-o", tmp_path / "new.pb"],
    ):
        done = CliRunner().invoke(main, list(map(str, command)))
        assert done.exit_code == 1
        lines.add(done.output)
    (line,) = lines
    assert line.startswith("Error: ")
    assert line.count("\n") == 1
    assert str(model) in line
    assert "no such model" in line or "is not a frozen model" in line


def test_graph_that_is_no_whole_model(trained, unlike, tmp_path):
    model = frozen_models.edited(trained.model, tmp_path / "model.pb", drop=["o_force"])
    with pytest.raises(ValueError, match=r"model .*model\.pb cannot .* it lacks o_force"):
        evaluate(model, unlike[1])


def test_columns_of_the_table_stay_apart():
    """However far off a model is."""
    result = Evaluation("model.pb")
    result.overall.energy.add(
        np.array([[1.0], [1.01]]), np.array([[9.0], [9.0]]), np.ones(2), lambda i: Place("", "", i)
    )
    line = next(line for line in result.as_text().splitlines() if line.startswith("energy"))
    assert len(line.split()) == 4 + 5


@pytest.mark.parametrize("parts", [1, 3, 50])
def test_errors_do_not_depend_on_how_they_are_added(parts):
    rng = np.random.default_rng(parts)
    reference = 1e4 + rng.normal(size=(200, 3))  # a large mean, which must not spoil R²
    predicted = reference + 0.1 * rng.normal(size=reference.shape)
    weights = rng.integers(0, 3, size=200).astype(float)
    errors = Errors()
    for part in np.array_split(np.arange(200), parts):
        errors.add(
            reference[part], predicted[part], weights[part], lambda i, p=part: Place("", "", p[i])
        )
    w = weights[:, None] * np.ones(3)
    square = np.average((predicted - reference) ** 2, weights=w)
    spread = np.average((reference - np.average(reference, weights=w)) ** 2, weights=w)
    assert_close(errors, {"rmse": np.sqrt(square), "r2": 1 - square / spread}, 1e-8)
    assert errors.count == 3 * np.count_nonzero(weights)


def test_figure_of_many_points_is_thinned_evenly(monkeypatch):
    from deepmd_mask.evaluation import parity

    monkeypatch.setattr(parity, "SHOWN", 500)
    points = parity.Points()
    for first in range(0, 10_000, 100):
        values = np.arange(first, first + 100.0)[:, None]
        points.add(values, values, np.ones(100), np.zeros(100))
    kept, _, _ = points.kept
    assert points.seen == 10_000
    assert len(set(kept)) == 500
    assert abs(kept.mean() - 5000) < 5 * 10_000 / np.sqrt(12 * 500)
