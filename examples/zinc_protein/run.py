# SPDX-License-Identifier: LGPL-3.0-or-later
"""Steps 4 to 8 on the data of this example: check, train, freeze, test, plot.

Works in a folder of its own. The masked force error is the root mean square error over the
components of the forces on the preferred atoms, in eV/Å.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from plot import EXAMPLE, draw, load, masked_errors

POLL = 0.5  # s
LINES_OF_LOG = 30
BUILTIN_RATES = {"start_lr": 0.01, "stop_lr": 0.00005}


def merge(found, changes):
    """Change values in a dict of dicts."""
    for name, value in changes.items():
        if isinstance(value, dict):
            merge(found[name], value)
        else:
            found[name] = value


def prepare(output, steps=None, builtin=False, changes=None):
    """Make the folder of a run, with the input.

    Parameters
    ----------
    output : pathlib.Path
        Must not exist.
    steps : int, optional
        So many instead of those in input.json. The learning rate goes its way in them.
    builtin : bool
        Whether for the built-in, which has no `even_steps`: with the rates that suit it best.
    changes : dict, optional
        What else differs from input.json, laid out as it is there. Only with `steps`.
    """
    try:
        output.mkdir(parents=True)
    except FileExistsError:
        sys.exit(f"{output} exists; remove it, or name another folder with --output")
    jdata = json.loads((EXAMPLE / "input.json").read_text())
    if steps is None:
        shutil.copy(EXAMPLE / "input.json", output)
        return
    if builtin:
        del jdata["model"]["descriptor"]["even_steps"]
        jdata["learning_rate"] |= BUILTIN_RATES
    merge(jdata, changes or {})
    training, rate = jdata["training"], jdata["learning_rate"]
    rate["decay_steps"] = max(1, rate["decay_steps"] * steps // training["numb_steps"])
    training["disp_freq"] = max(1, training["disp_freq"] * steps // training["numb_steps"])
    training["numb_steps"] = steps
    (output / "input.json").write_text(json.dumps(jdata, indent=2) + "\n")


def step(script, output, *arguments, watch=lambda: None, **environment):
    """Run a step's script; all that it prints goes to log.txt in the folder of the run.

    Parameters
    ----------
    script : str
        Its name.
    output : pathlib.Path
        Folder of the run.
    *arguments : str
        Further arguments.
    watch : callable
        Called every so often while it runs, and once after that.
    **environment : str
        Further variables.
    """
    # `dp` and `dp-mask` of this Python, also where the environment is not activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    log = output / "log.txt"
    with log.open("a") as out:
        process = subprocess.Popen(
            [EXAMPLE / script, output, *arguments],
            stdout=out,
            stderr=out,
            env={**os.environ, "PATH": path, **environment},
        )
        while process.poll() is None:
            time.sleep(POLL)
            watch()
    watch()
    if process.returncode != 0:
        tail = log.read_text(errors="replace").splitlines()[-LINES_OF_LOG:]
        print(*tail, sep="\n", file=sys.stderr)
        sys.exit(f"{script} failed; all that it printed is in {log}")


class Progress:
    """Prints the masked force error of the validation set as lcurve.out grows."""

    def __init__(self, output):
        self.output = output
        self.shown = 0
        self.start = time.monotonic()

    def __call__(self):
        """Print a line for each row that is new."""
        steps, errors = masked_errors(self.output)
        for number, error in zip(steps[self.shown :], errors[self.shown :], strict=True):
            elapsed = time.monotonic() - self.start
            print(f"{number:>8} {error:14.3f} eV/Å {elapsed:8.0f} s", flush=True)
        self.shown = len(steps)


def main():
    """Go through all steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=EXAMPLE / "run", help="a new folder")
    parser.add_argument("--steps", type=int, help="of training, instead of those in input.json")
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    prepare(output, arguments.steps)
    print(f"Training in {output}; what is printed there goes to log.txt.")
    step("check.sh", output)
    print("    step   masked error     elapsed", flush=True)
    step("train.sh", output, watch=Progress(output))
    step("freeze.sh", output)
    step("test.sh", output)
    weight = np.repeat(load("atom_pref", "test"), 3, axis=1)
    nothing = np.sqrt(np.sum(weight * load("force", "test") ** 2) / np.sum(weight))
    print(f"\nPredicting no force at all, the error on the test set is {nothing:.3f} eV/Å.")
    print("Those of the frozen model:\n")
    print((output / "test.txt").read_text())
    draw({"": masked_errors(output)}, "training step", output / "learning.png")
    print(f"Model, parity plots, learning curve, table of frames: in {output}")


if __name__ == "__main__":
    main()
