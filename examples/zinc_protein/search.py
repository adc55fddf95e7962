# SPDX-License-Identifier: LGPL-3.0-or-later
"""The same search for better settings on both sides, this package and the built-in.

Each setting is changed alone, from what run.py has for that side, and gets the same time: so many
steps as fit in it, by how long a few have taken with all cores and nothing beside them. Prints the
error on the validation set at the end, so that the test set remains one that nothing was chosen by.

What has been measured or trained is not measured or trained again.
"""

import argparse
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from plot import EXAMPLE, masked_errors
from run import prepare, step

BUILTIN = "built-in"
SIDES = {"deepmd-mask": {}, BUILTIN: {"DP_MASK": "builtin"}}
MEASURED_STEPS = {"deepmd-mask": 240, BUILTIN: 36}
ONE_CORE = {
    "OMP_NUM_THREADS": "1",
    "DP_INTRA_OP_PARALLELISM_THREADS": "1",
    "DP_INTER_OP_PARALLELISM_THREADS": "1",
}


def rate(start):
    """Return the change of learning rates to those that begin so."""
    return {"learning_rate": {"start_lr": start, "stop_lr": start / 200}}


def prefactor(preferred):
    """Return the change of the weight of forces on preferred atoms; that of all is 1."""
    return {"loss": {"start_pref_pf": preferred, "limit_pref_pf": preferred}}


SETTINGS = {
    "rates from 0.001": rate(0.001),
    "rates from 0.002": rate(0.002),
    "rates from 0.005": rate(0.005),
    "rates from 0.01": rate(0.01),
    "rates from 0.02": rate(0.02),
    "batches of 1": {"training": {"training_data": {"batch_size": 1}}},
    "batches of 16": {"training": {"training_data": {"batch_size": 16}}},
    "embedding nets 25-50-100": {"model": {"descriptor": {"neuron": [25, 50, 100]}}},
    "fitting nets 240-240-240": {"model": {"fitting_net": {"neuron": [240, 240, 240]}}},
    "two-sided": {"model": {"descriptor": {"type_one_side": False}}},
    "preferred forces by 1": prefactor(1.0),
    "preferred forces by 20": prefactor(20.0),
}


def measure_once(folder, side, changes):
    """Return the seconds that a training step of one side takes now.

    Parameters
    ----------
    folder : pathlib.Path
        Emptied.
    side : str
    changes : dict
        As those of `run.prepare`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    prepare(folder, MEASURED_STEPS[side], side == BUILTIN, changes)
    jdata = json.loads((folder / "input.json").read_text())
    del jdata["training"]["validation_data"]  # a row for each few steps would take minutes
    (folder / "input.json").write_text(json.dumps(jdata))
    step("train.sh", folder, **SIDES[side])
    return seconds_per_step(folder)


def seconds_per_step(folder):
    """Return what dp train said that a step has taken, without validation."""
    log = (folder / "log.txt").read_text()
    return float(re.search(r"average training time: (\S+) s/batch", log).group(1))


def measure(output, side, setting):
    """Return the seconds that a training step takes, which depends on nets and batches alone.

    Parameters
    ----------
    output : pathlib.Path
    side, setting : str
    """
    path = output / "seconds_per_step.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    changes = {k: v for k, v in SETTINGS[setting].items() if k in ("model", "training")}
    key = f"{side} {json.dumps(changes)}"
    if key not in found:
        found[key] = measure_once(output / "measurement", side, changes)
        path.write_text(json.dumps(found, indent=2) + "\n")
    return found[key]


def train(folder, side, setting, steps):
    """Train on one core, unless this has been trained so.

    Parameters
    ----------
    folder : pathlib.Path
    side, setting : str
    steps : int

    Returns
    -------
    float
        Masked force error of the validation set at the end, in eV/Å.
    """
    path, done = folder / "input.json", folder / "done.json"
    wanted = {"steps": steps, "changes": SETTINGS[setting]}
    if not done.exists() or json.loads(done.read_text()) != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        prepare(folder, steps, side == BUILTIN, SETTINGS[setting])
        jdata = json.loads(path.read_text())
        jdata["training"]["disp_freq"] = steps  # one row, at the end
        path.write_text(json.dumps(jdata, indent=2) + "\n")
        step("train.sh", folder, **SIDES[side], **ONE_CORE)
        done.write_text(json.dumps(wanted) + "\n")
    return masked_errors(folder)[1][-1]


def main():
    """Measure, then train each setting on both sides."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=EXAMPLE / "search", help="a folder")
    parser.add_argument("--minutes", type=float, default=5, help="for each training")
    parser.add_argument(
        "--workers", type=int, default=2, help="trainings at a time, which changes no result"
    )
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    trainings = [(setting, side) for setting in SETTINGS for side in SIDES]
    seconds = [measure(output, side, setting) for setting, side in trainings]
    steps = [round(60 * arguments.minutes / each) for each in seconds]
    print(f"{'':26}{'side':12} {'ms/step':>8} {'steps':>8}   masked error", flush=True)
    with ThreadPoolExecutor(arguments.workers) as workers:
        errors = [
            workers.submit(train, output / side / setting.replace(" ", "_"), side, setting, count)
            for (setting, side), count in zip(trainings, steps, strict=True)
        ]
        for (setting, side), each, count, error in zip(
            trainings, seconds, steps, errors, strict=True
        ):
            row = f"{setting:26}{side:12} {1000 * each:>8.1f} {count:>8}"
            print(f"{row} {error.result():9.3f} eV/Å", flush=True)


if __name__ == "__main__":
    main()
