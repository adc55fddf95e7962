# SPDX-License-Identifier: LGPL-3.0-or-later
"""The kernels that tests run on: deepmd_mask._kernels, and the CUDA kernels with its interface."""

import os
from functools import partial
from importlib import import_module

import numpy as np
import pytest
import reference

TERMS = 16  # kTerms of op/shared/series.h


INSTRUCTION_SETS = ["avx512", "avx2", "baseline"]


def on(*names):
    """Run a test on implementations; a test that has none of this runs on the CPU."""
    return pytest.mark.parametrize("implementation", names, indirect=True)


@pytest.fixture(autouse=True)
def implementation(request, monkeypatch):
    """Give `kernels` of a module that imports this what the test's parameter names."""
    name = getattr(request, "param", "cpu")
    if name in INSTRUCTION_SETS:
        monkeypatch.setenv("DP_MASK_ISA", name)
    loaded = load("cpu" if name in INSTRUCTION_SETS else name)
    monkeypatch.setattr(request.module, "kernels", loaded)
    if name in INSTRUCTION_SETS:
        try:
            assert loaded.instruction_set() == name
        except ValueError as error:
            pytest.skip(str(error))


def load(name):
    """Return an object with the functions of _kernels that CUDA has, or skip the test.

    Parameters
    ----------
    name
        "cpu"; "cuda"; or "emulated" for the sources of "cuda", compiled for the CPU.
    """
    if name == "cpu":
        return import_module("deepmd_mask._kernels")
    if name == "emulated":
        reason = "built without DPMASK_CUDA=EMULATED, see docs/gpu.md"
        module = pytest.importorskip("deepmd_mask._emulated_cuda_kernels", reason=reason)
        module.expect_stream(OnTheCpu.stream)
        return CudaKernels(module, OnTheCpu)
    reason = "built without DPMASK_CUDA=ON, see docs/gpu.md"
    module = pytest.importorskip("deepmd_mask._cuda_kernels", reason=reason)
    cupy = pytest.importorskip("cupy", reason="CuPy makes the arrays on the GPU")
    if not cupy.cuda.is_available():
        pytest.skip("there is no GPU")
    return CudaKernels(module, OnTheGpu(cupy))


class OnTheCpu:
    """Arrays for the emulated kernels; what was never written is not a number."""

    stream = 4711  # no pointer, but no kernel may be on another

    @staticmethod
    def put(array, dtype=None):
        return np.array(array, dtype=dtype)  # a copy, whose ends a sanitizer knows

    @staticmethod
    def empty(shape, dtype=np.float64):
        return np.full(shape, np.nan, dtype)

    @staticmethod
    def get(array):
        return array.copy()

    @staticmethod
    def pointer(array):
        return array.ctypes.data


class OnTheGpu:
    """The same for a GPU."""

    def __init__(self, cupy):
        self.cupy = cupy
        self.get = cupy.asnumpy
        # No pool: each array is an allocation of its own, whose ends compute-sanitizer knows.
        cupy.cuda.set_allocator(None)
        # initcheck can see what was never written only where nothing was.
        self.leaves_unwritten = "DPMASK_LEAVE_UNWRITTEN" in os.environ

    @property
    def stream(self):
        return self.cupy.cuda.get_current_stream().ptr

    def put(self, array, dtype=None):
        return self.cupy.asarray(array, dtype=dtype, order="C")

    def empty(self, shape, dtype=np.float64):
        if self.leaves_unwritten:
            return self.cupy.empty(shape, dtype)
        return self.cupy.full(shape, np.nan, dtype)

    @staticmethod
    def pointer(array):
        return array.data.ptr


class CudaKernels:
    """Copies to the device, calls, copies back."""

    def __init__(self, cuda, arrays):
        self.cuda = cuda
        self.arrays = arrays
        self.RealAtoms = cuda.RealAtoms
        for bits, dtype in (("32", np.float32), ("64", np.float64)):
            setattr(self, f"Embedding{bits}", partial(Embedding, self, bits, dtype))
            setattr(self, f"fit_table{bits}", partial(fit_table, dtype))
            setattr(self, f"Fitting{bits}", partial(Fitting, self, bits, dtype))
            setattr(self, f"multiply{bits}", partial(self._multiply, bits, dtype))
            setattr(self, f"contract{bits}", partial(self._contract, bits, dtype))
            setattr(self, f"contract_reverse{bits}", partial(self._contract_reverse, bits, dtype))

    def put_atoms(self, atoms):
        """Return the kernels' DeviceAtoms, numbers of pairs, frames and slots."""
        ntypes, (nframes, nslots) = atoms.ntypes, atoms.coord.shape[:2]
        counts = np.diff(atoms.first).reshape(ntypes, nframes).sum(axis=0)
        size, npairs = int(counts.sum()), int(np.sum(counts**2))
        names = ("slot", "weight", "first", "coord")
        arrays = {name: self.arrays.put(getattr(atoms, name)) for name in names}
        lengths = dict.fromkeys(("type", "frame", "local", "rows"), size)
        lengths |= dict.fromkeys(("rows_first", "pair_first"), nframes + 1)
        arrays |= {name: self.arrays.put(np.full(n, -1)) for name, n in lengths.items()}
        arrays["position"] = self.arrays.empty((size, 4))
        device = self.cuda.DeviceAtoms(
            arrays,
            first=list(atoms.first),
            nframes=nframes,
            nslots=nslots,
            ntypes=ntypes,
            npairs=npairs,
        )
        self.cuda.number_pairs(device, self.arrays.stream)
        return device, npairs, nframes, nslots

    def empty_forces(self, nframes, nslots):
        shapes = ((nframes, nslots, 3), (nframes, 9), (nframes, nslots, 9))
        return [self.arrays.put(np.zeros(shape)) for shape in shapes]

    def get_all(self, arrays):
        return tuple(self.arrays.get(array) for array in arrays)

    def environment(self, atoms):
        device, npairs, _, _ = self.put_atoms(atoms)
        R = self.arrays.empty((npairs, 4))
        self.cuda.environment(device, R, self.arrays.stream)
        return self.arrays.get(R)

    def environment_force(self, atoms, dR):
        device, npairs, nframes, nslots = self.put_atoms(atoms)
        out = self.empty_forces(nframes, nslots)
        dr = self.arrays.empty((npairs, 3))
        self.cuda.environment_force(device, self.arrays.put(dR), dr, *out, self.arrays.stream)
        return self.get_all(out)

    def environment_force_grad(self, atoms, force, virial, atom_virial):
        device, npairs, _, _ = self.put_atoms(atoms)
        given = [self.arrays.put(array) for array in (force, virial, atom_virial)]
        ddR = self.arrays.empty((npairs, 4))
        self.cuda.environment_force_grad(device, *given, ddR, self.arrays.stream)
        return self.arrays.get(ddR)

    def _multiply(self, bits, dtype, left, right, left2, right2, bias, add, *, layout, in_place):
        """Return bias + add + left right + left2 right2; all may be None but left and right.

        Layout has "C" or "F" for how left and right lie in memory.
        """

        def put(array, order="C"):
            return None if array is None else self.arrays.put(array.ravel(order), dtype)

        (rows, depth), columns = left.shape, right.shape[1]
        add = put(add)
        out = add if in_place else self.arrays.empty(rows * columns, dtype)
        getattr(self.cuda, f"multiply{bits}")(
            put(left, layout[0]),
            put(right, layout[1]),
            out,
            put(bias),
            add,
            put(left2, layout[0]),
            put(right2, layout[1]),
            self.arrays.empty(getattr(self.cuda, f"product_workspace{bits}")(), dtype),
            rows=rows,
            columns=columns,
            depth=depth,
            left_transposed=layout[0] == "F",
            right_transposed=layout[1] == "F",
            stream=self.arrays.stream,
        )
        return self.arrays.get(out).reshape(rows, columns)

    def _contract(self, bits, dtype, X, Y, M2, threads=1):
        size, _, M1 = X.shape
        B = self.arrays.empty((size, M1, M2), dtype)
        X, Y = self.arrays.put(X), self.arrays.put(Y)
        contract = getattr(self.cuda, f"contract{bits}")
        contract(X, Y, B, size=size, M1=M1, M2=M2, stream=self.arrays.stream)
        return self.arrays.get(B)

    def _contract_reverse(self, bits, dtype, Y, gB, M2, threads=1):
        size, _, M1 = Y.shape
        gX = self.arrays.empty(Y.shape, dtype)
        Y, gB = self.arrays.put(Y), self.arrays.put(gB)
        reverse = getattr(self.cuda, f"contract_reverse{bits}")
        reverse(Y, gB, gX, size=size, M1=M1, M2=M2, stream=self.arrays.stream)
        return self.arrays.get(gX)


def fit_table(dtype, *, parameters, narrowest, **options):
    """Return the reference's table, since the CPU makes them; panels are as narrow as need be."""
    first, panels, C = reference.table([p.astype(np.float64) for p in parameters], **options)
    return first, panels, C.astype(dtype)


class Embedding:
    """The embedding, whose series the device finds."""

    def __init__(self, kernels, bits, dtype, atoms, *, net, parameters, n, threads=1, **shape):
        self.kernels, self.arrays, self.dtype = kernels, kernels.arrays, dtype
        self.device, self.npairs, self.nframes, self.nslots = kernels.put_atoms(atoms)
        self.like_X = (len(atoms.slot), 4, shape["neuron"][-1])
        self.net, self.net_on_device = list(net), self.arrays.put(net, np.int32)
        self.parameters = [self.arrays.put(p, dtype) for p in parameters]
        self.make = partial(
            getattr(kernels.cuda, f"DeviceEmbedding{bits}"),
            self.device,
            parameters=self.parameters,
            n=n,
            **shape,
        )
        of_net = len(reference.parameters_per_net(shape["neuron"], shape["resnet_dt"]))
        M1, nnets = shape["neuron"][-1], len(parameters) // of_net
        first = np.zeros(nnets + 1, dtype=np.int64)
        self.use_table(first, np.empty((0, 2)), np.empty((0, TERMS, M1), dtype))
        self._find_series(first, self.device_embedding.most_panels(atoms), M1)

    def _find_series(self, first, most, M1):
        """Let the device choose the panels; their number is all that it tells the host."""
        nnets, capacity = len(most), min(max(most, default=0), self.kernels.cuda.MOST_PANELS)
        if capacity == 0:
            return
        found = (
            self.arrays.put(np.full(nnets, -1)),
            self.arrays.empty((nnets, capacity, 2)),
            self.arrays.empty((nnets, capacity, TERMS, M1), self.dtype),
        )
        pointers = [self.arrays.pointer(p) for p in self.parameters]
        self.find_panels = partial(
            self.device_embedding.find_panels,
            self.arrays.put(pointers, np.int64),
            self.arrays.put(most, np.int64),
            capacity,
            *found,
            self.arrays.empty(self.workspaces["find"]),
            self.arrays.stream,
        )
        self.find_panels()
        first[1:] = np.cumsum(self.arrays.get(found[0]))
        npanels = first[-1]
        shapes = ((npanels, 2), (npanels, TERMS, M1))
        self.use_table(first, *(np.full(shape, np.nan) for shape in shapes))
        self.device_embedding.join_panels(capacity, *found, self.arrays.stream)

    def series(self):
        """Return first, panels and C of the series in use."""
        return self.first, self.arrays.get(self.panels), self.arrays.get(self.C)

    def use_table(self, first, panels, C):
        self.first = first
        self.panels = self.arrays.put(panels)
        self.C = self.arrays.put(C, self.dtype)
        arrays = {
            "net": self.net_on_device,
            "first": self.arrays.put(first),
            "panels": self.panels,
            "C": self.C,
        }
        self.device_embedding = self.make(
            arrays,
            net=self.net,
            first=list(first),
        )
        self.workspaces = self.device_embedding.workspaces()

    def npairs_of_direct(self):
        """Pairs whose dr need memory: of all, if any net has no series."""
        return 0 if self.workspaces["direct"] == 0 else self.npairs

    def _workspace(self, *names):
        return [self.arrays.empty(self.workspaces[name], self.dtype) for name in names]

    def embed(self):
        X = self.arrays.empty(self.like_X, self.dtype)
        self.device_embedding.embed(X, *self._workspace("moments", "direct"), self.arrays.stream)
        return self.arrays.get(X)

    def embed_grad(self, dX):
        def run(*outputs):
            self.device_embedding.embed_grad(self.arrays.put(dX, self.dtype), *outputs)

        return self._gradients(run)

    def force(self, A):
        out = self.kernels.empty_forces(self.nframes, self.nslots)
        self.device_embedding.force(
            self.arrays.put(A, self.dtype),
            *out,
            *self._workspace("moments"),
            self.arrays.empty(self.workspaces["sums"]),
            self.arrays.empty((self.npairs_of_direct(), 3)),
            *self._workspace("direct"),
            self.arrays.stream,
        )
        return self.kernels.get_all(out)

    def force_grad(self, A, force, virial, atom_virial):
        dA = self.arrays.empty(self.like_X, self.dtype)
        given = [self.arrays.put(array) for array in (force, virial, atom_virial)]

        def run(*outputs):
            self.device_embedding.force_grad(self.arrays.put(A, self.dtype), *given, dA, *outputs)

        gradients = self._gradients(run)
        return self.arrays.get(dA), gradients

    def _gradients(self, run):
        """Of all parameters: of the nets themselves, and through dC of those with a series."""
        dC = self.arrays.empty(self.C.shape, self.dtype)
        fill = 0 if self.workspaces["direct"] == 0 else np.nan  # set only where a net has no series
        gradient = [self.arrays.put(np.full(p.shape, fill), self.dtype) for p in self.parameters]
        run(dC, gradient, *self._workspace("moments", "direct"), self.arrays.stream)
        by_series = [self.arrays.empty(p.shape, self.dtype) for p in self.parameters]
        workspace = self.arrays.empty(self.workspaces["series"])
        self.device_embedding.fit_panels_grad(dC, by_series, workspace, self.arrays.stream)
        both = map(self.kernels.get_all, (gradient, by_series))
        return [one + other for one, other in zip(*both, strict=True)]


class Fitting:
    """The fitting nets."""

    def __init__(self, kernels, bits, dtype, type_first, D, *, parameters, threads=1, **shape):
        self.kernels, self.arrays, self.bits, self.dtype = kernels, kernels.arrays, bits, dtype
        self.D = self.arrays.put(D, dtype)
        self.parameters = [self.arrays.put(p, dtype) for p in parameters]
        self.device_fitting = getattr(kernels.cuda, f"DeviceFitting{bits}")(
            list(type_first), self.D, ninputs=D.shape[1], parameters=self.parameters, **shape
        )
        self.workspaces = self.device_fitting.workspaces()

    def _empty(self, shape):
        return self.arrays.empty(shape, self.dtype)

    def energies(self):
        out = [self._empty(len(self.D)), self._empty(self.D.shape)]
        out.append(self._empty(self.workspaces["z"]))
        workspace = self._empty(self.workspaces["energies"])
        self.device_fitting.energies(*out, workspace, self.arrays.stream)
        return self.kernels.get_all(out)

    def read_out(self, atoms, X, M2, bias):
        """Do what cuda/gpu.cc does."""
        cuda, stream = self.kernels.cuda, self.arrays.stream
        device, _, nframes, nslots = self.kernels.put_atoms(atoms)
        size, _, M1 = X.shape
        X, A = self.arrays.put(X), self._empty(X.shape)
        e, A_D = self._empty(size), self._empty(self.D.shape)
        sizes = {"size": size, "M1": M1, "M2": M2}

        def call(name, *arguments, **options):
            getattr(cuda, f"{name}{self.bits}")(*arguments, **options, stream=stream)

        call("contract", X, X, self.D, **sizes)
        z, workspace = (self._empty(self.workspaces[name]) for name in ("z", "energies"))
        self.device_fitting.energies(e, A_D, z, workspace, stream)
        call("contract_reverse", X, A_D, A, **sizes)
        call("weigh", device, 2, 4 * M1, A)
        energies = self.arrays.empty(nframes), self.arrays.put(np.zeros((nframes, nslots)))
        call("spread_energies", device, self.arrays.put(bias), e, *energies)
        return self.kernels.get_all([*energies, A])

    def energies_grad(self, z, de, dA):
        dD = self._empty(self.D.shape)
        gradient = [self._empty(p.shape) for p in self.parameters]
        self.device_fitting.energies_grad(
            *(self.arrays.put(array, self.dtype) for array in (z, de, dA)),
            dD,
            gradient,
            self._empty(self.workspaces["energies_grad"]),
            self.arrays.stream,
        )
        return self.arrays.get(dD), list(self.kernels.get_all(gradient))
