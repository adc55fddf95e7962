# SPDX-License-Identifier: LGPL-3.0-or-later
"""Compare this plugin with the built-in se_a_mask: training steps, evaluations, and how both scale.

Both sides do all the work of a scan in turn, round after round, each in a process of its own, and
the medians are compared, so that a busy machine slows both. Prints a table; writes results.json and
scaling.png.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from tqdm import tqdm

HERE = Path(__file__).parent
SIDES = ("built-in", "plugin")
TYPE_MAP = ["C", "O", "N", "H", "S", "ZN"]
SHARE = np.array([36, 16, 24, 64, 6, 1]) / 147  # of each type among the slots
NETS = {
    "one-sided": {"neuron": [32, 32, 64, 128], "type_one_side": True, "resnet_dt": True},
    "two-sided": {"neuron": [25, 50, 100], "type_one_side": False, "resnet_dt": False},
}


class Side:
    """The plugin or the built-in, in a process of its own."""

    def __init__(self, builtin: bool, threads: int) -> None:
        environment = {
            **os.environ,
            "DP_MASK": "builtin" if builtin else "",
            "DP_INTRA_OP_PARALLELISM_THREADS": str(threads),
            "DP_INTER_OP_PARALLELISM_THREADS": "1",
            "OMP_NUM_THREADS": str(threads),
        }
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py")],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def ask(self, **request: object) -> list[float]:
        """Return worker.py's answer: the seconds of each repetition, or the megabytes."""
        print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            self.log.seek(0)
            raise RuntimeError(self.log.read()[-3000:])
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def model_input(net: str, system: str, precision: str) -> dict:
    """Return the input of a training with one of NETS and the fitting net of the documentation.

    sel is the number of slots of each type, since the built-in needs them to be the same.
    """
    types = np.loadtxt(Path(system) / "type.raw", dtype=int)
    sel = np.bincount(types, minlength=len(TYPE_MAP)).tolist()
    options = {"precision": precision, "seed": 1}
    return {
        "model": {
            "type_map": TYPE_MAP,
            "descriptor": {
                "type": "se_a_mask",
                "sel": sel,
                "axis_neuron": 16,
                **NETS[net],
                **options,
            },
            "fitting_net": {
                "neuron": [240, 240, 240],
                "resnet_dt": True,
                "numb_aparam": 1,
                "use_aparam_as_mask": True,
                **options,
            },
        },
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-6, "decay_steps": 5000},
        "loss": {
            "type": "ener",
            **{f"{when}_pref_{key}": 0.0 for when in ("start", "limit") for key in "ef"},
            "start_pref_pf": 1.0,
            "limit_pref_pf": 1.0,
        },
        "training": {
            "training_data": {"systems": [], "batch_size": 2},
            "numb_steps": 1000000,
            "seed": 1,
        },
    }


def write_system(folder: Path, real: list[int], slots: int, seed: int = 0) -> str:
    """Write frames with the given numbers of real atoms, of types as in proteins, on a grid."""
    rng = np.random.default_rng(seed)
    types = np.searchsorted(np.cumsum(SHARE), (np.arange(slots) + 0.5) / slots)
    side = int(np.ceil(slots ** (1 / 3)))
    grid = np.stack(np.unravel_index(np.arange(slots), [side] * 3), axis=1) * 1.6
    coord = np.stack([rng.permutation(grid) + rng.normal(scale=0.1, size=grid.shape) for _ in real])
    mask = np.zeros((len(real), slots))
    for frame, count in enumerate(real):
        mask[frame, rng.permutation(slots)[:count]] = 1
    (folder / "set.000").mkdir(parents=True)
    (folder / "nopbc").touch()
    np.savetxt(folder / "type.raw", types, fmt="%d")
    (folder / "type_map.raw").write_text("\n".join(TYPE_MAP))
    arrays = {
        "coord": coord.reshape(len(real), -1),
        "force": (rng.normal(size=coord.shape) * mask[..., None]).reshape(len(real), -1),
        "energy": rng.normal(size=len(real)),
        "aparam": mask,
        "atom_pref": mask,
    }
    for name, array in arrays.items():
        np.save(folder / "set.000" / name, array)
    return str(folder)


@dataclass
class Job:
    """One piece of work to time.

    Attributes
    ----------
    work
        "train", or "eval" or "compressed" with a frame; the latter is an evaluation by a compressed
        model of the plugin, and by the original of the built-in.
    system
        Path of the data.
    net
        One of NETS.
    notes
        What the table says of the work.
    precision
        Of all nets.
    frame
        To evaluate.
    sides
        Who does it; the built-in cannot do all in bearable memory and time.
    """

    work: str
    system: str
    net: str
    notes: dict
    precision: str = "float64"
    frame: int = 0
    sides: tuple[str, ...] = SIDES

    def request(self) -> dict:
        """Return what worker.py is asked for."""
        model = model_input(self.net, self.system, self.precision)
        return {"do": self.work, "input": model, "system": self.system, "frame": self.frame}


def run_in_turn(scan: str, jobs: list[Job], rounds: int, threads: int) -> list[dict]:
    """Time jobs, all in turn, round after round, so that a busy machine slows all of them.

    Returns
    -------
    list of dict
        The rows of the table: medians in milliseconds, and the ratio of the sides.
    """
    sides = {name: Side(name == "built-in", threads) for name in SIDES}
    seconds = [{name: [] for name in job.sides} for job in jobs]
    for _, (job, found) in tqdm(
        itertools.product(range(rounds), zip(jobs, seconds, strict=True)),
        total=rounds * len(jobs),
        desc=scan,
    ):
        for name, of_side in found.items():
            of_side.extend(sides[name].ask(**job.request(), repeat=4))
    for side in sides.values():
        side.close()
    rows = []
    for job, found in zip(jobs, seconds, strict=True):
        row = {"scan": scan, "work": job.work, "net": job.net, "precision": job.precision}
        row |= {"threads": threads, **job.notes}
        row |= {name: 1e3 * statistics.median(values) for name, values in found.items()}
        if len(found) == len(SIDES):
            row["ratio"] = row["built-in"] / row["plugin"]
        rows.append(row)
    return rows


def sample_jobs(system: str, slots: int, sides: tuple[str, ...] = SIDES) -> list[Job]:
    """Return the work on two frames of 76 and 35 real atoms, as in a zinc site of a protein."""
    jobs = []
    for net in NETS:
        jobs.append(Job("train", system, net, {"real": "76+35", "slots": slots}, sides=sides))
        for frame, real in enumerate((76, 35)):
            notes = {"real": real, "slots": slots}
            jobs.append(Job("eval", system, net, notes, frame=frame, sides=sides))
    return jobs


def compare_sample(folder: Path, rounds: int, threads: int) -> list[dict]:
    """Time the sample, in both precisions."""
    system = write_system(folder / "sample", [76, 35], 147)
    jobs = sample_jobs(system, 147)
    notes = {"real": "76+35", "slots": 147}
    jobs += [Job("train", system, net, notes, precision="float32") for net in NETS]
    jobs += [
        Job("compressed", system, net, {"real": real, "slots": 147}, frame=frame)
        for net, (frame, real) in itertools.product(NETS, enumerate((76, 35)))
    ]
    return run_in_turn("sample", jobs, rounds, threads)


def compare_slots(folder: Path, rounds: int, threads: int) -> list[dict]:
    """Time the sample in more and more slots. The built-in's tensors grow with their square."""
    jobs = []
    for slots in (147, 300, 588, 2000):
        system = write_system(folder / f"slots{slots}", [76, 35], slots)
        jobs += sample_jobs(system, slots, SIDES if slots <= 300 else ("plugin",))
    rows = run_in_turn("slots", jobs, rounds, threads)
    same = ("work", "net", "real")
    for row in rows:
        base = next(r for r in rows if r["slots"] == 147 and all(r[k] == row[k] for k in same))
        row["to 147 slots"] = row["plugin"] / base["plugin"]
    return rows


def compare_real_atoms(folder: Path, rounds: int, threads: int) -> list[dict]:
    """Time more and more real atoms in as many slots."""
    jobs = []
    for real in (20, 50, 100, 200, 500):
        system = write_system(folder / f"real{real}", [real], real)
        sides = SIDES if real <= 200 else ("plugin",)
        for work, net in itertools.product(("train", "eval", "compressed"), NETS):
            jobs.append(Job(work, system, net, {"real": real, "slots": real}, sides=sides))
    return run_in_turn("real", jobs, rounds, threads)


def compare_threads(folder: Path, rounds: int, threads: int) -> list[dict]:
    """Time the sample on 1, 2, 4, ... threads."""
    system = write_system(folder / "threads", [76, 35], 147)
    rows = []
    count = 1
    while count <= threads:
        rows += run_in_turn("threads", sample_jobs(system, 147), rounds, count)
        count *= 2
    return rows


def compare_memory(folder: Path, rounds: int, threads: int) -> list[dict]:
    """Measure peak memory of processes that train.

    Beside them: one that has only imported everything, and one that trains parameters of the same
    shapes without a model, which is what TensorFlow takes for any.
    """
    sample = write_system(folder / "memory", [76, 35], 147)
    large = write_system(folder / "memory500", [500], 600)
    jobs = [Job("train", sample, net, {"real": "76+35", "slots": 147}) for net in NETS]
    jobs += [
        Job("train", large, net, {"real": 500, "slots": 600}, sides=("plugin",)) for net in NETS
    ]
    rows = []
    for job in tqdm(jobs, desc="memory"):
        row = {"scan": "memory", "work": "MB at peak", "net": job.net, "threads": threads}
        row |= job.notes
        for name in job.sides:
            side = Side(name == "built-in", threads)
            [row["imports"]] = side.ask(do="memory")
            side.ask(**job.request(), repeat=rounds)
            [row[name]] = side.ask(do="memory")
            shapes = side.ask(do="shapes")
            side.close()
        side = Side(builtin=False, threads=threads)
        side.ask(do="fit", shapes=shapes)
        [row["no model"]] = side.ask(do="memory")
        side.close()
        row["to imports"] = row["plugin"] / row["imports"]
        rows.append(row)
    return rows


SCANS = {
    "sample": compare_sample,
    "slots": compare_slots,
    "real": compare_real_atoms,
    "threads": compare_threads,
    "memory": compare_memory,
}


def print_table(rows: list[dict]) -> None:
    """Print one line for each measurement."""
    columns = ["work", "net", "precision", "threads", "real", "slots", *SIDES, "ratio"]
    columns += ["to 147 slots", "imports", "no model", "to imports"]
    print(" | ".join(columns))
    for row in rows:
        cells = [row.get(column, "") for column in columns]
        print(" | ".join(f"{c:.2f}" if isinstance(c, float) else str(c) for c in cells))


def plot(rows: list[dict], path: Path) -> None:
    """Draw how both sides scale in slots and in real atoms."""
    labels = {
        "slots": "slots, 76 + 35 of them real",
        "real": "real atoms, no virtual ones",
        "threads": "threads, 76 + 35 real atoms",
    }
    scans = [key for key in labels if any(row["scan"] == key for row in rows)]
    if not scans:
        return
    size = (4.5 * len(scans), 4)
    figure, axes = plt.subplots(1, len(scans), figsize=size, squeeze=False, layout="constrained")
    for axis, key in zip(axes[0], scans, strict=True):
        for work, marker in (("train", "o"), ("eval", "s")):
            for side, colour in (("built-in", "tab:red"), ("plugin", "tab:blue")):
                points = [
                    (r[key], r[side])
                    for r in rows
                    if r["scan"] == key and r["work"] == work and side in r
                    if r["net"] == "one-sided" and r["real"] != 35
                ]
                if points:
                    style = {"color": colour, "label": f"{side}, {work}"}
                    axis.loglog(*zip(*points, strict=True), f"{marker}-", **style)
        axis.set(xlabel=labels[key], ylabel="ms per step or evaluation, one-sided net")
    axes[0, 0].legend()
    figure.savefig(path, dpi=150)


def processor_name() -> str:
    """Return what Linux calls the processor, with its vector instructions."""
    lines = dict(
        line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line
    )
    fields = {name.strip(): value.strip() for name, value in lines.items()}
    vector = [flag for flag in ("avx2", "avx512f") if flag in fields.get("flags", "").split()]
    return " ".join([fields.get("model name", platform.machine()), *vector])


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE / "results", help="folder to write to")
    parser.add_argument("--scans", nargs="+", choices=SCANS, default=list(SCANS))
    parser.add_argument("--rounds", type=int, default=5, help="of both sides in turn")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each side")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for scan in arguments.scans:
        with tempfile.TemporaryDirectory() as folder:
            rows += SCANS[scan](Path(folder), arguments.rounds, arguments.threads)
    machine = {"processor": processor_name(), "cores": os.cpu_count()}
    results = {"machine": machine, "medians": rows}
    (arguments.output / "results.json").write_text(json.dumps(results, indent=1))
    plot(rows, arguments.output / "scaling.png")
    print_table(rows)


if __name__ == "__main__":
    main()
