# SPDX-License-Identifier: LGPL-3.0-or-later
"""Train on the zinc sites of this example, freeze the model and tell its masked force error.

Runs `dp train input.json` and `dp freeze` in a folder of its own. The masked force error is the
root mean square over the components of the forces on the preferred atoms, in eV/Å.
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

EXAMPLE = Path(__file__).resolve().parent
VALIDATION = EXAMPLE / "data" / "validation"
DP = [sys.executable, "-m", "deepmd"]  # `dp`, also where the environment is not activated
POLL = 0.5  # s
LINES_OF_LOG = 30


def load(name):
    """Load an array of the validation set."""
    return np.load(VALIDATION / "set.000" / f"{name}.npy")


def masked_error(force):
    """Return the masked force error of forces [nframes, nslots * 3] on the validation set, eV/Å."""
    weight = np.repeat(load("atom_pref"), 3, axis=1)
    return np.sqrt(np.sum(weight * (force - load("force")) ** 2) / np.sum(weight))


def prepare(output):
    """Make the folder of the run, with the input and a link to the data."""
    try:
        output.mkdir(parents=True)
    except FileExistsError:
        sys.exit(f"{output} exists; remove it, or name another folder with --output")
    shutil.copy(EXAMPLE / "input.json", output)
    (output / "data").symlink_to(EXAMPLE / "data")


def run_dp(output, *arguments, watch=lambda: None):
    """Run `dp` in a folder; all that it prints goes to dp.log there.

    Parameters
    ----------
    output : pathlib.Path
        The folder.
    *arguments : str
        Of `dp`.
    watch : callable
        Called every so often while `dp` runs, and once after that.
    """
    log = output / "dp.log"
    with log.open("a") as out:
        process = subprocess.Popen([*DP, *arguments], cwd=output, stdout=out, stderr=out)
        while process.poll() is None:
            time.sleep(POLL)
            watch()
    watch()
    if process.returncode != 0:
        tail = log.read_text(errors="replace").splitlines()[-LINES_OF_LOG:]
        print(*tail, sep="\n", file=sys.stderr)
        sys.exit(f"dp {' '.join(arguments)} failed; all that it printed is in {log}")


class Progress:
    """Prints the masked force error as lcurve.out grows.

    lcurve.out has rmse_pf = sqrt(sum(pref * |dF|^2) / (3 * nframes * nslots)), an average over all
    slots. Each of its validation batches is the whole set (batch_size in input.json), so that
    dividing by the mean of pref instead gives the masked error exactly, to the digits displayed.
    """

    def __init__(self, lcurve):
        self.lcurve = lcurve
        self.shown = 0
        self.start = time.monotonic()
        self.to_masked = 1 / np.sqrt(np.mean(load("atom_pref")))

    def __call__(self):
        """Print a line for each row that is new and complete."""
        if not self.lcurve.exists():
            return
        *lines, _unfinished = self.lcurve.read_text().split("\n")
        rows = [line.split() for line in lines if not line.startswith("#")]
        for row in rows[self.shown :]:
            value = dict(zip(lines[0].lstrip("# ").split(), row, strict=True))
            error = float(value["rmse_pf_val"]) * self.to_masked
            elapsed = time.monotonic() - self.start
            print(f"{value['step']:>8} {error:14.3f} eV/Å {elapsed:8.0f} s", flush=True)
        self.shown = len(rows)


def predicted_forces(model):
    """Return the forces of a frozen model on the validation set, [nframes, nslots * 3]."""
    from deepmd.infer import DeepPot  # noqa: PLC0415  loads TensorFlow, which takes a while

    types = np.loadtxt(VALIDATION / "type.raw", dtype=int)
    _, force, _ = DeepPot(str(model)).eval(load("coord"), None, types, aparam=load("aparam"))
    return force.reshape(len(force), -1)


def main():
    """Train, freeze, evaluate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=EXAMPLE / "run", help="a new folder")
    output = parser.parse_args().output.resolve()
    prepare(output)
    print(f"Training in {output}; dp prints to dp.log there.")
    print("    step   masked error     elapsed", flush=True)
    run_dp(output, "train", "input.json", watch=Progress(output / "lcurve.out"))
    run_dp(output, "freeze", "-o", "model.pb")
    after = masked_error(predicted_forces(output / "model.pb"))
    print("\nForces on the preferred atoms of the validation set, root mean square error:")
    print(f"  predicting no force  {masked_error(0.0):.3f} eV/Å")
    print(f"  frozen model         {after:.3f} eV/Å")
    print(f"The model is {output / 'model.pb'}")


if __name__ == "__main__":
    main()
