# SPDX-License-Identifier: LGPL-3.0-or-later
"""Give this package and the built-in se_a_mask the same time, and compare what they reach.

Each side has two goes, with the settings that are best for it by search.py. Measures the seconds
that a training step takes, all goes in turn. Then trains each for so many steps as fit in the time,
with learning rates that go their way in these steps. The one of each side with the smaller error on
the validation set is evaluated on the test set. Time for validation is not counted.

What has been measured or trained is not measured or trained again.
"""

import argparse
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from plot import EXAMPLE, draw, masked_errors
from run import prepare, step

BUILTIN = "built-in"
SIDES = {"deepmd-mask": {}, BUILTIN: {"DP_MASK": "builtin"}}
MEASURED_STEPS = {"deepmd-mask": 240, BUILTIN: 36}
ROUNDS = 3
# What differs from input.json: the two best of search.py, which change nets on one side and go
# together on the other.
SINGLE = {"training": {"training_data": {"batch_size": 1}}}
GOES = {
    "deepmd-mask": {
        "embedding nets 25-50-100": {"model": {"descriptor": {"neuron": [25, 50, 100]}}},
        "embedding nets 16-32-64": {},
    },
    BUILTIN: {
        "batches of 1": SINGLE,
        "batches of 1, rates from 0.02": {
            **SINGLE,
            "learning_rate": {"start_lr": 0.02, "stop_lr": 0.0001},
        },
    },
}
ONE_CORE = {
    "OMP_NUM_THREADS": "1",
    "DP_INTRA_OP_PARALLELISM_THREADS": "1",
    "DP_INTER_OP_PARALLELISM_THREADS": "1",
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


def measure(output):
    """Return the seconds that a training step takes, by side and settings; measure if need be.

    All goes in turn, several times. The shortest time counts: whatever else a machine does can
    only add to it.
    """
    found = output / "seconds_per_step.json"
    if not found.exists():
        rounds = [
            {
                f"{side}, {name}": measure_once(output / "measurement", side, changes)
                for side, goes in GOES.items()
                for name, changes in goes.items()
            }
            for _ in range(ROUNDS)
        ]
        found.write_text(json.dumps(rounds, indent=2) + "\n")
    rounds = json.loads(found.read_text())
    return {key: min(times[key] for times in rounds) for key in rounds[0]}


def train(folder, side, changes, steps, **environment):
    """Train one side, unless that has been done.

    Returns
    -------
    float
        Masked force error of the validation set at the end, in eV/Å.
    """
    if not (folder / "model.pb").exists():
        shutil.rmtree(folder, ignore_errors=True)
        prepare(folder, steps, side == BUILTIN, changes)
        step("train.sh", folder, **SIDES[side], **environment)
        step("freeze.sh", folder, **SIDES[side])
    return masked_errors(folder)[1][-1]


def main():
    """Measure, train, choose, test, plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=EXAMPLE / "compare", help="a folder")
    parser.add_argument("--minutes", type=float, default=20, help="for each training")
    parser.add_argument("--measure", action="store_true", help="do that and no more")
    parser.add_argument(
        "--workers", type=int, default=1, help="trainings at a time; if several, a core for each"
    )
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    measured = measure(output)
    if arguments.measure:
        return
    goes = [(side, name) for side in GOES for name in GOES[side]]
    seconds = {go: measured[", ".join(go)] for go in goes}
    folders = {go: output / "_".join(go).replace(",", "").replace(" ", "_") for go in goes}
    environment = ONE_CORE if arguments.workers > 1 else {}
    with ThreadPoolExecutor(arguments.workers) as workers:
        trainings = {
            (side, name): workers.submit(
                train,
                folders[side, name],
                side,
                GOES[side][name],
                round(60 * arguments.minutes / seconds[side, name]),
                **environment,
            )
            for side, name in goes
        }
        errors = {go: training.result() for go, training in trainings.items()}
    for go in goes:
        print(f"{', '.join(go):44} {1000 * seconds[go]:6.1f} ms for a step, validation", end=" ")
        print(f"{errors[go]:.3f} eV/Å", flush=True)
    curves = {}
    for side, names in GOES.items():
        best = min(((side, name) for name in names), key=errors.get)
        step("test.sh", folders[best])
        print(f"\n{', '.join(best)}:\n{(folders[best] / 'test.txt').read_text()}", flush=True)
        done, masked = masked_errors(folders[best])
        curves[side] = done * seconds[best] / 60, masked
    draw(curves, "training time (minutes)", output / "learning.png")


if __name__ == "__main__":
    main()
