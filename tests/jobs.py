# SPDX-License-Identifier: LGPL-3.0-or-later
"""Run several dp commands in one process, because each start of TensorFlow takes seconds.

A job is a list: a working directory, then the arguments of ``dp``; or, in their place, "eval",
a frozen model and a system, which writes what DeepPot gives, frame by frame, to MODEL.npz.
DP_MASK=builtin in the environment makes the built-in do it.
"""

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np

if os.environ.get("DP_MASK") == "builtin":
    import builtin  # noqa: F401  the built-in, made able to start from a frozen model

from deepmd.main import main

OUTPUTS = ("energy", "force", "virial", "atom_energy", "atom_virial")


def evaluate(model, coord, types, mask, atomic=True, batch=None):
    """Evaluate a model on frames.

    Parameters
    ----------
    model
        A DeepPot or the path of a frozen model.
    coord, types, mask
        [nframes, nslots, 3], [nslots] and [nframes, nslots].
    atomic
        Whether atomic energies and virials are wanted.
    batch
        Number of frames to give at once; the built-in takes one only.

    Returns
    -------
    dict
        Arrays by name.
    """
    if not hasattr(model, "eval"):
        from deepmd.infer import DeepPot

        model = DeepPot(str(model))
    nframes, nslots = mask.shape
    parts = [slice(f, f + (batch or nframes)) for f in range(0, nframes, batch or nframes)]
    results = [
        model.eval(
            coord[part].reshape(-1, 3 * nslots),
            None,
            types,
            atomic=atomic,
            aparam=mask[part].reshape(-1, nslots),
        )
        for part in parts
    ]
    return {
        name: np.concatenate(arrays)
        for name, arrays in zip(OUTPUTS, zip(*results, strict=True), strict=False)
    }


def evaluate_system(model, system):
    """Evaluate a frozen model on the first set of a system and write the result beside it."""
    types = np.loadtxt(Path(system) / "type.raw", dtype=int)
    coord, mask = (np.load(Path(system) / "set.000" / f"{k}.npy") for k in ("coord", "aparam"))
    np.savez(f"{model}.npz", **evaluate(model, coord.reshape(*mask.shape, 3), types, mask, batch=1))


def wants_summaries(arguments):
    """Whether a job trains with TensorBoard, or needs names that only summaries take.

    Beside a graph that they have built, dp change-bias and convert-backend load another one, and
    freezing takes "matrix_1", as the second of a name is called, for a variable of their own.
    """
    command, *more = arguments
    inputs = [Path(word) for word in more if str(word).endswith(".json")]
    with_board = any(file.exists() and "tensorboard" in file.read_text() for file in inputs)
    return command in ("change-bias", "convert-backend") or with_board


def run(jobs):
    """Run the jobs one after the other."""
    from graphs import leave_out_summaries

    home = Path.cwd()
    for directory, *arguments in jobs:
        os.chdir(directory)
        try:
            leave_out_summaries(not wants_summaries(arguments))
            if arguments[0] == "eval":
                evaluate_system(*arguments[1:])
            else:
                main(arguments)
        finally:
            leave_out_summaries()
            os.chdir(home)


if __name__ == "__main__":
    from graphs import as_built

    of_builtin = os.environ.get("DP_MASK") == "builtin"
    with as_built() if of_builtin else nullcontext():
        run(json.loads(Path(sys.argv[1]).read_text()))
