# SPDX-License-Identifier: LGPL-3.0-or-later
"""Compare this plugin with the built-in se_a_mask: training steps, evaluations, and how both scale.

Both sides run in turn, round after round, each in a process of its own, and the medians are
compared, so that a busy machine slows both. Prints a table; writes results.json and scaling.png.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from tqdm import tqdm

HERE = Path(__file__).parent
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

    def seconds(self, **request: object) -> list[float]:
        """Return the seconds of each repetition of what worker.py is asked for."""
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


class Comparison:
    """Runs both sides in turn on the same work."""

    def __init__(self, folder: Path, rounds: int, threads: int) -> None:
        self.folder = folder
        self.rounds = rounds
        self.threads = threads
        self.sides = {name: Side(name == "built-in", threads) for name in ("built-in", "plugin")}
        self.rows: list[dict] = []
        self.scan = ""  # the one under way

    def measure(self, work: str, system: str, net: str, only: str | None = None, **options) -> dict:
        """Time one piece of work.

        Parameters
        ----------
        work
            "train", or "eval" with the option frame.
        system
            Path of the data.
        net
            One of NETS.
        only
            The one side to time, where the other cannot do the work or takes too long.
        options
            precision, and what is to be noted of the work.

        Returns
        -------
        dict
            The row of the table: medians in milliseconds, and their ratio.
        """
        precision = options.pop("precision", "float64")
        request = {
            "do": work,
            "input": model_input(net, system, precision),
            "system": system,
            "frame": options.get("frame", 0),
        }
        seconds: dict[str, list[float]] = {name: [] for name in self.sides if only in (None, name)}
        for _ in range(self.rounds):
            for name, of_side in seconds.items():
                of_side.extend(self.sides[name].seconds(**request, repeat=4))
        row = {
            "scan": self.scan,
            "work": work,
            "net": net,
            "precision": precision,
            "threads": self.threads,
            **options,
        }
        row |= {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
        if len(seconds) == 2:
            row["ratio"] = row["built-in"] / row["plugin"]
        self.rows.append(row)
        return row

    def close(self) -> None:
        """End both processes."""
        for side in self.sides.values():
            side.close()


def compare_sample(comparison: Comparison, progress: tqdm) -> None:
    """Two frames of 76 and 35 real atoms in 147 slots, as in a zinc site of a protein."""
    system = write_system(comparison.folder / "sample", [76, 35], 147)
    for net in NETS:
        progress.set_description(f"sample, {net}")
        for precision in ("float64", "float32"):
            comparison.measure("train", system, net, precision=precision, real="76+35", slots=147)
        for frame, real in enumerate((76, 35)):
            comparison.measure("eval", system, net, frame=frame, real=real, slots=147)
        progress.update()


def compare_slots(comparison: Comparison, progress: tqdm) -> None:
    """40 real atoms in more and more slots. The built-in's tensors grow with their square."""
    for slots in (147, 300, 600, 2000):
        system = write_system(comparison.folder / f"slots{slots}", [40, 40], slots)
        progress.set_description(f"{slots} slots")
        for work in ("train", "eval"):
            only = "plugin" if slots > 300 else None
            comparison.measure(work, system, "two-sided", only, real=40, slots=slots)
        progress.update()


def compare_real_atoms(comparison: Comparison, progress: tqdm) -> None:
    """More and more real atoms in as many slots."""
    for real in (20, 50, 100, 200, 500):
        system = write_system(comparison.folder / f"real{real}", [real], real)
        progress.set_description(f"{real} real atoms")
        for work in ("train", "eval"):
            only = "plugin" if real > 200 else None
            comparison.measure(work, system, "two-sided", only, real=real, slots=real)
        progress.update()


SCANS = {"sample": compare_sample, "slots": compare_slots, "real": compare_real_atoms}


def print_table(rows: list[dict]) -> None:
    """Print one line for each measurement."""
    columns = [
        "work",
        "net",
        "precision",
        "threads",
        "real",
        "slots",
        "built-in",
        "plugin",
        "ratio",
    ]
    print(" | ".join(columns))
    for row in rows:
        cells = [row.get(column, "") for column in columns]
        print(" | ".join(f"{c:.2f}" if isinstance(c, float) else str(c) for c in cells))


def plot(rows: list[dict], path: Path) -> None:
    """Draw how both sides scale in slots and in real atoms."""
    labels = {"slots": "slots, 40 of them real", "real": "real atoms, no virtual ones"}
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
                ]
                if not points:
                    continue
                axis.loglog(
                    *zip(*points, strict=True), f"{marker}-", color=colour, label=f"{side}, {work}"
                )
        axis.set(xlabel=labels[key], ylabel="ms per step or evaluation")
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
    with tempfile.TemporaryDirectory() as folder, tqdm(unit="case") as progress:
        comparison = Comparison(Path(folder), arguments.rounds, arguments.threads)
        for comparison.scan in arguments.scans:
            SCANS[comparison.scan](comparison, progress)
        comparison.close()
    machine = {"processor": processor_name(), "cores": os.cpu_count()}
    results = {"machine": machine, "milliseconds": comparison.rows}
    (arguments.output / "results.json").write_text(json.dumps(results, indent=1))
    plot(comparison.rows, arguments.output / "scaling.png")
    print_table(comparison.rows)


if __name__ == "__main__":
    main()
