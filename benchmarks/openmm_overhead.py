# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a DP region costs an OpenMM simulation beyond the evaluation of its model.

The system is a zinc ion in a box of water that nothing but the model acts on, so that a step
without the model is almost free. Each way to have the model is timed in turn, round after round.
Prints medians per step: of all, and of what is neither the model nor the step itself.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import openmm as mm
from openmm import app, unit
from tqdm import tqdm

from deepmd_mask import Potential, Prediction
from deepmd_mask.openmm import DPRegion, dp_force

EXAMPLE = Path(__file__).parent.parent / "examples" / "zinc_protein"
RADIUS = 0.5  # nm
STEPS = 20  # in one go
NONE = "no model"


def train(folder: Path) -> Path:
    """Return a model like the example's, trained for one step: it costs what a better one does."""
    jdata = json.loads((EXAMPLE / "input.json").read_text())
    jdata["training"].update(numb_steps=1, training_data={"systems": [str(EXAMPLE / "data/train")]})
    jdata["training"].pop("validation_data")
    (folder / "input.json").write_text(json.dumps(jdata))
    dp = Path(sys.executable).parent / "dp"
    for command in (["train", "input.json"], ["freeze", "-o", "model.pb"]):
        subprocess.run([dp, *command], cwd=folder, check=True, capture_output=True)
    return folder / "model.pb"


def solvate(natoms: int) -> app.Modeller:
    """Return a zinc ion in so many atoms of water, about."""
    topology = app.Topology()
    residue = topology.addResidue("ZN", topology.addChain())
    topology.addAtom("ZN", app.Element.getBySymbol("Zn"), residue)
    modeller = app.Modeller(topology, [mm.Vec3(0, 0, 0)] * unit.nanometer)
    force_field = app.ForceField("amber14/tip3p.xml")
    modeller.addSolvent(force_field, numAdded=natoms // 3, neutralize=False)
    return modeller


def context(modeller: app.Modeller, force: mm.Force | None) -> mm.Context:
    """Return a Context in which this force acts, if any, and the atoms hardly move."""
    system = mm.System()
    for atom in modeller.topology.atoms():
        system.addParticle(atom.element.mass)
    system.setDefaultPeriodicBoxVectors(*modeller.topology.getPeriodicBoxVectors())
    if force is not None:
        system.addForce(force)
    made = mm.Context(system, mm.VerletIntegrator(1e-6), mm.Platform.getPlatform("CPU"))
    made.setPositions(modeller.positions)
    return made


def ways(model: Path, modeller: app.Modeller) -> dict[str, mm.Context]:
    """Return the ways to have the model, and none, by name."""
    topology, positions = modeller.topology, modeller.positions
    region = DPRegion([0], RADIUS)
    second = int(region.cut(topology, positions).atoms[-1])
    droplet = DPRegion([0], 1.5 * RADIUS).cut(topology, positions).atoms
    forces = {
        NONE: None,
        "adaptive": dp_force(model, topology, region),
        "adaptive, two centres": dp_force(model, topology, DPRegion([0, second], RADIUS)),
        "adaptive, candidates": dp_force(model, topology, region, candidates=droplet),
        "fixed": dp_force(model, topology, region.fix(topology, positions)),
    }
    return {name: context(modeller, force) for name, force in forces.items()}


class Clock:
    """Adds up the seconds that models take to evaluate regions, and the atoms of these."""

    def __init__(self) -> None:
        self.seconds = self.atoms = 0
        evaluate = Potential.evaluate

        def timed(potential: Potential, types: np.ndarray, *args: Any, **kwargs: Any) -> Prediction:
            start = time.perf_counter()
            found = evaluate(potential, types, *args, **kwargs)
            self.seconds += time.perf_counter() - start
            self.atoms = len(types)
            return found

        Potential.evaluate = timed


def measure(model: Path, natoms: int, rounds: int, clock: Clock) -> list[dict]:
    """Time all ways in a system of so many atoms."""
    modeller = solvate(natoms)
    contexts = ways(model, modeller)
    found = {name: [] for name in contexts}
    atoms = dict.fromkeys(contexts, 0)
    for _, (name, made) in tqdm(
        itertools.product(range(rounds + 1), contexts.items()), total=(rounds + 1) * len(contexts)
    ):
        clock.seconds = clock.atoms = 0
        start = time.perf_counter()
        made.getIntegrator().step(STEPS)
        made.getState(energy=True)  # waits for the last step
        step = time.perf_counter() - start
        atoms[name] = clock.atoms
        found[name].append((1e3 * step / STEPS, 1e3 * clock.seconds / STEPS))
    rows = []
    for name, times in found.items():
        step, model_alone = np.median(times[1:], axis=0)  # the first round warms up
        row = {"atoms": modeller.topology.getNumAtoms(), "way": name, "in region": atoms[name]}
        rows.append(row | {"step": step, "model": model_alone})
        rows[-1]["beyond"] = step - model_alone - rows[0]["step"]
    return rows


def main() -> None:
    """Measure in systems of several sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atoms", type=int, nargs="+", default=[1000, 10000, 100000])
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        model = train(Path(folder))
        rows = [
            row
            for natoms in arguments.atoms
            for row in measure(model, natoms, arguments.rounds, clock)
        ]
    print(" | ".join(rows[0]))
    for row in rows:
        print(" | ".join(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values()))


if __name__ == "__main__":
    main()
