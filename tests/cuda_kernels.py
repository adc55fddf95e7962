# SPDX-License-Identifier: LGPL-3.0-or-later
"""The CUDA kernels with the interface of deepmd_mask._kernels, so that both run the same tests."""

import numpy as np
import pytest


def load():
    """Return an object with the functions of _kernels that CUDA has, or skip the test."""
    cuda = pytest.importorskip(
        "deepmd_mask._cuda_kernels", reason="built without DPMASK_CUDA=ON, see docs/developing.md"
    )
    cupy = pytest.importorskip("cupy", reason="CuPy makes the arrays on the GPU")
    if not cupy.cuda.is_available():
        pytest.skip("there is no GPU")
    return CudaKernels(cuda, cupy)


class CudaKernels:
    """Copies to the GPU, calls, copies back."""

    def __init__(self, cuda, cupy) -> None:
        self.cuda = cuda
        self.cupy = cupy

    def _stream(self):
        return self.cupy.cuda.get_current_stream().ptr

    def _device_atoms(self, atoms):
        ntypes, (nframes, nslots) = atoms.ntypes, atoms.coord.shape[:2]
        counts = np.diff(atoms.first).reshape(ntypes, nframes).sum(axis=0)
        size, npairs = int(counts.sum()), int(np.sum(counts**2))
        arrays = {
            name: self.cupy.asarray(getattr(atoms, name))
            for name in ("slot", "weight", "first", "coord")
        }
        lengths = {
            "frame": size,
            "local": size,
            "rows": size,
            "rows_first": nframes + 1,
            "pair_first": nframes + 1,
        }
        arrays |= {name: self.cupy.zeros(n, dtype=np.int64) for name, n in lengths.items()}
        device = self.cuda.DeviceAtoms(
            arrays, nframes=nframes, nslots=nslots, ntypes=ntypes, size=size, npairs=npairs
        )
        self.cuda.number_pairs(device, self._stream())
        return device, npairs, nframes, nslots

    def environment(self, atoms):
        device, npairs, _, _ = self._device_atoms(atoms)
        R = self.cupy.empty((npairs, 4))
        self.cuda.environment(device, R, self._stream())
        return R.get()

    def environment_force(self, atoms, dR):
        device, npairs, nframes, nslots = self._device_atoms(atoms)
        out = [
            self.cupy.zeros(s) for s in ((nframes, nslots, 3), (nframes, 9), (nframes, nslots, 9))
        ]
        scratch = self.cupy.empty((npairs, 3))
        self.cuda.environment_force(device, self.cupy.asarray(dR), scratch, *out, self._stream())
        return tuple(array.get() for array in out)

    def environment_force_grad(self, atoms, force, virial, atom_virial):
        device, npairs, _, _ = self._device_atoms(atoms)
        given = [self.cupy.asarray(array) for array in (force, virial, atom_virial)]
        ddR = self.cupy.empty((npairs, 4))
        self.cuda.environment_force_grad(device, *given, ddR, self._stream())
        return ddR.get()
