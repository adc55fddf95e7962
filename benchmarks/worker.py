# SPDX-License-Identifier: LGPL-3.0-or-later
"""One side of a comparison, in a process of its own, which answers requests one by one.

A request is a line of JSON, {"do": one of DO, ...}, and so is its answer. DP_MASK, DP_MASK_ISA and
the numbers of threads are those of its environment; DP_MASK_BENCHMARK_KERNELS there names another
build of the kernels, a compiled _kernels or a package with one, to be asked for parts instead.
"""

import importlib
import importlib.util
import json
import os
import pickle
import re
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))
LEAST_CALLS = 3


def timed(action: Callable[[], Any], seconds: float, measures: bool = False) -> list:
    """Return the seconds of each of the calls that go into a time, after two that warm up.

    An action that measures returns what it has found itself, which is taken instead.
    """
    found: list = []
    end = float("inf")
    for call in range(1_000_000):
        if call == 2:
            end = time.perf_counter() + seconds
        start = time.perf_counter()
        answer = action()
        took = time.perf_counter() - start
        if call >= 2:
            found.append(answer if measures else took)
        if len(found) >= LEAST_CALLS and time.perf_counter() > end:
            break
    return found


def kernels_in_use() -> ModuleType:
    """Return `_kernels` of the installed package, or of another build."""
    other = os.environ.get("DP_MASK_BENCHMARK_KERNELS")
    if not other:
        return importlib.import_module("deepmd_mask._kernels")
    path = Path(other)
    [file] = path.glob("_kernels*.so") if path.is_dir() else [path]
    spec = importlib.util.spec_from_file_location("deepmd_mask._kernels", file)
    assert spec is not None and spec.loader is not None, f"{file} is no module"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- Rates of the machine -----------------------------------------------------------------------


def clock_of_rates(nbytes: int) -> Callable[[], list[float]]:
    """Return what measures the machine: the seconds of a FLOP, a tanh, an exp and a byte.

    FLOP are those of a large product; bytes those of a copy between arrays of so many in all.
    """
    size = 1500
    a, b = np.ones((2, size, size))
    out = np.empty_like(a)
    pool = ThreadPoolExecutor(THREADS)
    size_of_copy = max(nbytes // 8 // THREADS, 1024)
    repeat = max(1, 2**21 // size_of_copy)  # in each call, so that starting it is nothing
    copied = [tuple(np.ones((2, size_of_copy))) for _ in range(THREADS)]
    x = np.linspace(-3, 3, 20_000)
    given = [(x, np.empty_like(x)) for _ in range(THREADS)]

    def copy(source: np.ndarray, target: np.ndarray) -> None:
        for _ in range(repeat):
            np.copyto(target, source)

    def seconds(function: Callable, arrays: list[tuple[np.ndarray, ...]]) -> float:
        start = time.perf_counter()
        list(pool.map(lambda arguments: function(*arguments), arrays))
        return time.perf_counter() - start

    def measure() -> list[float]:
        start = time.perf_counter()
        np.matmul(a, b, out=out)
        product = time.perf_counter() - start
        functions = [
            seconds(function, given) / (x.size * THREADS) for function in (np.tanh, np.exp)
        ]
        copying = seconds(copy, copied) / (2 * 8 * size_of_copy * THREADS * repeat)
        return [product / (2 * size**3), *functions, copying]

    return measure


# ---- The potential and its kernels --------------------------------------------------------------


def table_of(arguments: dict[str, Any], kernels: ModuleType) -> tuple[np.ndarray, ...]:
    """Return the series of the nets as the potential has them: the model's own, or made for it."""
    if arguments["table"] is not None:
        return arguments["table"]
    shortest = arguments["min_distance"]
    end = min(5 / shortest, 100.0) if shortest else 25.0
    names = ("neuron", "resnet_dt", "activation", "parameters")
    given = {name: arguments[name] for name in names}
    fit = kernels.fit_table64 if arguments["precision"] == "float64" else kernels.fit_table32
    return fit(**given, lower=0.0, upper=end, narrowest=1e-9, threads=THREADS)


def aligned(array: np.ndarray) -> np.ndarray:
    """Return a copy that begins where a line of the cache does, as what kernels read does there."""
    memory = np.empty(array.nbytes + 64, np.uint8)
    first = -memory.ctypes.data % 64
    copy = memory[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


class Kernels:
    """The kernels of an evaluation, to be called one by one.

    Parameters
    ----------
    arguments
        Of `_kernels.Model`.
    types, positions
        The atoms, real ones.
    """

    def __init__(self, arguments: dict[str, Any], types: np.ndarray, positions: np.ndarray) -> None:
        kernels = kernels_in_use()

        def nets(prefix: str) -> dict[str, Any]:
            names = ("neuron", "resnet_dt", "activation")
            parameters = list(map(aligned, arguments[prefix + "parameters"]))
            found = {name: arguments[prefix + name] for name in names}
            return {**found, "parameters": parameters, "threads": THREADS}

        single = arguments["precision"] == "float32"
        Embedding = kernels.Embedding32 if single else kernels.Embedding64
        Fitting = kernels.Fitting32 if single else kernels.Fitting64
        self.bias, self.M2 = arguments["bias"], arguments["M2"]
        mask = np.ones((1, len(types)))
        ntypes = len(self.bias)
        self.atoms = kernels.RealAtoms(positions[None], types[None].astype("i4"), mask, ntypes)
        self.embedding = Embedding(self.atoms, **nets(""), net=arguments["net"], n=arguments["n"])
        self.embedding.use_table(*table_of(arguments, kernels))
        D = np.zeros((len(types), self.M2 * arguments["neuron"][-1]), "f4" if single else "f8")
        self.fitting = Fitting(self.atoms.first, D, **nets("fitting_"))
        self.X = aligned(self.embedding.embed())
        self.A = aligned(self.read_out()[2])

    def embed(self) -> None:
        """Find X."""
        self.embedding.embed()

    def read_out(self) -> tuple[np.ndarray, ...]:
        """Return energies, those of atoms, and A."""
        return self.fitting.read_out(self.atoms, self.X, self.M2, self.bias)

    def force(self) -> None:
        """Find forces."""
        self.embedding.force(self.A)

    def embed_and_force(self) -> None:
        """Find both as an evaluation does; with a build that has them one by one alone, so.

        That one then begins twice, with the numbers of pairs.
        """
        if hasattr(self.embedding, "embed_and_force"):
            self.embedding.embed_and_force(self.A)
        else:
            self.embed()
            self.force()


def atoms_of(frame: str) -> tuple[np.ndarray, np.ndarray]:
    """Return types and positions of a frame, an .npz file."""
    found = np.load(frame)
    return found["types"], found["positions"]


def kernels_on(model: str, frame: str) -> Kernels:
    """Return the kernels with a model and a frame, given as files."""
    return Kernels(pickle.loads(Path(model).read_bytes()), *atoms_of(frame))


class Worker:
    """Answers requests; what has been opened or built stays."""

    def __init__(self) -> None:
        self.opened: dict[str, Any] = {}

    def once(self, make: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Return what a function gave for these arguments, calling it the first time."""
        key = repr([make.__name__, arguments, options])
        if key not in self.opened:
            self.opened[key] = make(*arguments, **options)
        return self.opened[key]

    def rates(self, nbytes: int, seconds: float) -> list[list[float]]:
        """Measure the machine."""
        return timed(self.once(clock_of_rates, nbytes), seconds, measures=True)

    def evaluate(
        self, who: str, model: str, frame: str, seconds: float, **options: Any
    ) -> list[float]:
        """Time evaluations of a frame."""
        types, positions = atoms_of(frame)
        if who == "Potential":
            from deepmd_mask import Potential

            potential = self.once(Potential, model, device="cpu", **options)
            return timed(lambda: potential.evaluate(types, positions), seconds)
        import deepmd_side

        potential = self.once(deepmd_side.opened, model)
        return timed(deepmd_side.evaluation(potential, types, positions, **options), seconds)

    def weights(self, model: str, frame: str, weight: float, seconds: float) -> list[list[float]]:
        """Time evaluations of whole atoms and, right after each, of the same atoms in part.

        The first ten stay whole, the others are in groups of three. Call after call in turn, as
        the difference is less than what a shared machine's speed changes by in a second.
        """
        from deepmd_mask import Potential

        atoms = atoms_of(frame)
        potential = self.once(Potential, model, device="cpu")
        groups = np.maximum(np.arange(len(atoms[0])) - 7, 0) // 3
        in_part = {"weights": np.where(groups > 0, weight, 1.0), "groups": groups}

        def both() -> list[float]:
            marks = [time.perf_counter()]
            potential.evaluate(*atoms)
            marks.append(time.perf_counter())
            potential.evaluate(*atoms, **in_part)
            marks.append(time.perf_counter())
            return np.diff(marks).tolist()

        return timed(both, seconds, measures=True)

    def part(self, model: str, frame: str, part: str, seconds: float) -> list[float]:
        """Time a kernel of evaluations; the model is a pickle of arguments of `_kernels.Model`.

        Kernels have threads of their own, which still look out for work when those of another one
        begin; so none is called between. The package is not imported, so that a build without it
        serves, too.
        """
        return timed(getattr(self.once(kernels_on, model, frame), part), seconds)

    def train(self, seconds: float, **options: Any) -> list[float]:
        """Time training steps; deepmd_side.Training has the options."""
        import deepmd_side

        return timed(self.once(deepmd_side.Training, **options).step, seconds)

    def predict(self, who: str, model: str, frames: list[str]) -> list[list]:
        """Return energy and forces of each frame."""
        atoms = list(map(atoms_of, frames))
        if who == "Potential":
            from deepmd_mask import Potential

            found = [Potential(model, device="cpu").evaluate(*frame)[:2] for frame in atoms]
        else:
            import deepmd_side

            potential = self.once(deepmd_side.opened, model)
            found = [deepmd_side.evaluation(potential, *frame, sel=None)() for frame in atoms]
            found = [(energy.ravel()[0], forces[0]) for energy, forces, *_ in found]
        return [[float(energy), forces.tolist()] for energy, forces in found]

    def usage(self) -> list[float]:
        """Return CPU seconds and megabytes at the peak, of this program alone.

        What getrusage calls the peak begins with that of the process which started this one.
        """
        used = resource.getrusage(resource.RUSAGE_SELF)
        [peak] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return [used.ru_utime + used.ru_stime, int(peak) / 1024]

    def train_nothing(self, shapes: list[list[int]]) -> None:
        """Train parameters of these shapes, without a model."""
        import deepmd_side

        deepmd_side.train_nothing(shapes)

    def shapes(self) -> list[list[int]]:
        """Return those of the parameters of the training."""
        import deepmd_side

        return deepmd_side.shapes()


DO = (
    "rates", "evaluate", "weights", "part", "train", "predict", "usage", "train_nothing", "shapes",
)  # fmt: skip


def main() -> None:
    """Answer requests until standard input ends, on as many processors as threads.

    TensorFlow's pool of threads may be that of a session before the one that is asked for fewer.
    """
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-THREADS:])
    reply = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what DeePMD-kit prints is not an answer
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        do = request.pop("do")
        assert do in DO
        print(json.dumps(getattr(worker, do)(**request)), file=reply, flush=True)


if __name__ == "__main__":
    main()
