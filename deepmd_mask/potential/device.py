# SPDX-License-Identifier: LGPL-3.0-or-later
"""Where a potential computes."""

from importlib import import_module
from types import ModuleType

from .. import _kernels

DEVICES = ("auto", "cpu", "cuda")
HOW_TO_GET_IT = 'build it where nvcc is, CMAKE_ARGS=-DDPMASK_CUDA=ON pip install "deepmd-mask"'


def kernels_on(device: str) -> ModuleType:
    """Return the module that has Model and Potential for a device.

    Parameters
    ----------
    device
        One of DEVICES; "auto" is a GPU where there is one that works, else the CPU.

    Raises
    ------
    ValueError
        If it is none of them.
    RuntimeError
        If a GPU is asked for, and there is none, or no kernels for one.
    """
    if device not in DEVICES:
        raise ValueError(f"device is {device!r}; give one of {', '.join(map(repr, DEVICES))}")
    if device == "cpu":
        return _kernels
    reason = ""
    try:
        module = import_module(".._cuda_kernels", __package__)
    except ImportError as error:
        reason = f"deepmd-mask was built without kernels for it ({error}); {HOW_TO_GET_IT}"
    else:
        if not hasattr(module, "Potential"):
            reason = f"these kernels have no potential for it; {HOW_TO_GET_IT}"
        elif module.device_count() < 1:
            reason = "the driver finds none that works; nvidia-smi tells more"
    if not reason:
        return module
    if device == "cuda":
        raise RuntimeError(f"there is no GPU to compute on: {reason}")
    return _kernels
