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
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from plot import EXAMPLE, draw, masked_errors
from run import prepare, step
from search import BUILTIN, ONE_CORE, SETTINGS, SIDES, measure_once

ROUNDS = 3
# The two best of search.py, by the settings that each changes: other nets on one side, and on the
# other two that go together.
GOES = {
    "deepmd-mask": [["embedding nets 25-50-100"], []],
    BUILTIN: [["batches of 1"], ["batches of 1", "rates from 0.02"]],
}


class Go:
    """One training of one side.

    Parameters
    ----------
    side : str
    settings : list of str
        Of search.py.
    output : pathlib.Path
        The folder for all goes.
    """

    def __init__(self, side, settings, output):
        self.side = side
        self.name = ", ".join([side, *(settings or ["as in input.json"])])
        self.changes = {key: value for name in settings for key, value in SETTINGS[name].items()}
        self.folder = output / self.name.replace(",", "").replace(" ", "_")

    def train(self, steps, environment):
        """Train and freeze, unless that has been done; return the validation error in eV/Å."""
        if not (self.folder / "model.pb").exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            prepare(self.folder, steps, self.side == BUILTIN, self.changes)
            step("train.sh", self.folder, **SIDES[self.side], **environment)
            step("freeze.sh", self.folder, **SIDES[self.side])
        return masked_errors(self.folder)[1][-1]


def measure(goes, output):
    """Return the seconds that a training step takes, by the names of goes; measure if need be.

    All goes in turn, several times. The shortest time counts: whatever else a machine does can
    only add to it.
    """
    found = output / "seconds_per_step.json"
    if not found.exists():
        folder = output / "measurement"
        rounds = [
            {go.name: measure_once(folder, go.side, go.changes) for go in goes}
            for _ in range(ROUNDS)
        ]
        found.write_text(json.dumps(rounds, indent=2) + "\n")
    rounds = json.loads(found.read_text())
    return {go.name: min(times[go.name] for times in rounds) for go in goes}


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
    goes = [Go(side, settings, output) for side in GOES for settings in GOES[side]]
    seconds = measure(goes, output)
    if arguments.measure:
        return
    steps = [round(60 * arguments.minutes / seconds[go.name]) for go in goes]
    environment = ONE_CORE if arguments.workers > 1 else {}
    with ThreadPoolExecutor(arguments.workers) as workers:
        trained = workers.map(lambda go, count: go.train(count, environment), goes, steps)
        errors = dict(zip(goes, trained, strict=True))
    for go, error in errors.items():
        row = f"{go.name:44} {1000 * seconds[go.name]:6.1f} ms for a step"
        print(f"{row}, validation {error:.3f} eV/Å", flush=True)
    curves = {}
    for side in SIDES:
        best = min((go for go in goes if go.side == side), key=errors.get)
        step("test.sh", best.folder)
        print(f"\n{best.name}:\n{(best.folder / 'test.txt').read_text()}", flush=True)
        done, masked = masked_errors(best.folder)
        curves[side] = done * seconds[best.name] / 60, masked
    draw(curves, "training time (minutes)", output / "learning.png")


if __name__ == "__main__":
    main()
