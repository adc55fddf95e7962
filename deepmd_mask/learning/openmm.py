# SPDX-License-Identifier: LGPL-3.0-or-later
"""Explores with OpenMM: molecular dynamics of a user's system with the committee in its region."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openmm
from openmm import app

from ..data.packing.preferences import Preference
from ..openmm import DeviationError, DPRegion, FrameReporter, RegionReporter, dp_force
from ..shared.reason import reason_of
from .calling import function_of
from .frames import read_frames, write_frames
from .tasks import LAST

if TYPE_CHECKING:
    from ase import Atoms

Range = float | Sequence[float]
END = "end.npz"  # where a trajectory has ended


@dataclass
class Setup:
    """What a user's function `build` returns.

    Attributes
    ----------
    topology, system, positions
        Of OpenMM; the system is without the committee, which is added to it.
    region
        Where the committee acts, and which frames are cut out.
    cuts
        Further regions, of other radii, say, that frames are cut out of, too.
    box
        Box vectors; by default the system's.
    thin
        Called with each frame of `cuts` and a random generator, returns the frame to take in its
        place: without some of its molecules, say.
    options, force_group
        Of `dp_force`, and the group of that force.
    integrator
        Called with a temperature in K, returns the integrator; by default a
        LangevinMiddleIntegrator with the time step and friction that `explore` is given.
    disturb
        Called before each frame with the Simulation and a random generator, to set parameters of
        forces that pull, say.
    """

    topology: app.Topology
    system: openmm.System
    positions: Any
    region: DPRegion
    cuts: Sequence[DPRegion] = ()
    box: Any = None
    thin: Callable[["Atoms", np.random.Generator], "Atoms"] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    force_group: int = 0
    integrator: Callable[[float], openmm.Integrator] | None = None
    disturb: Callable[[app.Simulation, np.random.Generator], object] | None = None


def explore(
    committee: list[str],
    folder: Path,
    task: int,
    seed: int,
    *,
    build: str,
    steps: int,
    interval: int,
    settle: int = 0,
    resume: bool = False,
    temperature: Range = 300.0,
    timestep: float = 0.001,
    friction: float = 1.0,
    stop: float | None = None,
    preference: str | None = None,
    platform: str = "CPU",
    **options: Any,
) -> None:
    """Run molecular dynamics and write the frames of the region to frames.xyz.

    Parameters
    ----------
    committee
        Frozen models; none in the beginning, when the system is simulated as it is.
    folder
        To write to.
    task, seed
        Number and seed of the trajectory.
    build
        `module:function`, called as `function(committee, task, seed, **options)`, returns a
        `Setup`.
    steps, interval
        Of the trajectory, and between frames.
    settle
        Steps before these, as all trajectories begin in one configuration.
    resume
        Whether a trajectory begins where that of the same number ended in the last iteration, with
        new velocities; unless that was stopped, or exploded.
    temperature
        In K; of two numbers, something between, drawn anew for each trajectory.
    timestep, friction
        In ps and 1/ps, of LangevinMiddleIntegrator.
    stop
        eV/Å; the trajectory ends where max_devi_f of preferred atoms is larger. The frames that do
        not come count as failed, also where the simulation fails after its first frame; why is
        then in the info of the last one, as `ended`.
    preference
        Which atoms these are, as of `RegionReporter`; `dp-mask learn` gives that of the loop.
    platform
        Of OpenMM.
    options
        For `build`.
    """
    setup = function_of(build)(committee, task, seed, **options)
    if not isinstance(setup, Setup):
        raise ValueError(f"{build} returns a {type(setup).__name__}; let it return a Setup")
    rng = np.random.default_rng(seed)
    lo, hi = np.broadcast_to(temperature, 2).tolist()
    drawn = rng.uniform(lo, hi)
    if setup.integrator is None:
        integrator = openmm.LangevinMiddleIntegrator(drawn, friction, timestep)
    else:
        integrator = setup.integrator(drawn)
    end = folder.parent / LAST / END
    if resume and end.exists():
        with np.load(end) as saved:
            setup.positions, setup.box = saved["positions"], saved["box"]
    simulation = _start(setup, committee, integrator, drawn, seed, platform)
    simulation.step(settle)
    simulation.currentStep = 0
    nframes = steps // interval
    rule = _one_of_several(preference)
    files = _report(simulation, setup, committee, folder, interval, nframes, stop, rule)
    done, is_trusted, reason = _run(simulation, setup, rng, interval, nframes)
    if resume and is_trusted:
        _save(simulation, folder / END)
    frames = read_frames(files[0])
    of_cuts = [atoms for file in files[1:] for atoms in read_frames(file)]
    frames += of_cuts if setup.thin is None else [setup.thin(atoms, rng) for atoms in of_cuts]
    _write(folder, frames, (nframes - done) * len(files), reason)
    for file in files:
        file.unlink(missing_ok=True)


def _one_of_several(preference: str | None) -> str | Preference | None:
    """Return a rule of which one of several systems may lack elements.

    The loop has held it to the type map. Names of atoms are known to a system alone.
    """
    rule = None if preference is None else Preference.parse(preference)
    return rule if rule is not None and rule.array is None else preference


def _start(
    setup: Setup,
    committee: list[str],
    integrator: openmm.Integrator,
    temperature: float,
    seed: int,
    platform: str,
) -> app.Simulation:
    """Return a Simulation with velocities."""
    if committee:
        force = dp_force(committee, setup.topology, setup.region, **setup.options)
        force.setForceGroup(setup.force_group)
        setup.system.addForce(force)
    integrator.setRandomNumberSeed(seed)
    chosen = openmm.Platform.getPlatform(platform)
    simulation = app.Simulation(setup.topology, setup.system, integrator, chosen)
    if setup.box is not None:
        simulation.context.setPeriodicBoxVectors(*setup.box)
    simulation.context.setPositions(setup.positions)
    simulation.context.setVelocitiesToTemperature(temperature, seed)
    return simulation


def _save(simulation: app.Simulation, path: Path) -> None:
    """Write positions and box, in nm."""
    state = simulation.context.getState(getPositions=True)
    box = state.getPeriodicBoxVectors(asNumpy=True)._value
    np.savez(path, positions=state.getPositions(asNumpy=True)._value, box=box)


def _report(
    simulation: app.Simulation,
    setup: Setup,
    committee: list[str],
    folder: Path,
    interval: int,
    nframes: int,
    stop: float | None,
    preference: str | Preference | None,
) -> list[Path]:
    """Add reporters, the one that stops last, and return the files of frames, one for a region."""
    regions = [None if committee else setup.region, *setup.cuts]
    files = [folder / f"region_{number}.xyz" for number in range(len(regions))]
    types = setup.options.get("types", "element")
    for file, region in zip(files, regions, strict=True):
        more = {} if region is None else {"regions": region, "types": types}
        reporter = FrameReporter(file, interval, most=nframes, preference=preference, **more)
        simulation.reporters.append(reporter)
    if committee:
        path = folder / "region.csv"
        bound = RegionReporter(path, interval, preference=preference, stop_above=stop)
        simulation.reporters.append(bound)
    return files


def _run(
    simulation: app.Simulation,
    setup: Setup,
    rng: np.random.Generator,
    interval: int,
    nframes: int,
) -> tuple[int, bool, str]:
    """Run.

    Returns
    -------
    int
        How many frames have come.
    bool
        Whether that is all, and they are trusted.
    str
        What has failed after them; empty if nothing has.
    """
    for done in range(nframes):
        if setup.disturb is not None:
            setup.disturb(simulation, rng)
        try:
            simulation.step(interval)
        except DeviationError as end:
            print(end)
            return done + 1, False, ""
        except (openmm.OpenMMException, ValueError) as end:  # most often it explodes
            print(f"the trajectory ends after {done} frames: {end}")
            if done == 0:
                raise
            return done, False, reason_of(end)
    return nframes, True, ""


def _write(folder: Path, frames: "list[Atoms]", lost: int, reason: str) -> None:
    """Write all frames; the last one tells how many are lost, and by what failure."""
    if frames and lost:
        frames[-1].info["lost"] = lost
    if frames and reason:
        frames[-1].info["ended"] = reason
    write_frames(folder / "frames.xyz", frames)
