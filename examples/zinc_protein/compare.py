# SPDX-License-Identifier: LGPL-3.0-or-later
"""Give this package and the built-in se_a_mask the same time, and compare what they reach.

Measures the seconds that a training step takes, one side after the other, each starting from the
nets that run.py has trained in the folder run/: new nets are faster than trained ones. Then trains
each side from new nets for so many steps as fit in the time, with learning rates that go
their way in these steps, and evaluates both models on the test set. Time for validation is not
counted.

What has been measured and trained is kept, so that an interrupted comparison goes on where it
stopped.
"""

import argparse
import json
import re
import shutil
from pathlib import Path

from plot import EXAMPLE, draw, masked_errors
from run import prepare, step

SIDES = {"deepmd-mask": {}, "built-in": {"DP_MASK": "builtin"}}
FEW = 20  # steps, to see how many make up a measurement
MEASURED = 50.0  # s


def seconds_per_step(folder, steps, environment):
    """Measure how long a training step takes."""
    shutil.rmtree(folder, ignore_errors=True)
    prepare(folder, steps)
    step("train.sh", folder, "--init-model", EXAMPLE / "run" / "model.ckpt", **environment)
    log = (folder / "log.txt").read_text()
    return float(re.search(r"average training time: (\S+) s/batch", log).group(1))


def measure(output, side):
    """Return the seconds that a training step of one side takes; measure them once."""
    found = output / f"{side}.json"
    if not found.exists():
        roughly = seconds_per_step(output / "measurement", FEW, SIDES[side])
        steps = max(FEW, round(MEASURED / roughly))
        result = seconds_per_step(output / "measurement", steps, SIDES[side])
        found.write_text(json.dumps({"seconds_per_step": result, "measured_steps": steps}))
    return json.loads(found.read_text())["seconds_per_step"]


def train(output, side, steps):
    """Train one side, freeze and test, as far as that has not been done."""
    folder = output / side
    if not (folder / "model.pb").exists():
        shutil.rmtree(folder, ignore_errors=True)
        prepare(folder, steps)
        step("train.sh", folder, **SIDES[side])
        step("freeze.sh", folder, **SIDES[side])
    step("test.sh", folder)


def main():
    """Measure, train, test, plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=EXAMPLE / "compare", help="a folder")
    parser.add_argument("--minutes", type=float, default=20, help="for each side")
    parser.add_argument("--only", choices=SIDES, help="measure this side, and no more")
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    if arguments.only:
        measure(output, arguments.only)
        return
    curves = {}
    for side, seconds in {side: measure(output, side) for side in SIDES}.items():
        steps = round(60 * arguments.minutes / seconds)
        print(f"{side}: {1000 * seconds:.1f} ms for a step, {steps} steps", flush=True)
        train(output, side, steps)
        print((output / side / "test.txt").read_text(), flush=True)
        done, errors = masked_errors(output / side)
        curves[side] = done * seconds / 60, errors
    draw(curves, "training time (minutes)", output / "learning.png")


if __name__ == "__main__":
    main()
