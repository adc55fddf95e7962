# SPDX-License-Identifier: LGPL-3.0-or-later
"""Give this package and the built-in se_a_mask the same time, and compare what they reach.

Each side has the settings that search.py has found best for it. Measures the seconds that a
training step takes, both sides in turn. Then trains each side for so many steps as fit in the time,
with learning rates that go their way in these steps, and evaluates both models on the test set.
Time for validation is not counted.

A side that has been trained is not trained again, nor is what has been measured measured again.
"""

import argparse
import json
import re
import shutil
from pathlib import Path

from plot import EXAMPLE, draw, masked_errors
from run import prepare, step

BUILTIN = "built-in"
SIDES = {"deepmd-mask": {}, BUILTIN: {"DP_MASK": "builtin"}}
MEASURED_STEPS = {"deepmd-mask": 240, BUILTIN: 36}
ROUNDS = 3
# What differs from input.json, as search.py has it.
BEST = {
    "deepmd-mask": {"model": {"descriptor": {"neuron": [25, 50, 100]}}},
    BUILTIN: {"training": {"training_data": {"batch_size": 1}}},
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
    """Return the seconds that a training step takes, by side; measure them if need be.

    Both sides in turn, several times. The shortest time counts: whatever else a machine does can
    only add to it.
    """
    found = output / "seconds_per_step.json"
    if not found.exists():
        rounds = [
            {side: measure_once(output / "measurement", side, BEST[side]) for side in SIDES}
            for _ in range(ROUNDS)
        ]
        found.write_text(json.dumps(rounds, indent=2) + "\n")
    rounds = json.loads(found.read_text())
    return {side: min(times[side] for times in rounds) for side in SIDES}


def train(output, side, steps):
    """Train one side, freeze and test, as far as that has not been done."""
    folder = output / side
    if not (folder / "model.pb").exists():
        shutil.rmtree(folder, ignore_errors=True)
        prepare(folder, steps, side == BUILTIN, BEST[side])
        step("train.sh", folder, **SIDES[side])
        step("freeze.sh", folder, **SIDES[side])
    step("test.sh", folder)


def main():
    """Measure, train, test, plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=EXAMPLE / "compare", help="a folder")
    parser.add_argument("--minutes", type=float, default=20, help="for each side")
    parser.add_argument("--measure", action="store_true", help="do that and no more")
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    measured = measure(output)
    if arguments.measure:
        return
    curves = {}
    for side, seconds in measured.items():
        steps = round(60 * arguments.minutes / seconds)
        print(f"{side}: {1000 * seconds:.1f} ms for a step, {steps} steps", flush=True)
        train(output, side, steps)
        print((output / side / "test.txt").read_text(), flush=True)
        done, errors = masked_errors(output / side)
        curves[side] = done * seconds / 60, errors
    draw(curves, "training time (minutes)", output / "learning.png")


if __name__ == "__main__":
    main()
