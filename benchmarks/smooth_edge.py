# SPDX-License-Identifier: LGPL-3.0-or-later
"""What the edge of a DP region does to the energy: python benchmarks/smooth_edge.py MODEL.

A droplet of examples/dpmm_openmm, without a thermostat: with the force field alone, with an abrupt
region, with a smooth one, and with a smooth one that lacks the forces of its weights. Tells drifts,
scatter about them, and how far minimisers come. MODEL is one of the example's models.
"""

import json
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import openmm as mm
from droplet import BUFFER, HERE, RADIUS, Droplet, prepare
from matplotlib.figure import Figure
from openmm import unit
from system import TIMESTEP, force_field, load, simulation
from tqdm import tqdm

from deepmd_mask.openmm import DPRegion, dp_force
from deepmd_mask.openmm.edge import Weights

INTERVAL = 0.01  # ps, between energies
BLOCKS = 6
TITLES = {
    "force field": "force field",
    "abrupt": "abrupt edge",
    "no forces": "smooth, without the forces of weights",
    "smooth": "smooth edge",
}
AVOGADRO = 602.214  # Da / nm³ in g/cm³
KJ = unit.kilojoule_per_mole


def conserve(
    droplet: Droplet,
    model: Path,
    region: DPRegion | None,
    state: mm.State,
    picoseconds: float,
    timestep: float,
    what: str,
) -> dict:
    """Run without a thermostat; return time (ps), total energies (kJ/mol), drift and scatter."""
    running = droplet.simulation(model, region, mm.VerletIntegrator(timestep))
    running.context.setPositions(state.getPositions())
    running.context.setVelocities(state.getVelocities())
    steps = round(INTERVAL / timestep)
    time, total = [], []
    for k in tqdm(range(round(picoseconds / INTERVAL)), what, leave=False):
        running.step(steps)
        found = running.context.getState(getEnergy=True)
        energy = found.getPotentialEnergy() + found.getKineticEnergy()
        total.append(energy.value_in_unit(KJ))
        time.append((k + 1) * INTERVAL)
    slope, at_0 = np.polyfit(time, total, 1)
    scatter = np.std(np.array(total) - np.polyval([slope, at_0], time))
    shown = np.round(np.array(total) - total[0], 5).tolist()
    return {
        "timestep": timestep,
        "picoseconds": picoseconds,
        "drift": slope,
        "scatter": scatter,
        "energies": shown,
    }


def minimise(droplet: Droplet, model: Path, region: DPRegion, state: mm.State) -> dict:
    """Minimise the droplet, twice; return by how much the energy changes, in kJ/mol."""
    running = droplet.simulation(model, region, mm.VerletIntegrator(0.001))
    running.context.setPositions(state.getPositions())

    def energy() -> float:
        return running.context.getState(getEnergy=True).getPotentialEnergy().value_in_unit(KJ)

    found = [energy()]
    for _ in range(2):  # the second time shows whether the first came to an end
        running.minimizeEnergy(maxIterations=5000)
        found.append(energy())
    return {"first": found[1] - found[0], "second": found[2] - found[1]}


def pressurise(box: Path, model: Path, region: DPRegion, picoseconds: float) -> dict:
    """Run the example's whole box at 1 bar; return densities, without the first quarter.

    The error is that of a mean of blocks, some picoseconds long at least: a volume takes one or two
    to forget itself.
    """
    whole = load(box)
    found = {}
    for name in ("force field", "smooth"):
        system = force_field(whole)
        system.addForce(mm.MonteCarloBarostat(1.0, 300, 10))
        if name == "smooth":
            edge = {"buffer": region.buffer, "reference": region.reference}
            there = replace(whole.region(), radius=region.radius, **edge)
            force = dp_force(model, whole.topology, there, device="cpu")
            system.addForce(force)
        running = simulation(whole, system, 300, seed=1)
        masses = [system.getParticleMass(k)._value for k in range(system.getNumParticles())]
        densities = []
        for _ in tqdm(range(round(10 * picoseconds)), f"1 bar, {name}", leave=False):
            running.step(round(0.1 / TIMESTEP))
            volume = running.context.getState().getPeriodicBoxVolume()._value
            densities.append(sum(masses) / volume / AVOGADRO)
        kept = np.array(densities[len(densities) // 4 :])
        blocks = [block.mean() for block in np.array_split(kept, BLOCKS)]
        error = np.std(blocks, ddof=1) / np.sqrt(BLOCKS)
        found[name] = {"density": kept.mean(), "error": error, "picoseconds": picoseconds}
        click.echo(f"1 bar, {name}: {kept.mean():.4f} +- {error:.4f} g/cm^3")
    return found


def draw(runs: dict[str, dict], path: Path) -> None:
    """Draw energies over time: of all edges, and of the two that conserve it."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for k, (name, title) in enumerate(TITLES.items()):
        for run in (run for run in runs.values() if run["what"] == name):
            time = INTERVAL * np.arange(1, len(run["energies"]) + 1)
            first = run["timestep"] == max(one["timestep"] for one in runs.values())
            if first:
                left.plot(time, run["energies"], color=f"C{k}", label=title, linewidth=1)
            if name in ("force field", "smooth"):
                label = f"{title}, {1000 * run['timestep']:g} fs"
                shade = 0.4 if first else 1
                right.plot(time, run["energies"], color=f"C{k}", alpha=shade, label=label, lw=0.8)
    for panel in (left, right):
        panel.set_xlabel("time (ps)")
        panel.grid(alpha=0.3)
        panel.legend(fontsize="x-small")
    left.set_yscale("symlog", linthresh=1)  # a water that enters is 13,000 kJ/mol
    left.set_ylabel("change of the total energy (kJ/mol)")
    figure.savefig(path, dpi=110)


@click.command(help=__doc__)
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--box", type=click.Path(path_type=Path), default=HERE / "build" / "box.pdb")
@click.option("--radius", default=RADIUS, show_default=True, help="Of the region, in nm.")
@click.option("--buffer", default=BUFFER, show_default=True, help="In nm.")
@click.option("--picoseconds", default=10.0, show_default=True)
@click.option("--timestep", "timesteps", multiple=True, default=(0.001, 0.0005), help="In ps.")
@click.option("--controls", default=2.5, show_default=True, help="Picoseconds of what drifts.")
@click.option("--barostat", default=0.0, show_default=True, help="Picoseconds at 1 bar.")
@click.option("--output", type=click.Path(path_type=Path), default=HERE / "results")
def main(
    model: Path,
    box: Path,
    radius: float,
    buffer: float,
    picoseconds: float,
    timesteps: tuple[float, ...],
    controls: float,
    barostat: float,
    output: Path,
) -> None:
    """Measure, and write smooth_edge.json and smooth_edge.png."""
    droplet = Droplet(box, radius)
    region, _, state = prepare(droplet, model, buffer)
    abrupt = droplet.region()
    (reference,) = region.reference.values()
    found = {"atoms": droplet.topology.getNumAtoms(), "radius": radius, "buffer": buffer}
    found |= {"reference": reference._asdict(), "runs": {}}
    regions = {"force field": None, "smooth": region, "abrupt": abrupt, "no forces": region}
    weighed = Weights.forces
    for timestep in timesteps:
        for what, which in regions.items():
            control = what in ("abrupt", "no forces")
            if control and timestep != max(timesteps):
                continue
            length = controls if control else picoseconds
            try:
                if what == "no forces":
                    Weights.forces = lambda *_: iter(())
                name = f"{TITLES[what]}, {1000 * timestep:g} fs"
                run = conserve(droplet, model, which, state, length, timestep, name)
            finally:
                Weights.forces = weighed
            found["runs"][name] = {"what": what, **run}
            click.echo(f"{name}: {run['drift']:.4f} kJ/mol/ps, scatter {run['scatter']:.5f}")
            write(found, output)
    found["minimised"] = {
        name: minimise(droplet, model, which, state)
        for name, which in {"abrupt": abrupt, "smooth": region}.items()
    }
    click.echo(json.dumps(found["minimised"], indent=1))
    if barostat:
        found["1 bar"] = pressurise(box, model, region, barostat)
    write(found, output)


def write(found: dict, output: Path) -> None:
    """Write results and figure."""
    (output / "smooth_edge.json").write_text(json.dumps(found) + "\n")
    draw(found["runs"], output / "smooth_edge.png")


if __name__ == "__main__":
    main()
