# SPDX-License-Identifier: LGPL-3.0-or-later
"""The same search for better settings on both sides, this package and the built-in.

Each setting is changed alone, from what compare.py trains with, and gets the same time: so many
steps as fit in it, by how long a few have taken. Prints the error on the validation set, so that
the test set remains one that nothing was chosen by.

What has been trained is not trained again.
"""

import argparse
import json
import shutil
from pathlib import Path

from compare import BUILTIN, SIDES, measure_once, seconds_per_step
from plot import EXAMPLE, masked_errors
from run import prepare, step


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


def train(folder, side, changes, minutes):
    """Train for so long, unless that has been done, and return steps, minutes and error.

    Parameters
    ----------
    folder : pathlib.Path
    side : str
    changes : dict
        From input.json.
    minutes : float

    Returns
    -------
    steps : int
    spent : float
        Minutes.
    error : float
        Masked force error of the validation set at the end, in eV/Å.
    """
    found = folder / "found.json"
    if not found.exists():
        measured = measure_once(folder, side, changes=changes)
        steps = round(60 * minutes / measured)
        shutil.rmtree(folder)
        prepare(folder, steps, side == BUILTIN, changes)
        step("train.sh", folder, **SIDES[side])
        spent = steps * seconds_per_step(folder) / 60
        error = masked_errors(folder)[1][-1]
        found.write_text(json.dumps({"steps": steps, "spent": spent, "error": error}) + "\n")
    return json.loads(found.read_text()).values()


def main():
    """Train each setting on both sides."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=EXAMPLE / "search", help="a folder")
    parser.add_argument("--minutes", type=float, default=5, help="for each training")
    arguments = parser.parse_args()
    print(f"{'':26}{'side':12} {'steps':>8} {'minutes':>8}   masked error", flush=True)
    for setting, changes in SETTINGS.items():
        for side in SIDES:
            folder = arguments.output.resolve() / side / setting.replace(" ", "_")
            steps, spent, error = train(folder, side, changes, arguments.minutes)
            print(f"{setting:26}{side:12} {steps:>8} {spent:>8.1f} {error:9.3f} eV/Å", flush=True)


if __name__ == "__main__":
    main()
