# SPDX-License-Identifier: LGPL-3.0-or-later
"""Small masked systems, inputs for them, and ``dp`` on both, as many tests want them."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import forks
import numpy as np

TESTS = Path(__file__).parent
TYPE_MAP = ["C", "O", "ZN"]
SLOTS = (5, 4, 2)  # of each type
ATOM_ENERGIES = np.array([-5.0, -7.0, -11.0])


class Frames(NamedTuple):
    """The data of one system; arrays as in the files, unflattened."""

    types: np.ndarray  # [nslots]
    coord: np.ndarray  # [nframes, nslots, 3]
    mask: np.ndarray  # [nframes, nslots]
    energy: np.ndarray  # [nframes]
    force: np.ndarray  # [nframes, nslots, 3]
    preference: np.ndarray  # [nframes, nslots]

    def take(self, frames):
        """Return a choice of frames."""
        return Frames(self.types, *(array[frames] for array in self[1:]))

    def counts(self):
        """Count the real atoms of each type, [nframes, ntypes]."""
        return np.stack([self.mask[:, self.types == t].sum(axis=1) for t in range(3)], axis=1)

    def shortest(self):
        """Return the distance of the two closest real atoms of any frame."""
        shortest = np.inf
        for coord, mask in zip(self.coord, self.mask, strict=True):
            r = coord[mask == 1]
            d = np.linalg.norm(r[:, None] - r, axis=2)
            shortest = min(shortest, d[d > 0].min(initial=np.inf))
        return shortest


def random_frames(seed=0, slots=SLOTS, nframes=3, nreal=None):
    """Real atoms anywhere among the slots of their type, on a shaken lattice.

    Parameters
    ----------
    seed
        Of everything.
    slots
        Number of slots of each type.
    nframes
        Number of frames.
    nreal
        Real atoms of each type in each frame; by default a random number, at least half.
    """
    rng = np.random.default_rng(seed)
    types = np.repeat(np.arange(len(slots)), slots)
    if nreal is None:
        nreal = [[rng.integers((n + 1) // 2, n + 1) for n in slots] for _ in range(nframes)]
    mask = np.zeros((len(nreal), len(types)))
    for frame, counts in enumerate(nreal):
        for t, count in enumerate(counts):
            mask[frame, rng.permutation(np.flatnonzero(types == t))[:count]] = 1
    shape = (*mask.shape, 3)
    lattice = 1.7 * np.stack(np.unravel_index(np.arange(5**3), (5, 5, 5)), axis=1)
    coord = np.stack([rng.permutation(lattice[: 2 * len(types)])[: len(types)] for _ in nreal])
    coord += rng.uniform(-0.4, 0.4, size=shape)
    energy = np.array([ATOM_ENERGIES[: len(slots)] @ counts for counts in nreal])
    return Frames(
        types,
        coord,
        mask,
        energy + rng.normal(scale=0.1, size=len(nreal)),
        rng.normal(size=shape) * mask[..., None],
        mask * (rng.uniform(size=mask.shape) < 0.7),
    )


def write_system(path, frames, type_map=TYPE_MAP, nsets=1):
    """Write the frames as a deepmd/npy directory and return its path."""
    path.mkdir(parents=True)
    np.savetxt(path / "type.raw", frames.types, fmt="%d")
    (path / "type_map.raw").write_text("\n".join(type_map) + "\n")
    (path / "nopbc").touch()
    for k, chosen in enumerate(np.array_split(np.arange(len(frames.mask)), nsets)):
        part = frames.take(chosen)
        directory = path / f"set.{k:03d}"
        directory.mkdir()
        files = {
            "coord": part.coord,
            "force": part.force,
            "energy": part.energy,
            "aparam": part.mask,
            "atom_pref": part.preference,
        }
        for name, array in files.items():
            np.save(directory / f"{name}.npy", array.reshape(len(chosen), -1))
    return path


def write_hdf5(path, system):
    """Copy a system into a group of an HDF5 file and return the group's path."""
    import h5py

    with h5py.File(path, "w") as file:
        for part in system.rglob("*"):
            name = f"water/{part.relative_to(system)}"
            if part.suffix == ".npy":
                file[name] = np.load(part)
            elif part.name == "type.raw":
                file[name] = np.loadtxt(part, dtype=int)
            elif part.name == "type_map.raw":
                file[name] = np.array(part.read_text().split(), dtype="S")
            elif part.name == "nopbc":
                file[name] = True
    return f"{path}#/water"


def make_input(systems, validation=None, steps=10, sel=SLOTS, **sections):
    """Return an input for ``dp train``.

    Parameters
    ----------
    systems, validation
        Paths of systems.
    steps
        Number of steps.
    sel
        Of the descriptor.
    sections
        What to change in the descriptor, fitting_net, learning_rate, training, training_data, loss,
        model.
    """

    def section(name, **defaults):
        return {**defaults, **sections.pop(name, {})}

    data = {"systems": [str(s) for s in systems], "batch_size": 1, **section("training_data")}
    training = {
        "training_data": data,
        "numb_steps": steps,
        "seed": 1,
        "disp_file": "lcurve.out",
        "disp_freq": 1,
        "save_freq": 100,
        **section("training"),
    }
    if validation:
        training["validation_data"] = {"systems": [str(s) for s in validation], "batch_size": 1}
    jdata = {
        "model": {
            "type_map": TYPE_MAP,
            "descriptor": section(
                "descriptor",
                type="se_a_mask",
                sel=list(sel) if sel != "auto" else sel,
                neuron=[5, 10, 10],
                axis_neuron=3,
                type_one_side=False,
                resnet_dt=False,
                seed=1,
            ),
            "fitting_net": section(
                "fitting_net",
                neuron=[9, 9],
                resnet_dt=True,
                seed=1,
                numb_aparam=1,
                use_aparam_as_mask=True,
            ),
            **section("model"),
        },
        "learning_rate": section(
            "learning_rate", type="exp", decay_steps=100, start_lr=2e-3, stop_lr=1e-3
        ),
        "loss": section(
            "loss",
            type="ener",
            start_pref_e=0.0,
            limit_pref_e=0.0,
            start_pref_f=0.0,
            limit_pref_f=0.0,
            start_pref_pf=1.0,
            limit_pref_pf=1.0,
        ),
        "training": training,
    }
    assert not sections, f"no such section: {list(sections)}"
    return jdata


def write_input(directory, jdata, name="input.json"):
    """Write an input to a directory that need not exist, and return the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(json.dumps(jdata))
    return directory


def _limit_computing(seconds=800):
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


# For subprocess.run: what a second process may compute, however busy the machine is; and what
# waits for nothing ends, too.
LIMITS = {"timeout": 3000, "preexec_fn": _limit_computing}


def run_python(args, cwd, succeeds=True, python=sys.executable, forked=False, **environment):
    """Run Python in a second process.

    Parameters
    ----------
    args
        Of the interpreter.
    cwd
        Working directory.
    succeeds
        Whether the exit status must be 0; otherwise it must not be 0.
    python
        The interpreter, by default this one.
    forked
        Whether it may begin as a fork of one that has imported TensorFlow, see forks.py.
    environment
        Additional variables; None takes one away.

    Returns
    -------
    str
        All that it printed.
    """
    env = {**os.environ, **environment, **(forks.environment() if forked else {})}
    env = {name: value for name, value in env.items() if value is not None}
    done = subprocess.run(
        [str(python), *map(str, args)],
        cwd=cwd,
        env=env,
        check=False,
        **LIMITS,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert (done.returncode == 0) == succeeds, f"exit status {done.returncode}\n{tail(done.stdout)}"
    return done.stdout


def tail(output, lines=25):
    """Return the last lines of an output, for messages."""
    return "\n".join(output.splitlines()[-lines:])


# The environment of the built-in, which has no operators for a GPU, emulated or not.
BUILTIN = {"DP_MASK": "builtin", "TF_PLUGGABLE_DEVICE_LIBRARY_PATH": None}


def run_dp(args, cwd, builtin=False, **options):
    """Run the dp command in a second process, with run_python's options; return its output."""
    dp = TESTS / "builtin.py" if builtin else Path(sys.executable).parent / "dp"
    return run_python([dp, *args], cwd, **options, **(BUILTIN if builtin else {}))


def run_jobs(jobs, directory, builtin=False, **environment):
    """Run a list of jobs, which jobs.py describes, in one second process; return its output.

    It is forked, if nothing is set for it.
    """
    forked = not environment
    file = directory / f"jobs_{'builtin' if builtin else 'plugin'}.json"
    file.write_text(json.dumps([[str(part) for part in job] for job in jobs]))
    environment |= BUILTIN if builtin else {}
    return run_python([TESTS / "jobs.py", file], directory, forked=forked, **environment)


def parameters(model):
    """Matrices, biases and timesteps of a frozen model, by name."""
    from deepmd.tf.env import tf

    graph = tf.GraphDef()
    graph.ParseFromString(Path(model).read_bytes())
    return {
        node.name: tf.make_ndarray(node.attr["value"].tensor)
        for node in graph.node
        if node.op == "Const"
        and node.name.split("/")[-1].startswith(("matrix", "bias", "idt"))
        and "/" in node.name
    }
