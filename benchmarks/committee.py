# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a committee costs: python benchmarks/committee.py MODEL [MODEL …].

A step of OpenMM with the model of examples/dpmm_openmm, with four, and with none; and the bare
evaluation of its region, by one and by four. All in turn, round after round; the lower quartile of
wall and of CPU time, in ms. One MODEL stands for four of its kind, each with memory of its own.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from ase.data import chemical_symbols
from tqdm import tqdm

from deepmd_mask import Potential

sys.path.append(str(Path(__file__).resolve().parent.parent / "examples" / "dpmm_openmm"))
from system import Box, add_correction, force_field, load, simulation

SIZE = 4  # of a committee
STEPS = 20  # in one go


def step_of(box: Box, models: list[str], threads: int) -> Callable[[], None]:
    """Return what takes STEPS steps with these models, if any."""
    system = force_field(box)
    if models:
        add_correction(system, box, models)
    running = simulation(box, system, 300.0, seed=1, threads=threads)

    def step() -> None:
        running.step(STEPS)
        running.context.getState(energy=True)  # waits for the last step

    return step


def evaluation_of(box: Box, models: list[str], threads: int) -> Callable[[], None]:
    """Return what evaluates the region."""
    cut = box.region().cut(box.topology, box.positions)
    elements = [atom.element.symbol for atom in box.topology.atoms()]
    potential = Potential(models, device="cpu", threads=threads)
    names = [name.capitalize() for name in potential.type_map]
    assert set(names) <= set(chemical_symbols)
    types = [names.index(elements[atom]) for atom in cut.atoms]
    positions = 10 * cut.coordinates

    def evaluate() -> None:
        for _ in range(STEPS):
            potential.evaluate(types, positions)

    return evaluate


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--box", type=click.Path(path_type=Path), help="Of the example; built by default.")
@click.option("--threads", type=int, default=2, show_default=True)
@click.option("--rounds", type=int, default=20, show_default=True)
def main(models: tuple[str, ...], box: Path | None, threads: int, rounds: int) -> None:
    """Measure."""
    four = [models[k % len(models)] for k in range(SIZE)]
    with tempfile.TemporaryDirectory() as folder:
        loaded = load(box or Path(folder) / "box.pdb")
    ways = {
        "step, no model": step_of(loaded, [], threads),
        "step, one model": step_of(loaded, four[:1], threads),
        "step, committee": step_of(loaded, four, threads),
        "evaluation, one model": evaluation_of(loaded, four[:1], threads),
        "evaluation, committee": evaluation_of(loaded, four, threads),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in tqdm(range(rounds + 1)):
        for name, way in ways.items():
            start = time.perf_counter(), time.process_time()
            way()
            times[name].append(
                (time.perf_counter() - start[0], time.process_time() - start[1])
            )  # fmt: skip
    found = {
        name: 1e3 / STEPS * np.quantile(all_of_them[1:], 0.25, axis=0)  # the first round warms up
        for name, all_of_them in times.items()
    }
    print(f"{threads} threads\n{'':24}{'wall':>8}{'CPU':>8}")
    for name, (wall, cpu) in found.items():
        print(f"{name:24}{wall:8.2f}{cpu:8.2f}")
    for what in ("step", "evaluation"):
        wall, cpu = found[f"{what}, committee"] / found[f"{what}, one model"]
        print(f"{f'{what}, to one model':24}{wall:8.2f}{cpu:8.2f}")


if __name__ == "__main__":
    main()
