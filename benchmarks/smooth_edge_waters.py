# SPDX-License-Identifier: LGPL-3.0-or-later
"""How many waters a smooth edge lets in: python benchmarks/smooth_edge_waters.py MODEL.

The droplet at 300 K, once with the model, and with --direct with what the model was trained on,
GFN2-xTB minus force field. That knows no fractions: the energy of a region with waters that are
there in part is shared out among whole regions, each with a water more, in the order of their
weights (sorted partitioning). It is dear, so the model does the steps between, and every so many
steps the difference comes as an impulse (multiple time steps). Each has the reference that is
fitted to its own derivatives, on the same frames. The peptide is heavier than it is: a mean does
not know of masses, and impulses would be in resonance with its bonds. Goes on where a run before
has stopped.
"""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import openmm as mm
from ase import Atoms, units
from droplet import BUFFER, HERE, RADIUS, Droplet, Prepared, prepare, term_of
from levels import Correction
from openmm import app, unit
from tqdm import tqdm

from deepmd_mask.openmm import DPRegion, Reference
from deepmd_mask.openmm.edge import Entering

INNER, OUTER = 0.002, 5  # ps; steps between impulses of the difference
HEAVY = 4.0  # times its mass, the peptide: impulses every 8 fs at its own drive C=O until SCF fails
FRICTION = 1.0  # 1/ps
LINES = 10  # impulses, or as many steps of the model, between lines
SAVED = 10  # lines between states from which a run can go on
LEFT_OUT = 0.2  # of a run, at its beginning
BLOCKS = 8
KJ_MOL = units.kJ / units.mol  # in eV
COLUMNS = ("time_ps", "waters", "in_part", "cost", "spread", "difference")


class Direct:
    """GFN2-xTB minus force field in a region with a smooth edge, by sorted partitioning.

    Parameters
    ----------
    droplet, model
        The droplet; a model, which only tells what may be in the region.
    region
        With a buffer; of its reference nothing is taken off where it has none.
    """

    def __init__(self, droplet: Droplet, model: Path, region: DPRegion) -> None:
        term = term_of(model, droplet, region)
        (self.region,) = term.regions
        self.correction = Correction(droplet.topology, droplet.positions)
        self.symbols = np.array([a.element.symbol for a in droplet.topology.atoms()])

    def evaluate(self, positions: np.ndarray) -> tuple[float, np.ndarray, Entering]:
        """Return energy (kJ/mol), forces (kJ/mol/nm) on all atoms, and what it costs to enter."""
        region, edge = self.region, self.region.edge
        assert edge is not None
        cut = region.cut(positions, None)
        weights = region.weights(cut.atoms, positions, None)
        of = region.residue[cut.atoms]
        free = np.unique(of[~region.always[of]])
        ranked = free[np.argsort(-weights.w[free], kind="stable")]
        w = np.concatenate([[1.0], weights.w[ranked], [0.0]])
        total, forces = 0.0, np.zeros(positions.shape)
        gradient, before = np.zeros(len(weights.w)), None
        for k in range(np.count_nonzero(w == 1) - 1, len(w) - 1):  # with the first k of them
            there = region.always[of] | np.isin(of, ranked[:k])
            index = cut.atoms[there]
            atoms = Atoms(self.symbols[index], cut.coordinates[there] * units.nm)
            atoms.set_array("index", index)
            energy, on_atoms = self.correction.evaluate(atoms)
            share = w[k] - w[k + 1]
            total += share * energy / KJ_MOL
            forces[index] += share * on_atoms * (units.nm / KJ_MOL)
            if before is not None:
                gradient[ranked[k - 1]] = (energy - before) / KJ_MOL
            before = energy
        entering = edge.enter(weights.w, gradient, region.always)
        for atoms_of, on_them in weights.forces(entering):
            np.add.at(forces, atoms_of, on_them)
        return total - entering.Phi, forces, entering

    def waters(self, entering: Entering) -> float:
        """Return W of waters."""
        assert self.region.edge is not None
        return entering.W[self.region.edge.kinds.index("HOH")]

    def calibrate(self, frames: np.ndarray) -> Reference:
        """Return the reference of waters, fitted as DPRegion.calibrate does."""
        W, slopes = [], []
        for positions in tqdm(frames, "calibration of the direct correction", leave=False):
            _, _, entering = self.evaluate(positions)
            W += [self.waters(entering)] * len(entering.gradients)
            slopes += entering.gradients.tolist()
        beta, alpha = np.polyfit(W, slopes, 1)
        return Reference(alpha, beta, min(W), max(W))


class Difference:
    """Direct correction minus model, for OpenMM; keeps what it found last."""

    def __init__(self, direct: Direct, model: Path, region: DPRegion, droplet: Droplet) -> None:
        self.direct = direct
        self.model = term_of(model, droplet, region)
        self.found: tuple[float, Entering] | None = None

    def __call__(self, state: mm.State) -> tuple[float, np.ndarray]:
        """Return energy and forces on all atoms."""
        positions = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        energy, forces, entering = self.direct.evaluate(positions)
        for part in self.model.parts(positions, None):
            energy -= part.energy
            forces[part.feeling] -= part.forces
        self.found = energy, entering
        return energy, forces


def observed(entering: Entering, waters: float, difference: float) -> list[str]:
    """Return what a line tells: W, waters in part, mean and spread of the cost, in kJ/mol."""
    costs = entering.costs if len(entering.costs) else np.array([np.nan])
    numbers = waters, len(entering.costs), costs.mean(), costs.std(), difference
    return [f"{number:.4f}" for number in numbers]


def run(
    running: app.Simulation,
    observe: Callable[[], list[str]],
    steps: int,
    picoseconds: float,
    output: Path,
) -> None:
    """Go on to so many picoseconds; write a line every so many steps, and states."""
    interval = steps * running.integrator.getStepSize().value_in_unit(unit.picosecond)
    saved, old = output.with_suffix(".xml"), []
    if saved.exists():
        running.loadState(str(saved))
        reached = running.context.getTime().value_in_unit(unit.picosecond)
        with output.open(newline="") as file:
            old = [row for row in list(csv.reader(file))[1:] if float(row[0]) <= reached + 1e-6]
    with output.open("w", newline="", buffering=1) as file:
        writer = csv.writer(file)
        writer.writerows([COLUMNS, *old])
        for k in tqdm(range(len(old), round(picoseconds / interval)), output.stem):
            running.step(steps)
            time = running.context.getTime().value_in_unit(unit.picosecond)
            writer.writerow([f"{time:.3f}", *observe()])
            if (k + 1) % SAVED == 0:
                running.saveState(str(saved))


def mean(path: Path) -> dict:
    """Return the mean of W in a run, without its beginning, and the error, of blocks."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    W = np.array([float(row["waters"]) for row in rows])
    kept = W[int(LEFT_OUT * len(W)) :]
    blocks = [block.mean() for block in np.array_split(kept, min(BLOCKS, len(kept)))]
    error = np.std(blocks, ddof=1) / np.sqrt(len(blocks)) if len(blocks) > 1 else np.nan
    at_end = float(rows[-1]["time_ps"])
    return {"waters": kept.mean(), "error": error, "deviation": kept.std(), "picoseconds": at_end}


def prepared(droplet: Droplet, model: Path, buffer: float, output: Path) -> Prepared:
    """Return what `prepare` does; its frames and state are kept, also for other models."""
    frames, state = (output / name for name in ("frames.npy", "state.xml"))
    if not (frames.exists() and state.exists()):
        found = prepare(droplet, model, buffer)
        np.save(frames, found.frames)
        state.write_text(mm.XmlSerializer.serialize(found.state))
    kept = np.load(frames)
    region = droplet.region(buffer=buffer).calibrate(model, droplet.topology, kept, device="cpu")
    return Prepared(region, kept, mm.XmlSerializer.deserialize(state.read_text()))


@click.command(help=__doc__)
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--direct", is_flag=True, help="With GFN2-xTB minus force field.")
@click.option("--box", type=click.Path(path_type=Path), default=HERE / "build" / "box.pdb")
@click.option("--radius", default=RADIUS, show_default=True, help="Of the region, in nm.")
@click.option("--buffer", default=BUFFER, show_default=True, help="In nm.")
@click.option("--picoseconds", default=100.0, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--outer", default=OUTER, show_default=True, help="Steps between impulses.")
@click.option("--output", type=click.Path(path_type=Path), default=HERE / "build" / "waters")
def main(
    model: Path,
    direct: bool,
    box: Path,
    radius: float,
    buffer: float,
    picoseconds: float,
    seed: int,
    outer: int,
    output: Path,
) -> None:
    """Simulate, and tell W."""
    output.mkdir(parents=True, exist_ok=True)
    droplet = Droplet(box, radius)
    region, frames, state = prepared(droplet, model, buffer, output)
    exact = Direct(droplet, model, region)
    if direct:
        kept = output / "reference_direct.json"
        if not kept.exists():
            blank = Direct(droplet, model, replace(region, reference=None))
            kept.write_text(json.dumps({"HOH": blank.calibrate(frames)}))
        own = {k: Reference(*v) for k, v in json.loads(kept.read_text()).items()}
        exact = Direct(droplet, model, replace(region, reference=own))
        click.echo(f"references: model {region.reference}, direct {own}")
        integrator = mm.MTSLangevinIntegrator(300, FRICTION, outer * INNER, [(1, 1), (0, outer)])
    else:
        integrator = mm.LangevinMiddleIntegrator(300, FRICTION, INNER)
    integrator.setRandomNumberSeed(seed)
    running = droplet.simulation(model, region, integrator)
    for atom in droplet.peptide:
        running.system.setParticleMass(atom, HEAVY * running.system.getParticleMass(atom))
    difference = Difference(exact, model, region, droplet)
    if direct:
        force = mm.PythonForce(difference, {}, [])
        force.setForceGroup(1)
        running.system.addForce(force)
    running.context.reinitialize()

    def observe() -> list[str]:
        if direct and difference.found is not None:
            energy, entering = difference.found
            return observed(entering, exact.waters(entering), energy)
        r = running.context.getState(getPositions=True).getPositions(asNumpy=True)
        (part,) = difference.model.parts(r.value_in_unit(unit.nanometer), None)
        return observed(part.entering, exact.waters(part.entering), 0.0)

    running.context.setState(state)
    running.context.setVelocitiesToTemperature(300, seed)
    running.context.setTime(0)
    steps = LINES if direct else LINES * outer
    path = output / f"{'direct' if direct else 'model'}_{seed}.csv"
    run(running, observe, steps, picoseconds, path)
    click.echo(json.dumps({path.stem: mean(path)}))


if __name__ == "__main__":
    main()
