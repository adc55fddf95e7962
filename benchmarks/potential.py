# SPDX-License-Identifier: LGPL-3.0-or-later
"""Time deepmd_mask.Potential beside DeepPot and the built-in: import and opening, and evaluations.

All are asked in turn, round after round, each in a process of its own, for frames of 35 and 76 real
atoms of a model that has been trained. Beside the evaluations stands what their kernels alone take,
called one by one. Prints tables; writes results/potential.json.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from run import HERE, model_input, processor_name, write_system
from tqdm import tqdm

REAL = (76, 35)
SLOTS = 147
SHORTEST = 0.9  # Å, of the bonds in a protein

# What a process does, and what it prints: opening is CPU seconds and MB at the peak, an evaluation
# the seconds of each repetition.
BEGIN = """
import json, os, resource, sys, time
reply = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
def say(answer):
    print(json.dumps(answer), file=reply, flush=True)
def frame_of(system, frame, only_real):
    import numpy as np
    types = np.loadtxt(f"{system}/type.raw", dtype=int)
    coord, mask = (np.load(f"{system}/set.000/{key}.npy")[frame] for key in ("coord", "aparam"))
    chosen = mask == 1 if only_real else slice(None)
    return types[chosen], coord.reshape(-1, 3)[chosen], mask[chosen]
def seconds_of(action, repeat):
    found = []
    for _ in range(repeat + 2):
        start = time.perf_counter()
        action()
        found.append(time.perf_counter() - start)
    return found[2:]
"""
OPEN = {
    "Potential": "from deepmd_mask import Potential\n"
    "evaluated = Potential(model, device='cpu').evaluate(types, coord)\n",
    "DeepPot": "from deepmd.infer import DeepPot\n"
    "evaluated = DeepPot(model).eval(coord.reshape(1, -1), None, types, aparam=mask[None])\n",
    "NumPy alone": "",
}
OPENING = """
model, system = sys.argv[1:3]
types, coord, mask = frame_of(system, 1, True)
{code}
usage = resource.getrusage(resource.RUSAGE_SELF)
say([usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024])
"""
EVALUATE = {
    "Potential": """
from deepmd_mask import Potential
potential = Potential(model, device="cpu")
def evaluation(frame):
    types, coord, _ = frame_of(system, frame, True)
    return lambda: potential.evaluate(types, coord)
""",
    "kernels": """
import numpy as np
from deepmd_mask import _kernels
from deepmd_mask.potential.reading import read_model
read, table = read_model(sys.argv[3]).arguments, read_model(model).arguments["table"]
threads = int(os.environ["OMP_NUM_THREADS"])
def net(prefix, names):
    return {name: read[prefix + name] for name in names} | {"threads": threads}
class Kernels:
    def __init__(self, frame):
        types, coord, mask = frame_of(system, frame, True)
        ntypes = len(read["bias"])
        self.given = coord[None], types[None].astype(np.int32), mask[None], ntypes
        self.atoms = _kernels.RealAtoms(*self.given)
        names = "neuron", "resnet_dt", "activation", "parameters"
        of_nets = net("", names) | {"net": read["net"], "n": read["n"]}
        self.embedding = _kernels.Embedding64(self.atoms, **of_nets)
        self.embedding.use_table(*table)
        D = np.zeros((len(types), read["M2"] * read["neuron"][-1]))
        self.fitting = _kernels.Fitting64(self.atoms.first, D, **net("fitting_", names))
    def times(self):
        marks = [time.perf_counter()]
        _kernels.RealAtoms(*self.given)
        marks.append(time.perf_counter())
        X = self.embedding.embed()
        marks.append(time.perf_counter())
        _, _, A = self.fitting.read_out(self.atoms, X, read["M2"], read["bias"])
        marks.append(time.perf_counter())
        self.embedding.force(A)
        marks.append(time.perf_counter())
        return [after - before for before, after in zip(marks, marks[1:])]
def evaluation(frame):
    return Kernels(frame).times
""",
    "DeepPot": """
from deepmd.infer import DeepPot
potential = DeepPot(model)
def evaluation(frame):
    types, coord, mask = frame_of(system, frame, True)
    return lambda: potential.eval(coord.reshape(1, -1), None, types, aparam=mask[None])
""",
    "built-in": """
from deepmd.infer import DeepPot
potential = DeepPot(model)
def evaluation(frame):
    types, coord, mask = frame_of(system, frame, False)
    return lambda: potential.eval(coord.reshape(1, -1), None, types, aparam=mask[None])
""",
}
EVALUATING = """
model, system = sys.argv[1:3]
{code}
evaluations = {{frame: evaluation(frame) for frame in (0, 1)}}
for line in sys.stdin:
    frame, repeat = json.loads(line)
    say(seconds_of(evaluations[frame], repeat))
"""


class Worker:
    """A process of its own."""

    def __init__(self, script: str, *arguments: object, threads: int, builtin: bool) -> None:
        environment = {
            **os.environ,
            "DP_MASK": "builtin" if builtin else "",
            "DP_INTRA_OP_PARALLELISM_THREADS": str(threads),
            "DP_INTER_OP_PARALLELISM_THREADS": "1",
            "OMP_NUM_THREADS": str(threads),
        }
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-c", BEGIN + script, *map(str, arguments)],
            env=environment,
            cwd=HERE,  # not where there may be a package that is not installed
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def answer(self) -> list[float]:
        """Return what it says next."""
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise RuntimeError(self.log.read()[-3000:])
        return json.loads(line)

    def ask(self, *request: object) -> list[float]:
        """Return the answer to a request."""
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return self.answer()

    def close(self) -> None:
        """Wait for its end."""
        self.process.stdin.close()
        self.process.wait()


def dp(folder: Path, *arguments: str) -> None:
    """Run dp, or dp-mask."""
    subprocess.run(
        [Path(sys.executable).with_name(arguments[0]), *arguments[1:]], cwd=folder, check=True
    )


def train(folder: Path, system: str, steps: int) -> None:
    """Write frozen.pb, compressed.pb and builtin.pb of a model that was trained so many steps."""
    jdata = model_input("one-sided", system, "float64")
    jdata["training"]["training_data"]["systems"] = [system]
    jdata["training"]["numb_steps"] = steps
    (folder / "input.json").write_text(json.dumps(jdata))
    dp(folder, "dp", "train", "input.json")
    dp(folder, "dp", "freeze", "-o", "frozen.pb")
    compress = ["--compress", "--min-distance", str(SHORTEST)]
    dp(folder, "dp-mask", "convert", "frozen.pb", "-o", "compressed.pb", *compress)
    dp(folder, "dp-mask", "convert", "frozen.pb", "-o", "builtin.pb", "--builtin")


def measure_opening(folder: Path, system: str, rounds: int) -> list[dict]:
    """Time a process that imports, opens and evaluates once, and does nothing else."""
    sides = [(name, model) for name in OPEN for model in ("frozen.pb", "compressed.pb")]
    sides = [side for side in sides if side != ("NumPy alone", "compressed.pb")]
    found = {side: [] for side in sides}
    for _, (name, model) in tqdm(itertools.product(range(rounds), sides), "opening"):
        script = OPENING.format(code=OPEN[name])
        worker = Worker(script, folder / model, system, threads=2, builtin=False)
        found[name, model].append(worker.answer())
        worker.close()
    rows = []
    for (name, model), answers in found.items():
        cpu, memory = (statistics.median(values) for values in zip(*answers, strict=True))
        rows.append({"who": name, "model": model, "CPU s": cpu, "MB at peak": memory})
    return rows


def measure_evaluations(folder: Path, system: str, rounds: int, threads: int) -> list[dict]:
    """Time evaluations of a compressed model, and of the same one on the built-in's operators."""
    models = dict.fromkeys(EVALUATE, "compressed.pb") | {"built-in": "builtin.pb"}
    workers = {
        name: Worker(
            EVALUATING.format(code=code),
            *(folder / models[name], system, folder / "frozen.pb"),
            threads=threads,
            builtin=name == "built-in",
        )
        for name, code in EVALUATE.items()
    }
    found = {(name, frame): [] for frame in range(len(REAL)) for name in workers}
    for _, (name, frame) in tqdm(itertools.product(range(rounds), found), f"{threads} threads"):
        found[name, frame] += workers[name].ask(frame, 3 if name == "built-in" else 20)
    for worker in workers.values():
        worker.close()
    rows = []
    for frame, real in enumerate(REAL):
        ms = {name: 1e3 * statistics.median(found[name, frame]) for name in workers}
        rows.append({"threads": threads, "real": real, **ms})
        rows[-1]["to kernels"] = ms["Potential"] / ms["kernels"]
    return rows


def print_table(rows: list[dict]) -> None:
    """Print one line for each row."""
    print(" | ".join(rows[0]))
    for row in rows:
        print(" | ".join(f"{c:.3g}" if isinstance(c, float) else str(c) for c in row.values()))


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE / "results", help="folder to write to")
    parser.add_argument("--rounds", type=int, default=5, help="of all in turn")
    parser.add_argument("--steps", type=int, default=3000, help="of the training")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        system = write_system(folder / "sample", list(REAL), SLOTS)
        train(folder, system, arguments.steps)
        opening = measure_opening(folder, system, arguments.rounds)
        evaluations = [
            row
            for threads in arguments.threads
            for row in measure_evaluations(folder, system, arguments.rounds, threads)
        ]
    machine = {"processor": processor_name(), "cores": os.cpu_count()}
    results = {"machine": machine, "opening": opening, "evaluations, ms": evaluations}
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "potential.json").write_text(json.dumps(results, indent=1))
    print_table(opening)
    print_table(evaluations)


if __name__ == "__main__":
    main()
