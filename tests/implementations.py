# SPDX-License-Identifier: LGPL-3.0-or-later
"""The kernels that tests run on: deepmd_mask._kernels, and the CUDA kernels with its interface."""

import os
import sys
from functools import cache, partial
from importlib import import_module

import numpy as np
import pytest
import reference

INSTRUCTION_SETS = ["avx512", "avx2", "baseline"]
BUILT = {"cuda": "ON", "emulated": "EMULATED"}  # by which DPMASK_CUDA
kernels = None  # those that a test runs on


def on(*names):
    """Run a test on those implementations that there are; a test without this runs on the CPU.

    Where there is none, this skips the module.
    DP_MASK_TEST_ON in the environment, words with commas between them, names those that must be
    there.
    """
    found = [name for name in names if reason_against(name) is None]
    if not found:
        missing = "; ".join(f"no {name}: {reason_against(name)}" for name in names)
        pytest.skip(missing, allow_module_level=True)
    return pytest.mark.parametrize("implementation", found, indirect=True)


@cache
def reason_against(name):
    """Return why an implementation cannot be tested here, or None if it can."""
    try:
        kernels = load(name)
        if name == "cuda":
            kernels.upload([1])
        if name in INSTRUCTION_SETS:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("DP_MASK_ISA", name)
                kernels.instruction_set()
    except (ImportError, RuntimeError, ValueError) as error:
        if name in os.environ.get("DP_MASK_TEST_ON", "").split(","):
            raise
        built = f", which takes -DDPMASK_CUDA={BUILT[name]}" if name in BUILT else ""
        return f"{error}{built}"
    return None


@pytest.fixture(autouse=True)
def implementation(request, monkeypatch):
    """Give `kernels`, here and in a module that imports this, what the test's parameter names."""
    name = getattr(request, "param", "cpu")
    if name in INSTRUCTION_SETS:
        monkeypatch.setenv("DP_MASK_ISA", name)
    loaded = load(name)
    if name in INSTRUCTION_SETS:
        assert loaded.instruction_set() == name
    for module in (request.module, sys.modules[__name__]):
        monkeypatch.setattr(module, "kernels", loaded)


def load(name):
    """Return an object with the functions of _kernels that CUDA has.

    Parameters
    ----------
    name
        "cpu", or one of INSTRUCTION_SETS; "cuda"; or "emulated" for the sources of "cuda",
        compiled for the CPU.

    Raises
    ------
    ImportError
        If it has not been built.
    """
    if name in BUILT:
        prefix = {"cuda": "", "emulated": "emulated_"}[name]
        return CudaKernels(import_module(f"deepmd_mask._{prefix}cuda_kernels"))
    return import_module("deepmd_mask._kernels")


class CudaKernels:
    """A module of CUDA kernels whose results are NumPy's, and objects of its classes, too."""

    def __init__(self, cuda):
        self.cuda = cuda
        for name in (
            "RealAtoms",
            "AtomError",
            "Model",
            "Potential",
        ):  # what takes and gives NumPy's
            setattr(self, name, getattr(cuda, name))
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
