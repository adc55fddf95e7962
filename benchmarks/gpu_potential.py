# SPDX-License-Identifier: LGPL-3.0-or-later
"""Times the potential on a GPU and on the CPU, evaluation after evaluation in turn.

Needs kernels for a GPU (docs/gpu.md), and for --openmm OpenMM; neither TensorFlow nor CuPy. Nets
have the shapes of examples/zinc_protein and random parameters, which cost what trained ones do.
Times are medians in ms, as a caller of deepmd_mask.Potential sees them, and with --openmm those of
a step in which a zinc ion's surroundings in water are the region; "model" is the evaluation in it.
"""

import csv
import itertools
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import implementations
from cuda_kernels import NTYPES, random_frames
from plain_models import ZINC, random_nets, write_model

from deepmd_mask import Potential

DEVICES = ("cpu", "cuda")
TYPE_MAP = ["H", "C", "O", "ZN"]
COLUMNS = ["precision", "what", "atoms", "frames", "CPU ms", "GPU ms", "ratio"]


def seconds(run):
    """Return the time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def in_turn(runs, rounds):
    """Return the median of what each returns, after a round that is not counted."""
    found = [[run() for run in runs] for _ in range(rounds + 1)]
    return np.median(found[1:], axis=0)


def weights_of_groups(rng, nframes, natoms):
    """Return weights and groups of three atoms, as waters, of which a fourth is there in part."""
    groups = np.broadcast_to(np.arange(natoms) // 3, (nframes, natoms))
    weights = np.where(rng.random((nframes, natoms)) < 0.25, rng.random((nframes, natoms)), 1.0)
    return {"weights": np.take_along_axis(weights, groups, axis=1), "groups": groups}


def evaluations(model, atoms, frames, rounds, has_weights):
    """Yield a row for each number of atoms and of frames; with weights, two, timed in turn."""
    potentials = [Potential(model, device=device) for device in DEVICES]
    for potential in potentials:
        potential._builtin.clear()  # it is a file of the built-in's kind, but any nets take groups
    rng = np.random.default_rng(0)
    for natoms, nframes in itertools.product(atoms, frames):
        types, positions = random_frames(rng, natoms, nframes)
        given = {"evaluation": {}}
        if has_weights:
            given["with dE/dw"] = weights_of_groups(rng, nframes, natoms)
        runs = [
            partial(seconds, partial(p.evaluate, types, positions, **more))
            for more in given.values()
            for p in potentials
        ]
        times = in_turn(runs, rounds).reshape(len(given), len(DEVICES))
        for what, of_devices in zip(given, times, strict=True):
            yield {"what": what, "atoms": natoms, "frames": nframes}, of_devices


def openmm_steps(model, natoms, rounds):
    """Yield rows of a step of OpenMM, and of the model within it."""
    from openmm_overhead import RADIUS, STEPS, Clock, context, solvate  # noqa: PLC0415

    from deepmd_mask.openmm import DPRegion, dp_force  # noqa: PLC0415

    modeller, clock = solvate(natoms), Clock()

    def run_of(device):
        region = DPRegion([0], RADIUS)
        made = context(modeller, dp_force(model, modeller.topology, region, device=device))

        def step():
            clock.seconds = 0
            whole = seconds(lambda: (made.getIntegrator().step(STEPS), made.getState(energy=True)))
            return whole / STEPS, clock.seconds / STEPS

        return step

    times = in_turn([run_of(device) for device in DEVICES], rounds)
    for what, of_devices in zip(("OpenMM step", "model in it"), times.T, strict=True):
        yield {"what": what, "atoms": clock.atoms, "frames": 1}, of_devices


def row_of(case, precision, times):
    """Return a row of the table."""
    cpu, gpu = times * 1e3
    return {"precision": precision, **case, "CPU ms": cpu, "GPU ms": gpu, "ratio": cpu / gpu}


def line(row):
    """Return a row as text."""
    cells = (f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values())
    return " ".join(f"{cell:>11}" for cell in cells)


@click.command()
@click.option("--atoms", multiple=True, type=int, default=(35, 76, 500), show_default=True)
@click.option("--frames", multiple=True, type=int, default=(1, 64), show_default=True)
@click.option("--rounds", default=20, show_default=True)
@click.option("--weights", "has_weights", is_flag=True, help="Weights with groups and dE/dw, too.")
@click.option("--openmm", "water", type=int, help="Simulate so many atoms of water, too.")
@click.option("--output", type=click.Path(path_type=Path), help="A CSV file of the same table.")
@click.option("--emulated", is_flag=True, help="Try this script without a GPU.")
def main(atoms, frames, rounds, has_weights, water, output, emulated):
    """Time evaluations of real atoms of a frame and frames of a batch."""
    if emulated:
        module = implementations.load("emulated").cuda
        sys.modules["deepmd_mask._cuda_kernels"] = module
    rows = []
    print(line({name: name for name in COLUMNS}))
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("float64", "float32"):
            nets = random_nets(NTYPES, **ZINC, precision=precision, sel=max(atoms))
            model = write_model(Path(folder) / f"{precision}.pb", nets, TYPE_MAP)
            found = [evaluations(model, atoms, frames, rounds, has_weights)]
            if water:
                found.append(openmm_steps(model, water, rounds))
            for case, times in itertools.chain(*found):
                rows.append(row_of(case, precision, times))
                print(line(rows[-1]), flush=True)
    if output:
        with output.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
