# SPDX-License-Identifier: LGPL-3.0-or-later
"""The memory of a training: what one step has freed is there for the next."""

import ctypes
import os

# Of glibc's mallopt, as malloc.h has them.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1  # bytes; mallopt takes an int
_SAID_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_")


def keep_freed_memory() -> None:
    """Let glibc keep what is freed, instead of giving large arrays back to the system.

    The system clears each page that it gives out again, which was a tenth of a step. Nothing is
    done where the environment says what malloc is to do, or where the C library is another one.
    """
    is_said = any(name in os.environ for name in _SAID_BY_USER)
    if is_said or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _NEVER)
        mallopt(_MMAP_THRESHOLD, _NEVER)
