# SPDX-License-Identifier: LGPL-3.0-or-later
"""Times the CUDA kernels, beside what a copy and a matrix product reach on the same card.

Needs a GPU, CuPy and the kernels' bindings (docs/gpu.md). It prints a table: time per call by CUDA
events, the median of several; the least arithmetic and traffic of the call, as rates; and the
time that the slower of the two would take at the rates of the product and the copy, by the time.
"""

import sys
import time
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import implementations

NTYPES, NEURON, M2, FITTING = 4, (32, 32, 64, 128), 16, (240, 240, 240)
REPEATS = 10


class Call(NamedTuple):
    """What is timed, and the least that it must do."""

    name: str
    run: object
    flops: float
    bytes: float


class Events:
    """Seconds of GPU time of a call."""

    def __init__(self, cupy):
        self.cupy = cupy

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

    def rates(self, dtype):
        """FLOP/s of a matrix product, bytes/s of a copy."""
        a = self.cupy.ones((8192, 8192), dtype)
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

    def rates(self, dtype):
        """Return no rates: this is no GPU."""
        return np.nan, np.nan


def random_atoms(rng, natoms, nframes):
    """Atoms at the density of water, in a ball of each frame."""
    radius = (natoms / 0.1 / (4 / 3 * np.pi)) ** (1 / 3)
    direction = rng.normal(size=(nframes, natoms, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    coord = direction * radius * rng.uniform(size=(nframes, natoms, 1)) ** (1 / 3)
    types = np.sort(rng.integers(NTYPES, size=(1, natoms)), axis=1).repeat(nframes, 0)
    return _kernels.RealAtoms(coord, types.astype(np.int32), np.ones((nframes, natoms)), NTYPES)


def embedding_calls(kernels, rng, atoms, dtype):
    """Forward, reverse and both gradients by a table, as a compressed model or a training has."""
    bits, arrays = np.dtype(dtype).itemsize * 8, kernels.arrays
    widths = list(zip((1, *NEURON), NEURON, strict=False))
    parameters = [
        rng.normal(scale=0.3, size=shape).astype(dtype)
        for _ in range(NTYPES)
        for before, width in widths
        for shape in ((before, width), (width,))
    ]
    shape = {"neuron": list(NEURON), "resnet_dt": False, "activation": "tanh"}
    net = [j for _ in range(NTYPES) for j in range(NTYPES)]
    embedding = getattr(kernels, f"Embedding{bits}")(
        atoms, net=net, parameters=parameters, n=float(len(atoms.slot)), **shape
    )
    table = getattr(_kernels, f"fit_table{bits}")(
        parameters=parameters, lower=0.01, upper=2.0, narrowest=0.005, **shape
    )
    embedding.use_table(*table)
    device, M1 = embedding.device_embedding, NEURON[-1]
    X = arrays.put(rng.normal(size=embedding.like_X), dtype)
    A, dA = arrays.put(X), arrays.put(X)
    dC = arrays.empty(embedding.C.shape, dtype)
    gradient = [arrays.empty(p.shape, dtype) for p in parameters]
    forces = kernels.empty_forces(embedding.nframes, embedding.nslots)
    dr = arrays.empty((embedding.npairs, 3))
    direct, shares = (
        arrays.empty(embedding.workspaces[name], dtype) for name in ("direct", "shares")
    )
    by_pair, of_X = embedding.npairs * M1 * (2 * 16 + 8), X.nbytes
    stream = arrays.stream
    return [
        Call("embed", lambda: device.embed(X, direct, stream), by_pair, of_X),
        Call(
            "force",
            lambda: device.force(A, dr, *forces, direct, stream),
            embedding.npairs * 4 * 16 * 4,
            of_X + 3 * dr.nbytes,
        ),
        Call(
            "embed_grad",
            lambda: device.embed_grad(A, dC, gradient, shares, direct, stream),
            embedding.npairs * 4 * 16 * 2 + 2 * X.size * 16,
            of_X + dC.nbytes,
        ),
        Call(
            "force_grad",
            lambda: device.force_grad(A, *forces, dA, dC, gradient, shares, direct, stream),
            2 * by_pair,
            2 * of_X + dC.nbytes,
        ),
    ]


def fitting_calls(kernels, rng, size, dtype):
    """Descriptor, energies and their derivative, and the gradient of both."""
    bits, arrays = np.dtype(dtype).itemsize * 8, kernels.arrays
    M1 = NEURON[-1]
    first = np.linspace(0, size, NTYPES + 1).astype(int)
    parameters = [
        rng.normal(scale=0.05, size=shape).astype(dtype)
        for _ in range(NTYPES)
        for before, width in zip((M1 * M2, *FITTING), (*FITTING, 1), strict=True)
        for shape in ((before, width), (width,))
    ]
    X = arrays.put(rng.normal(size=(size, 4, M1)), dtype)
    fitting = getattr(kernels, f"Fitting{bits}")(
        first,
        rng.normal(size=(size, M1 * M2)),
        parameters=parameters,
        neuron=list(FITTING),
        resnet_dt=False,
        activation="tanh",
    )
    D, device = fitting.D, fitting.device_fitting
    e, A, dD = (arrays.put(np.zeros(shape), dtype) for shape in (size, D.shape, D.shape))
    z, forward, backward = (
        arrays.empty(fitting.workspaces[name], dtype) for name in ("z", "energies", "energies_grad")
    )
    gradient = [arrays.empty(p.shape, dtype) for p in parameters]
    contract = getattr(kernels.cuda, f"contract{bits}")
    stream, products = arrays.stream, 2 * size * sum(p.size for p in parameters) / NTYPES
    return [
        Call(
            "contract",
            lambda: contract(X, X, D, size=size, M1=M1, M2=M2, stream=stream),
            16 * size * M1 * M2,
            X.nbytes + D.nbytes,
        ),
        Call(
            "energies",
            lambda: device.energies(e, A, z, forward, stream),
            2 * products,
            2 * D.nbytes,
        ),
        Call(
            "energies_grad",
            lambda: device.energies_grad(z, e, A, dD, gradient, backward, stream),
            4 * products,
            3 * D.nbytes,
        ),
    ]


@click.command()
@click.option("--atoms", multiple=True, type=int, default=(100, 500, 2000), show_default=True)
@click.option("--frames", multiple=True, type=int, default=(1, 8, 64), show_default=True)
@click.option("--emulated", is_flag=True, help="Try this script without a GPU.")
def main(atoms, frames, emulated):
    """Time the CUDA kernels for real atoms of a frame and frames of a batch."""
    if emulated:
        kernels, clock = implementations.load("emulated"), WallClock()
    else:
        kernels = implementations.load("cuda")
        clock = Events(kernels.arrays.cupy)
        print(kernels.arrays.cupy.cuda.runtime.getDeviceProperties(0)["name"].decode())
    rng = np.random.default_rng(0)
    print("precision atoms frames kernel            ms   TFLOP/s   TB/s  limit/time")
    for dtype in (np.float32, np.float64):
        product, copy = clock.rates(dtype)
        for natoms in atoms:
            for nframes in frames:
                calls = embedding_calls(kernels, rng, random_atoms(rng, natoms, nframes), dtype)
                calls += fitting_calls(kernels, rng, natoms * nframes, dtype)
                for call in calls:
                    seconds = clock.seconds(call.run)
                    limit = max(call.flops / product, call.bytes / copy)
                    print(
                        f"{np.dtype(dtype).name:9} {natoms:5} {nframes:6} {call.name:13}"
                        f"{seconds * 1e3:7.3f} {call.flops / seconds / 1e12:9.3f}"
                        f" {call.bytes / seconds / 1e12:6.3f} {limit / seconds:11.2f}"
                    )


if __name__ == "__main__":
    main()
