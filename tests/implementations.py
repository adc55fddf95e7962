# SPDX-License-Identifier: LGPL-3.0-or-later
"""The kernels that tests run on: deepmd_mask._kernels, and the CUDA kernels with its interface."""

from functools import partial
from importlib import import_module

import numpy as np
import pytest
import reference

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
        return CudaKernels(pytest.importorskip("deepmd_mask._emulated_cuda_kernels", reason=reason))
    reason = "built without DPMASK_CUDA=ON, see docs/gpu.md"
    loaded = CudaKernels(pytest.importorskip("deepmd_mask._cuda_kernels", reason=reason))
    try:
        loaded.upload([1])
    except RuntimeError as error:
        pytest.skip(f"there is no GPU: {error}")
    return loaded


class CudaKernels:
    """A module of CUDA kernels whose results are NumPy's, and objects of its classes, too."""

    def __init__(self, cuda):
        self.cuda = cuda
        self.RealAtoms = cuda.RealAtoms
        self.fit_table32 = partial(fit_table, np.float32)
        self.fit_table64 = partial(fit_table, np.float64)

    def __getattr__(self, name):
        return self.with_numpy(getattr(self.cuda, name))

    def with_numpy(self, found):
        """Return a function, an object or a result of the module with NumPy's arrays."""
        if isinstance(found, self.cuda.DeviceArray):
            return np.asarray(found)
        if isinstance(found, (list, tuple)):
            return type(found)(map(self.with_numpy, found))
        if callable(found):
            return lambda *arguments, **options: self.with_numpy(found(*arguments, **options))
        if type(found).__module__.endswith("cuda_kernels"):
            return WithNumpy(self, found)
        return found


class WithNumpy:
    """An object of the module; the results of its functions are NumPy's arrays."""

    def __init__(self, kernels, wrapped):
        self._kernels, self._wrapped = kernels, wrapped

    def __getattr__(self, name):
        return self._kernels.with_numpy(getattr(self._wrapped, name))


def fit_table(dtype, *, parameters, narrowest, **options):
    """Return the reference's table, since the CPU makes them; panels are as narrow as need be."""
    first, panels, C = reference.table([p.astype(np.float64) for p in parameters], **options)
    return first, panels, C.astype(dtype)
