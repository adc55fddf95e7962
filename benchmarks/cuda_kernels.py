# SPDX-License-Identifier: LGPL-3.0-or-later
"""Times the CUDA kernels, beside what a copy and a matrix product reach on the same card.

Needs a GPU, CuPy and the kernels' bindings (docs/gpu.md). Each call is what an operator runs: it
numbers the pairs, takes memory from the driver's pool, and a gradient of the embedding goes through
the series, too. For each call: time by CUDA events, the median of several; the least arithmetic and
traffic that it needs, as rates; and the time that the slower of the two would take at the rates of
the product and the copy, by the time of the call. "inference" is what an evaluation of a compressed
model runs, launched one after the other and, in "as graph", as one CUDA graph. For one case also
the time of the CPU's kernels on two threads.
"""

import csv
import importlib
import itertools
import re
import sys
import time
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import implementations

from deepmd_mask import _kernels as cpu

NTYPES, NEURON, M2, FITTING = 4, (32, 32, 64, 128), 16, (240, 240, 240)
REPEATS = 10
TERMS = 16  # kTerms of op/shared/series.h
ROW, POLYNOMIALS = 30, 2 * TERMS  # operations of a row of the environment matrix, of T_k or U_k
CPU_CASE = (100, 64)  # atoms, frames
COLUMNS = [
    *("precision", "atoms", "frames", "panels", "kernel", "ms"),
    *("TFLOP/s", "TB/s", "limit/time", "CPU ms"),
]


class Call(NamedTuple):
    """What is timed, and the least that it must do."""

    name: str
    run: object
    flops: float
    bytes: float


class Events:
    """Seconds of GPU time of a call."""

    def __init__(self, kernels):
        self.cupy, self.kernels = importlib.import_module("cupy"), kernels
        kernels.use_pool(True)

    def seconds(self, run):
        """Return the median of several calls, after one that is not counted."""
        run()
        times = []
        for _ in range(REPEATS):
            start, stop = self.cupy.cuda.Event(), self.cupy.cuda.Event()
            start.record()
            run()
            stop.record()
            stop.synchronize()
            times.append(self.cupy.cuda.get_elapsed_time(start, stop) / 1e3)
        return float(np.median(times))

    def graph(self, run):
        """Return what runs the same kernels as one CUDA graph."""
        stream = self.cupy.cuda.Stream(non_blocking=True)
        self.kernels.use_stream(stream.ptr)
        with stream:
            stream.begin_capture()
            run()
            graph = stream.end_capture()
        self.kernels.use_stream(0)
        return graph.launch

    def rates(self, dtype):
        """FLOP/s of a matrix product, bytes/s of a copy."""
        a = self.cupy.random.standard_normal((8192, 8192)).astype(dtype)
        b = self.cupy.empty_like(a)
        product = 2 * 8192**3 / self.seconds(lambda: self.cupy.matmul(a, a, out=b))
        return product, 2 * a.nbytes / self.seconds(lambda: self.cupy.copyto(b, a))


class WallClock:
    """The same for the emulated kernels, to try this script."""

    def seconds(self, run):
        """Return the time of one call."""
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    def graph(self, run):
        """Return what was given: there are no graphs."""
        return run

    def rates(self, dtype):
        """Return no rates: this is no GPU."""
        return np.nan, np.nan


def random_frames(rng, natoms, nframes):
    """Types and coordinates of atoms at the density of water, in a ball, none closer than 1.1 Å."""
    spacing, across = 0.1 ** (-1 / 3), int(np.ceil(natoms ** (1 / 3))) * 2 + 1
    grid = (np.indices((across,) * 3).reshape(3, -1).T - across // 2) * spacing
    ball = grid[np.argsort(np.linalg.norm(grid, axis=1), kind="stable")[:natoms]]
    coord = ball + rng.uniform(-0.3, 0.3, size=(nframes, natoms, 3))
    types = np.sort(rng.integers(NTYPES, size=(1, natoms)), axis=1).repeat(nframes, 0)
    return types.astype(np.int32), coord


class Model:
    """Nets, atoms and arrays of one case, and the calls on them."""

    def __init__(self, kernels, rng, natoms, nframes, dtype):
        self.kernels, self.dtype = kernels, dtype
        self.bits = np.dtype(dtype).itemsize * 8
        types, coord = random_frames(rng, natoms, nframes)
        self.atoms = kernels.RealAtoms(coord, types, np.ones(types.shape), NTYPES)
        self.embedding_nets = {
            "net": [j for _ in range(NTYPES) for j in range(NTYPES)],
            "parameters": self.random_nets(rng, (1, *NEURON)),
            "n": float(natoms),
            "neuron": list(NEURON),
            "resnet_dt": False,
            "activation": "tanh",
        }
        self.fitting_nets = {
            "parameters": self.random_nets(rng, (NEURON[-1] * M2, *FITTING, 1)),
            "neuron": list(FITTING),
            "resnet_dt": False,
            "activation": "tanh",
        }
        size = natoms * nframes
        self.type_first = np.asarray(self.atoms.first)[::nframes]
        self.X = rng.normal(scale=0.1, size=(size, 4, NEURON[-1])).astype(dtype)
        self.embedding = getattr(kernels, f"Embedding{self.bits}")(
            self.atoms, **self.embedding_nets
        )
        self.fitting = getattr(kernels, f"Fitting{self.bits}")(
            self.type_first, np.zeros((size, NEURON[-1] * M2)), **self.fitting_nets
        )

    def random_nets(self, rng, widths):
        """Matrices and biases of a net for each type."""
        return [
            rng.normal(scale=1 / np.sqrt(before), size=shape).astype(self.dtype)
            for _ in range(NTYPES)
            for before, width in itertools.pairwise(widths)
            for shape in ((before, width), (width,))
        ]

    def calls(self):
        """Return the calls of an inference, and those of a gradient."""
        embedding, fitting = self.embedding, self.fitting
        contract, reverse = (
            getattr(self.kernels, f"{name}{self.bits}") for name in ("contract", "contract_reverse")
        )
        M1, size = NEURON[-1], len(self.X)
        X = embedding.embed()
        e, A, z = fitting.energies()
        gX = reverse(X, A, M2)
        forces = embedding.force(gX)
        npairs, npanels = natoms_squared(self.atoms), sum(embedding.npanels())
        by_panel = 2 * TERMS * 4 * M1 * size * npanels  # a product of kTerms, 4 and M1
        products = 2 * sum(p.size for p in self.fitting_nets["parameters"]) / NTYPES * size
        of_X = self.X.nbytes
        of_D, of_forces = of_X * M2 / 4, 24 * size * 13
        inference = [
            Call(
                "embed",
                embedding.embed,
                npairs * (ROW + POLYNOMIALS + 2 * TERMS * 4) + by_panel,
                of_X,
            ),
            Call(
                "contract",
                lambda: contract(X, X, M2),
                8 * size * M1 * M2,
                of_X + of_D,
            ),
            Call(
                "energies",
                fitting.energies,
                2 * products,
                2 * of_D,
            ),
            Call(
                "contract_reverse",
                lambda: reverse(X, A, M2),
                16 * size * M1 * M2,
                2 * of_X + of_D,
            ),
            Call(
                "force",
                lambda: embedding.force(gX),
                npairs * (2 * ROW + 2 * POLYNOMIALS + 4 * TERMS * 4) + by_panel,
                of_X + of_forces,
            ),
        ]
        training = [
            Call(
                "embed_grad",
                lambda: embedding.embed_grad(gX),
                npairs * (ROW + POLYNOMIALS + 2 * TERMS * 4) + by_panel,
                of_X,
            ),
            Call(
                "force_grad",
                lambda: embedding.force_grad(gX, *forces),
                npairs * (2 * ROW + 2 * POLYNOMIALS + 4 * TERMS * 4) + 2 * by_panel,
                2 * of_X + of_forces,
            ),
            Call(
                "energies_grad",
                lambda: fitting.energies_grad(z, e, A),
                4 * products,
                3 * of_D,
            ),
            Call("find_series", embedding.find_series, 0, 0),
        ]
        return inference, training

    def cpu_calls(self, threads=2):
        """Return what takes the same names on the CPU."""
        atoms = cpu.RealAtoms(self.atoms.coord, self.types(), np.ones(self.types().shape), NTYPES)
        embedding = getattr(cpu, f"Embedding{self.bits}")(
            atoms, **self.embedding_nets, threads=threads
        )
        D = np.zeros((len(self.X), NEURON[-1] * M2), self.dtype)
        fitting = getattr(cpu, f"Fitting{self.bits}")(
            self.type_first, D, **self.fitting_nets, threads=threads
        )
        contract, reverse = (
            getattr(cpu, f"{name}{self.bits}") for name in ("contract", "contract_reverse")
        )
        X, (e, A, z), forces = self.X, fitting.energies(), embedding.force(self.X)
        return {
            "embed": embedding.embed,
            "contract": lambda: contract(X, X, M2, threads=threads),
            "energies": fitting.energies,
            "contract_reverse": lambda: reverse(X, A, M2, threads=threads),
            "force": lambda: embedding.force(X),
            "embed_grad": lambda: embedding.embed_grad(X),
            "force_grad": lambda: embedding.force_grad(X, *forces),
            "energies_grad": lambda: fitting.energies_grad(z, e, A),
        }

    def types(self):
        """Types of all slots [nframes, nslots], which are sorted."""
        nframes = len(self.atoms.coord)
        counts = np.diff(self.atoms.first).reshape(NTYPES, nframes)[:, 0]
        return np.repeat(np.arange(NTYPES, dtype=np.int32), counts)[None].repeat(nframes, 0)


def natoms_squared(atoms):
    """Return the number of ordered pairs, an atom with itself among them."""
    nframes = len(atoms.coord)
    return int(np.sum(np.diff(atoms.first).reshape(NTYPES, nframes).sum(axis=0) ** 2))


def run_all(calls):
    """Run calls one after the other."""
    for call in calls:
        call.run()


def rows_of_case(clock, model, rates, with_cpu):
    """Time the calls of a case: name, seconds, flops, bytes and seconds on the CPU."""
    inference, training = model.calls()
    together = [sum(getattr(call, name) for call in inference) for name in ("flops", "bytes")]
    all_of_it = Call("inference", lambda: run_all(inference), *together)
    cpu = model.cpu_calls() if with_cpu else {}
    for call in (*inference, all_of_it, *training):
        seconds = clock.seconds(call.run)
        row = {"kernel": call.name, "ms": seconds * 1e3}
        limit = max(call.flops / rates[0], call.bytes / rates[1])
        if limit:
            row |= {"TFLOP/s": call.flops / seconds / 1e12, "TB/s": call.bytes / seconds / 1e12}
            row["limit/time"] = limit / seconds
        if call.name in cpu:
            row["CPU ms"] = WallClock().seconds(cpu[call.name]) * 1e3
        yield row
    yield {"kernel": "as graph", "ms": clock.seconds(clock.graph(all_of_it.run)) * 1e3}


def kernels_of(model):
    """Time each kernel of a case as it runs: rows of calls, kernel, launches, microseconds."""
    from torch.profiler import ProfilerActivity, profile  # noqa: PLC0415

    rows = {}
    for name, calls in zip(("inference", "training"), model.calls(), strict=True):
        run_all(calls)
        with profile(activities=[ProfilerActivity.CUDA]) as recorded:
            run_all(calls)
            np.asarray(model.embedding.embed())  # waits
        for event in recorded.events():
            if "dpmask" not in event.name:
                continue
            kernel = re.findall(r"::([A-Z]\w*)", event.name)[-1]
            launches, time = rows.get((name, kernel), (0, 0))
            rows[name, kernel] = launches + 1, time + event.device_time
    return [(*key, launches, round(time, 1)) for key, (launches, time) in rows.items()]


def line(row):
    """Return a row of the table as text."""
    return " ".join(
        f"{row.get(name, ''):>{max(len(name), 8)}.4g}"
        if isinstance(row.get(name), float)
        else f"{row.get(name, ''):>{max(len(name), 8)}}"
        for name in COLUMNS
    )


@click.command()
@click.option("--atoms", multiple=True, type=int, default=(100, 500, 2000), show_default=True)
@click.option("--frames", multiple=True, type=int, default=(1, 8, 64), show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="A CSV file of the same table.")
@click.option("--kernels", "profile", is_flag=True, help="List kernels instead; needs PyTorch.")
@click.option("--emulated", is_flag=True, help="Try this script without a GPU.")
def main(atoms, frames, output, profile, emulated):
    """Time the CUDA kernels for real atoms of a frame and frames of a batch."""
    kernels = implementations.load("emulated" if emulated else "cuda").cuda
    clock = WallClock() if emulated else Events(kernels)
    if profile:
        print("precision,atoms,frames,calls,kernel,launches,us")
        for dtype, natoms, nframes in itertools.product((np.float32, np.float64), atoms, frames):
            model = Model(kernels, np.random.default_rng(0), natoms, nframes, dtype)
            for row in kernels_of(model):
                print(np.dtype(dtype).name, natoms, nframes, *row, sep=",")
        return
    rows = []
    print(line({name: name for name in COLUMNS}))
    for dtype in (np.float32, np.float64):
        rates = clock.rates(dtype)
        for natoms in atoms:
            for nframes in frames:
                case = {"precision": np.dtype(dtype).name, "atoms": natoms, "frames": nframes}
                model = Model(kernels, np.random.default_rng(0), natoms, nframes, dtype)
                case["panels"] = sum(model.embedding.npanels())
                for row in rows_of_case(clock, model, rates, (natoms, nframes) == CPU_CASE):
                    rows.append(case | row)
                    print(line(rows[-1]), flush=True)
        copy_and_product = {"TFLOP/s": rates[0] / 1e12, "TB/s": rates[1] / 1e12}
        rows.append({"precision": case["precision"], "kernel": "card", **copy_and_product})
        print(line(rows[-1]), flush=True)
    if output:
        with output.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
