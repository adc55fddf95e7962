# SPDX-License-Identifier: LGPL-3.0-or-later
"""Model deviations and errors of real atoms: dp-mask devi, dp model-devi and dp test.

The same frames in more slots give the same numbers.
"""

import csv
import json
import re

import ase.io
import committee
import frozen_models
import helpers
import jobs
import numpy as np
import pytest
from click.testing import CliRunner
from committee import NREAL, assert_rows, widened
from deepmd.calculator import DP
from deepmd.infer import DeepPot, model_devi
from helpers import TYPE_MAP

from deepmd_mask import ForceDeviation, Potential
from deepmd_mask.cli import main
from deepmd_mask.evaluation import evaluate, model_deviation

frames, home = committee.frames, committee.home
models, wanted = committee.models, committee.wanted


@pytest.mark.parametrize("system", ["narrow", "wide"])
def test_deviations_are_those_of_the_definition(home, models, wanted, system):
    found = model_deviation(models, home / system)
    assert_rows(found, wanted)
    place = found.place(5)
    assert place.system == str(home / system)
    of_set = {"narrow": ("set.001", 1), "wide": ("set.000", 5)}
    assert (place.set_name, place.frame) == of_set[system]


@pytest.mark.parametrize("system", ["narrow", "wide"])
def test_dp_model_devi_is_of_real_atoms(home, models, wanted, frames, system):
    output = home / f"{system}.out"
    options = ["-m", *map(str, models), "-s", system, "-o", str(output), "--atomic", "-f", "10"]
    jobs.run([[home, "model-devi", *options]])
    table = np.loadtxt(output)
    np.testing.assert_array_equal(table[:, 0], 10 * np.arange(len(wanted)))
    for column, name in ((4, "max_devi_f"), (5, "min_devi_f"), (6, "avg_devi_f"), (7, "devi_e")):
        values = [row.get(name, 0) for row in wanted]
        np.testing.assert_allclose(table[:, column], values, rtol=0, atol=1e-6)
    some = frames if system == "narrow" else widened(frames, (20, 16, 8))
    mask = some.mask
    # A committee of this package has the same numbers, of each atom and over them.
    found = Potential(models, "cpu").evaluate(some.types, some.coord, mask)
    np.testing.assert_allclose(found.deviation, table[:, 8:], rtol=0, atol=1e-6)
    over_atoms = ForceDeviation.of(found.deviation, mask)
    has_atoms = mask.any(axis=1)
    for column, values in zip((4, 5, 6), over_atoms, strict=True):
        np.testing.assert_allclose(values[has_atoms], table[has_atoms, column], atol=1e-6)
    assert table.shape[1] == 8 + mask.shape[1]
    # A lone atom feels no force.
    np.testing.assert_array_equal(table[:, 8:] > 0, mask * (mask.sum(axis=1) > 1)[:, None])


def test_where_all_slots_are_real_numbers_are_those_of_deepmd_kit(models, trained):
    """Also errors in the place of deviations, and relative ones."""
    original = model_devi.calc_model_devi.__wrapped__
    frames = helpers.random_frames(seed=9, nreal=[[5, 4, 2]] * 3)
    potentials = [DeepPot(str(model)) for model in models]
    rng = np.random.default_rng(3)
    labels = {
        "energy": rng.normal(size=(3, 1)),
        "force": rng.normal(size=frames.coord.shape),
        "virial": rng.normal(size=(3, 9)),
    }
    arguments = (frames.coord.reshape(3, -1), None, frames.types, potentials)
    for options in ({}, {"real_data": labels, "atomic": True}, {"relative": 0.5, "frequency": 7}):
        whole = original(*arguments, aparam=frames.mask, **options)
        found = model_devi.calc_model_devi(*arguments, aparam=frames.mask, **options)
        np.testing.assert_allclose(found, whole, rtol=1e-9, atol=1e-12)
        one = model_devi.calc_model_devi(*arguments, aparam=[1.0], **options)
        np.testing.assert_array_equal(one, found)


def test_real_errors_do_not_depend_on_slots(home, models, frames):
    arguments = ["-m", *map(str, models), "--real_error", "-s"]
    for system in ("narrow", "wide"):
        options = [*arguments, system, "-o", f"error_{system}"]
        jobs.run([[home, "model-devi", *options]])
    narrow, wide = (np.loadtxt(home / f"error_{system}") for system in ("narrow", "wide"))
    np.testing.assert_allclose(wide, narrow, rtol=1e-6)
    found = np.stack([frozen_models.evaluate(model, frames)["force"][0] for model in models])
    square = ((found - frames.force[0]) ** 2).sum(axis=2).mean(axis=0)[frames.mask[0] == 1]
    np.testing.assert_allclose(narrow[0, 4], np.sqrt(square.max()), rtol=1e-6)


@pytest.mark.parametrize("system", ["narrow", "wide"])
def test_dp_test_is_of_real_atoms(home, trained, frames, system, capfd):
    jobs.run([[home, "test", "-m", str(trained.model), "-s", system, "-d", system]])
    shown = dict(re.findall(r"INFO +((?:Energy|Force) .*?) *: (\S+) eV", capfd.readouterr().err))
    shown = {" ".join(name.split()): float(value) for name, value in shown.items()}
    errors = evaluate(trained.model, home / system).overall
    for name, part in (
        ("Energy {}/Natoms", errors.energy),
        ("Force {}", errors.force),
        ("Force weighted {}", errors.preferred),
    ):
        for kind in ("MAE", "RMSE"):
            value = getattr(part, kind.lower())
            np.testing.assert_allclose(shown[name.format(kind)], value, rtol=2e-6)
    rows = np.loadtxt(home / f"{system}.f.out")
    force = frozen_models.evaluate(trained.model, frames)["force"]
    real = frames.mask == 1
    np.testing.assert_allclose(rows, np.hstack([frames.force[real], force[real]]), atol=1e-12)
    energies = np.loadtxt(home / f"{system}.e.out")
    np.testing.assert_allclose(energies[:, 0], frames.energy[real.any(axis=1)])


def test_models_of_the_builtin_are_warned_of(home, trained, frames, capfd):
    """They need all their slots, so that DeePMD-kit's numbers stay what they are."""
    plain = trained.plain
    one = helpers.write_system(home / "one", frames.take([0]))
    for command in (["test", "-m", str(plain)], ["model-devi", "-m", str(plain), str(plain)]):
        output = ["-o", str(home / "plain.out")] if command[0] == "model-devi" else []
        jobs.run([[home, *command, "-s", str(one), *output]])
        assert "depend on the padding" in capfd.readouterr().err


def test_mask_that_is_none_is_still_refused(trained):
    frames = trained.frames.take([0])
    mask = frames.mask.copy()
    mask[0, 3] = 0.9
    potentials = [trained.potential] * 2
    with pytest.raises(Exception, match=r"frame 0, atom 3: mask value 0\.9"):
        model_devi.calc_model_devi(
            frames.coord.reshape(1, -1), None, frames.types, potentials, aparam=mask
        )


def test_missing_mask_is_named(trained):
    frames = trained.frames.take([0])
    message = "its mask is missing.*deepmd_mask.ase.MaskedDP"
    with pytest.raises(ValueError, match=message):
        trained.potential.eval(frames.coord.reshape(1, -1), None, frames.types)
    names = {name.capitalize(): t for t, name in enumerate(TYPE_MAP)}
    atoms = ase.Atoms("CO", [[0, 0, 0], [1.2, 0, 0]], calculator=DP(trained.model, type_dict=names))
    with pytest.raises(ValueError, match=message):
        atoms.get_potential_energy()


# ---- Refusals and output -------------------------------------------------------------------------


def test_models_that_cannot_be_compared(models, home, tmp_path):
    with pytest.raises(ValueError, match="1 model given"):
        model_deviation(models[:1], home / "wide")

    def named(names):
        path = tmp_path / f"{names[:1]}.pb"
        return frozen_models.edited(models[0], path, model_attr__tmap=names.encode())

    other = named("O C ZN")
    message = r"frozen\.pb and .*O\.pb have different type maps, C O ZN and O C ZN"
    with pytest.raises(ValueError, match=message):
        model_deviation([models[0], other], home / "wide")
    ase.io.write(tmp_path / "a.xyz", ase.Atoms("Zn"))
    message = r"a\.xyz, frame 0: Zn may be zn \(type 0\) or ZN \(type 2\)"
    with pytest.raises(ValueError, match=message):
        model_deviation([named("zn C ZN")] * 2, tmp_path / "a.xyz")


def test_command_writes_tables_and_figures(models, home, wanted, tmp_path):
    start = ["devi", "-m", *map(str, models), "-s", str(home / "narrow"), str(home / "wide")]

    def run(*options, succeeds=True):
        done = CliRunner().invoke(main, [*start, *map(str, options)])
        assert (done.exit_code == 0) == succeeds, done.output
        return done.output

    text = run("-o", tmp_path / "devi.csv", "--plot", tmp_path / "devi.png")
    assert "3 models, 14 frames" in text
    assert "largest force deviation, preferred atoms: system" in text
    assert (tmp_path / "devi.png").read_bytes().startswith(b"\x89PNG")
    with open(tmp_path / "devi.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["system"] for row in rows] == 7 * [start[-2]] + 7 * [start[-1]]
    for row, values in zip(rows, wanted * 2, strict=True):
        for name, value in values.items():
            np.testing.assert_allclose(float(row[name]), value, 1e-9, 1e-13)
        assert {name for name in wanted[0] if row[name] == ""} == {*wanted[0]} - {*values}
    run("-o", tmp_path / "devi.out")
    header, names, *_ = (tmp_path / "devi.out").read_text().splitlines()
    assert header == f"# {home / 'narrow'}"
    table = np.loadtxt(tmp_path / "devi.out")
    assert names.split()[1:4] == ["step", "real_atoms", "max_devi_f"]
    np.testing.assert_array_equal(table[:, 0], [*range(7)] * 2)
    np.testing.assert_allclose(table[0, 2], wanted[0]["max_devi_f"], rtol=1e-6)
    summary = json.loads(run("--json"))
    assert [frame["real_atoms"] for frame in summary["frames"]] == [sum(n) for n in NREAL] * 2
    assert "--overwrite" in run("-o", tmp_path / "devi.out", succeeds=False)
    assert not list(tmp_path.glob(".*"))


def test_models_and_frames_are_not_overwritten(tmp_path):
    """Nor is one of them opened before that is said."""
    model, other = tmp_path / "a.pb", tmp_path / "b.pb"
    frames, system, other_table = tmp_path / "a.xyz", tmp_path / "system", tmp_path / "a.dat"
    system.mkdir()
    for path in (model, other, frames, system / "type.raw", other_table):
        path.write_text("precious")
    (tmp_path / "link.pb").symlink_to(other)
    start = ["devi", "-m", model, other, "-s", f"{frames}@:3", system, "--overwrite"]
    for option, path, message in (
        ("-o", model, "--models and --output are both"),
        ("-o", tmp_path / "link.pb", "--models and --output are both"),
        ("-o", frames, "--systems and --output are both"),
        ("--plot", frames, "--systems and --plot are both"),
        ("-o", system / "type.raw", "is a file of a system"),
        ("-o", other_table, "the suffix must be .csv or .out"),
    ):
        done = CliRunner().invoke(main, [*map(str, start), option, str(path)])
        assert done.exit_code == 1
        assert message in done.output
        assert path.read_text() == "precious"
