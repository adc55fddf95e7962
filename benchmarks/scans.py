# SPDX-License-Identifier: LGPL-3.0-or-later
"""What run.py measures: each function here is a scan, and returns the rows of its table."""

import itertools
import pickle
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import limits
import numpy as np
from frames import TYPE_MAP, frame_of, frames_of, write_masked
from models import BUILD, MASKED, PEER, make, masked_input, training_of
from sides import Job, Setting, Side, in_turn
from worker import kernels_in_use, table_of

from deepmd_mask.potential.reading import read_model

SIZES = (20, 35, 56, 76, 89, 131)  # real atoms
LARGE = (250, 500)  # several frames side by side, more than the built-in has slots for
SIZES_OF_PARTS = (35, 89, 500)
SIZES_OF_WEIGHTS = (35, 76)
BATCH = (35, 56, 76, 97)  # four frames of 66 atoms on average, as the example's batches
EVEN = "new, even_steps"
SLOTS = (145, 300, 588, 2000)
PARTS = ("embed", "force", "embed_and_force", "read_out")
OF_EVALUATION = PARTS[2:]  # where pairs are sorted once for both


@dataclass
class Options:
    """What a scan is given."""

    setting: Setting
    rounds: int
    seconds: float  # of each repetition of a job
    models: list[str] = field(default_factory=lambda: list(MASKED))
    kernels: dict[str, Path] = field(default_factory=dict)  # other builds, with their names


# ---- Files --------------------------------------------------------------------------------------


def _path(model: str, form: str) -> str:
    return str(BUILD / model / form)


def _frame(folder: Path, natoms: int) -> str:
    """Write a frame for the workers."""
    path = folder / f"{natoms}.npz"
    if not path.exists():
        frame = frame_of(natoms)
        np.savez(path, types=frame.types, positions=frame.positions)
    return str(path)


def _sizes_of(model: str) -> limits.Model:
    arguments = read_model(_path(model, "frozen.pb")).arguments
    return limits.Model(arguments, table_of(arguments, kernels_in_use()))


def _job_of_rates(side: str, model: str, sizes: limits.Model) -> Job:
    """Return the job that measures the machine, a copy being as large as a model's parameters."""
    request = {"do": "rates", "nbytes": limits.nbytes_of_fitting(sizes)}
    return Job({"model": model}, {"rates": (side, request)})


def _without_rates(
    rows: list[dict[str, Any]],
) -> tuple[list[dict[str, Any]], dict[str, limits.Rates]]:
    """Return the rows of other jobs, and the rates for each model."""
    rates = {}
    for row in rows:
        if "rates" in row:
            flop, tanh, exp, byte = (1e3 / milliseconds for milliseconds in row["rates"])
            rates[row["model"]] = limits.Rates(flop=flop, values=max(tanh, exp), nbytes=byte)
    return [row for row in rows if "rates" not in row], rates


def _add_ratios(rows: list[dict[str, Any]], columns: list[str]) -> None:
    """Add how many times as fast as the built-in each column is."""
    for row in rows:
        for column in columns:
            if "built-in" in row and column in row:
                row[f"to {column}"] = row["built-in"] / row[column]


# ---- Scans --------------------------------------------------------------------------------------


def evaluations(options: Options) -> list[dict[str, Any]]:
    """Time evaluations by trained models, and by the peer, of more and more real atoms."""
    make([*options.models, PEER])
    setting = options.setting
    sides = {
        "potential": Side(setting),
        "plugin": Side(setting),
        "builtin": Side(setting, builtin=True),
    }
    jobs, works = [], []
    with tempfile.TemporaryDirectory() as directory:
        for model in options.models:
            sizes = _sizes_of(model)
            jobs.append(_job_of_rates("potential", model, sizes))
            for natoms in (*SIZES, *LARGE):
                requests = _evaluations_of(model, natoms, Path(directory))
                jobs.append(Job({**setting.notes(), "model": model, "real": natoms}, requests))
                atoms = frame_of(natoms)
                whole = limits.parts_of_evaluation(sizes, atoms.types, atoms.positions)
                counts = np.bincount(atoms.types, minlength=sizes.ntypes)
                mixed = {**whole, "read_out": limits.read_out(sizes, counts, mixed=True)}
                works.append((whole, mixed))
        measured = in_turn(sides, jobs, options.rounds, options.seconds, "evaluations")
    for side in sides.values():
        side.close()
    rows, rates = _without_rates(measured)
    for row, work in zip(rows, works, strict=True):
        least, of_mixed = (1e3 * limits.limit(parts, rates[row["model"]]) for parts in work)
        row |= {"limit": least, "mixed limit": of_mixed, "over limit": row["Potential"] / least}
    _add_ratios(rows, ["Potential", "mixed", "DeepPot", "compressed", PEER])
    return rows


def _evaluations_of(model: str, natoms: int, folder: Path) -> dict[str, tuple[str, dict]]:
    """Return the columns of a row of evaluations: who is asked, and for what."""
    frozen, compressed = _path(model, "frozen.pb"), _path(model, "compressed.pb")
    counts = np.bincount(frame_of(natoms).types, minlength=len(TYPE_MAP))
    sel = np.maximum(masked_input(model)["model"]["descriptor"]["sel"], counts).tolist()

    def by(who: str, path: str, **options: Any) -> dict[str, Any]:
        frame = _frame(folder, natoms)
        return {"do": "evaluate", "who": who, "model": path, "frame": frame, **options}

    requests = {
        "Potential": ("potential", by("Potential", frozen)),
        "DeepPot": ("plugin", by("DeepPot", frozen, sel=sel)),
        "compressed": ("plugin", by("DeepPot", compressed, sel=sel)),
        "mixed": ("potential", by("Potential", frozen, precision="mixed")),
    }
    if natoms in SIZES:
        requests["built-in"] = "builtin", by("DeepPot", _path(model, "builtin.pb"), sel=sel)
        if model == "one-sided":
            requests[PEER] = "builtin", by("DeepPot", _path(PEER, "compressed.pb"))
    return requests


def weights(options: Options) -> list[dict[str, Any]]:
    """Time evaluations of atoms that are there in part, with dE/dw, beside those of whole ones."""
    make(options.models)
    setting, jobs = options.setting, []
    with tempfile.TemporaryDirectory() as directory, Side(setting) as side:
        for model in options.models:
            for natoms in SIZES_OF_WEIGHTS:
                request = {"do": "weights", "model": _path(model, "frozen.pb"), "weight": 0.5}
                request["frame"] = _frame(Path(directory), natoms)
                notes = {**setting.notes(), "model": model, "real": natoms}
                jobs.append(Job(notes, {"times": ("side", request)}))
        rows = in_turn({"side": side}, jobs, options.rounds, options.seconds, "weights")
    for row in rows:
        row["whole"], row["in part"] = row.pop("times")
        row["in part to whole"] = row["in part"] / row["whole"]
    return rows


def training(options: Options) -> list[dict[str, Any]]:
    """Time training steps on one batch, from trained models and from new nets.

    The latter also with even_steps, which is for these alone.
    """
    rows = _training(options, ["trained", "new", EVEN], "float64")
    for row in rows:
        new = next(r for r in rows if r["model"] == row["model"] and r["nets"] == "new")
        if row["nets"] == "trained":
            row["to new nets"] = row["plugin"] / new["plugin"]
    return rows


def float32(options: Options) -> list[dict[str, Any]]:
    """Time training steps on the same batch in float32, from new nets."""
    return _training(options, ["new"], "float32")


def _training(options: Options, kinds: list[str], precision: str) -> list[dict[str, Any]]:
    """Time training steps from trained or new nets; limits are those of trained ones."""
    make(options.models)
    setting = options.setting
    frames = [frame_of(natoms) for natoms in BATCH]
    with (
        tempfile.TemporaryDirectory() as directory,
        Side(setting) as plugin,
        Side(setting, builtin=True) as builtin,
    ):
        jobs, works = [], {}
        for model in options.models:
            sizes = _sizes_of(model)
            if "trained" in kinds:  # of which alone there is a limit
                jobs.append(_job_of_rates("plugin", model, sizes))
            sel = masked_input(model)["model"]["descriptor"]["sel"]
            system = str(write_masked(Path(directory) / model, frames, sel))
            works[model] = limits.parts_of_training(sizes, [(f.types, f.positions) for f in frames])
            for nets in kinds:
                jdata = masked_input(model)
                for part in ("descriptor", "fitting_net"):
                    jdata["model"][part]["precision"] = precision
                jdata["model"]["descriptor"]["even_steps"] = nets == EVEN
                start = _path(model, "model.ckpt") if nets == "trained" else None
                request = {"do": "train", "input": jdata, "system": system, "start": start}
                notes = {"model": model, "nets": nets, "precision": precision}
                requests = {"plugin": ("plugin", request)}
                if nets != EVEN:
                    requests["built-in"] = "builtin", request
                jobs.append(Job({**setting.notes(), **notes}, requests))
        sides = {"plugin": plugin, "builtin": builtin}
        measured = in_turn(sides, jobs, options.rounds, options.seconds, "training")
    rows, rates = _without_rates(measured)
    for row in rows:
        if row["nets"] == "trained":
            least = 1e3 * limits.limit(works[row["model"]], rates[row["model"]])
            row |= {"limit": least, "over limit": row["plugin"] / least}
    _add_ratios(rows, ["plugin"])
    return rows


def parts(options: Options) -> list[dict[str, Any]]:
    """Time the kernels of an evaluation one by one, beside the whole, and beside other builds."""
    make(options.models)
    setting = options.setting
    sides = {"here": Side(setting)}
    sides |= {name: Side(setting, kernels=path) for name, path in options.kernels.items()}
    jobs, works = [], []
    with tempfile.TemporaryDirectory() as directory:
        for model in options.models:
            sizes = _sizes_of(model)
            jobs.append(_job_of_rates("here", model, sizes))
            name = _path(model, "frozen.pb")
            pickled = Path(directory) / f"{model}.pickle"
            pickled.write_bytes(pickle.dumps(read_model(name).arguments))
            for natoms in SIZES_OF_PARTS:
                frame = {"frame": _frame(Path(directory), natoms)}
                whole = {"do": "evaluate", "who": "Potential", "model": name, **frame}
                requests = {"Potential": ("here", whole)}
                for part, side in itertools.product(PARTS, sides):
                    request = {"do": "part", "model": str(pickled), **frame, "part": part}
                    requests[f"{part}, {side}"] = side, request
                notes = {**setting.notes(), "model": model, "real": natoms}
                jobs.append(Job(notes, requests))
                atoms = frame_of(natoms)
                works.append(limits.parts_of_evaluation(sizes, atoms.types, atoms.positions))
        measured = in_turn(sides, jobs, options.rounds, options.seconds, "parts")
    for side in sides.values():
        side.close()
    rows = []
    measured, of_models = _without_rates(measured)
    for row, work in zip(measured, works, strict=True):
        rates = of_models[row["model"]]
        of_side = {side: {p: row.pop(f"{p}, {side}") for p in PARTS} for side in sides}
        whole, limit = row.pop("Potential"), 1e3 * limits.limit(work, rates)
        work["embed_and_force"] = work["embed"] + work["force"]
        for part, ms in of_side["here"].items():
            least = 1e3 * work[part].seconds(rates)
            rate = work[part].flop / ms / 1e6
            found = {"part": part, "ms": ms, "limit": least, "over limit": ms / least}
            found |= {"GFLOP/s": rate, "to a product": rate / rates.flop * 1e9}
            found |= {name: of_side[name][part] / ms for name in options.kernels}
            rows.append({**row, **found})
        totals = {side: sum(ms[part] for part in OF_EVALUATION) for side, ms in of_side.items()}
        total = totals["here"]
        found = {"part": "sum", "ms": total, "limit": limit, "over limit": total / limit}
        found["Potential to sum"] = whole / total
        found |= {name: totals[name] / total for name in options.kernels}
        rows.append({**row, **found})
    return rows


def errors(options: Options) -> list[dict[str, Any]]:
    """Compare models with the labels of the test set, and say what their training took.

    Energies were not trained on, and have another constant for each composition, which is taken
    away: what is left are differences between frames of one composition.
    """
    names = [*options.models, PEER]
    make(names)
    frames = frames_of("test")
    rows = []
    with tempfile.TemporaryDirectory() as directory, Side(options.setting) as side:
        paths = []
        for k, frame in enumerate(frames):
            paths.append(str(Path(directory) / f"{k}.npz"))
            np.savez(paths[-1], types=frame.types, positions=frame.positions)
        for name in names:
            who = "DeepPot" if name == PEER else "Potential"
            model = _path(name, "frozen.pb")
            found = side.ask("predict", who=who, model=model, frames=paths)
            energies, forces = zip(*found, strict=True)
            weight = np.concatenate([np.repeat(f.preferred, 3) for f in frames])
            off = np.concatenate(
                [
                    np.subtract(f, frame.forces).ravel()
                    for f, frame in zip(forces, frames, strict=True)
                ]
            )
            of_training = training_of(name)  # its threads are none of this scan's
            row = {"model": name, **{key: of_training[key] for key in ("steps", "seconds")}}
            row["force, preferred"] = float(np.sqrt((weight * off**2).sum() / weight.sum()))
            row["force, all"] = float(np.sqrt(np.mean(off**2)))
            row["energy per atom"] = _energy_error(frames, np.array(energies))
            if name != PEER:
                row["panels"] = _sizes_of(name).npanels()
            rows.append(row)
    return rows


def _energy_error(frames: list, energies: np.ndarray) -> float:
    """Return the error of energies per atom, less the mean of each composition."""
    off = (energies - [f.energy for f in frames]) / [len(f) for f in frames]
    compositions = [tuple(np.bincount(f.types, minlength=len(TYPE_MAP))) for f in frames]
    for composition in set(compositions):
        same = [c == composition for c in compositions]
        off[same] -= off[same].mean()
    return float(np.sqrt(np.mean(off**2)))


def slots(options: Options) -> list[dict[str, Any]]:
    """Time trained models in more and more slots, the same atoms in all."""
    make(options.models)
    setting = options.setting
    frames = [frame_of(natoms) for natoms in BATCH]
    jobs = []
    with tempfile.TemporaryDirectory() as directory, Side(setting) as plugin:
        for model in options.models:
            jdata = masked_input(model)
            for count in SLOTS:
                sel = np.asarray(jdata["model"]["descriptor"]["sel"])
                sel = sel + np.diff(np.linspace(0, count - sel.sum(), len(sel) + 1).astype(int))
                folder = Path(directory) / f"{model}{count}"
                system = str(write_masked(folder, frames, sel.tolist()))
                evaluate = {"do": "evaluate", "who": "DeepPot", "model": _path(model, "frozen.pb")}
                evaluate |= {"frame": _frame(Path(directory), 56), "sel": sel.tolist()}
                train = {"do": "train", "input": jdata, "system": system}
                train["start"] = _path(model, "model.ckpt")
                requests = {"DeepPot, 56": ("plugin", evaluate), "training": ("plugin", train)}
                jobs.append(Job({**setting.notes(), "model": model, "slots": count}, requests))
        rows = in_turn({"plugin": plugin}, jobs, options.rounds, options.seconds, "slots")
    for row in rows:
        base = next(r for r in rows if r["model"] == row["model"])
        for column in ("DeepPot, 56", "training"):
            row[f"{column}, to {SLOTS[0]}"] = row[column] / base[column]
    return rows


def processes(options: Options) -> list[dict[str, Any]]:
    """Measure CPU seconds and megabytes of processes: those that evaluate once, or train a little.

    Beside them: NumPy alone, and a training of parameters of the same shapes without a model,
    which is what TensorFlow takes for any.
    """
    make(options.models)
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        frame = _frame(folder, SIZES_OF_PARTS[0])
        for model in options.models:
            jdata = masked_input(model)
            sel = jdata["model"]["descriptor"]["sel"]
            system = write_masked(folder / model, [frame_of(natoms) for natoms in BATCH], sel)
            evaluate = {"do": "evaluate", "frame": frame, "seconds": 0}
            evaluate["model"] = _path(model, "frozen.pb")
            train = {"do": "train", "input": jdata, "system": str(system), "seconds": 0}
            work: dict[str, tuple[bool, list[dict[str, Any]]]] = {
                "NumPy alone": (False, []),
                "Potential": (False, [{**evaluate, "who": "Potential"}]),
                "DeepPot": (False, [{**evaluate, "who": "DeepPot", "sel": sel}]),
                "training": (False, [train]),
                "training, built-in": (True, [train]),
            }
            shapes = None
            for who, (builtin, requests) in work.items():
                with Side(options.setting, builtin=builtin) as side:
                    for request in requests:
                        side.ask(**request)
                    row = {"model": model, "who": who}
                    row["CPU s"], row["MB at peak"] = side.ask("usage")
                    rows.append(row)
                    if who == "training":
                        shapes = side.ask("shapes")
            with Side(options.setting) as side:
                side.ask("train_nothing", shapes=shapes)
                row = {"model": model, "who": "training without a model"}
                row["CPU s"], row["MB at peak"] = side.ask("usage")
                rows.append(row)
    return rows


SCANS = {
    scan.__name__: scan
    for scan in (errors, evaluations, weights, training, float32, parts, slots, processes)
}
