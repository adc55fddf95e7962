# SPDX-License-Identifier: LGPL-3.0-or-later
"""Memory that a training frees is not given back to the system, which would clear its pages."""

import os
import subprocess
import sys

import pytest

# Faults of pages: an array that is larger than what malloc keeps of itself, again and again.
FAULTS = """
import ctypes, resource
from deepmd_mask.hooks.memory import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        array = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(2**26)))
        libc.memset(array, 1, ctypes.c_size_t(2**26))
        libc.free(array)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

without = faults()
keep_freed_memory()
faults()
print(without, faults())
"""


@pytest.mark.parametrize(
    ("said", "is_kept"),
    [({}, True), ({"MALLOC_TOP_PAD_": "1"}, False),
     ({"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}, False)],
)  # fmt: skip
def test_freed_memory_is_kept_unless_the_user_says_otherwise(said, is_kept):
    environment = {name: os.environ[name] for name in os.environ if "MALLOC" not in name} | said
    found = subprocess.run(
        [sys.executable, "-c", FAULTS], env=environment, capture_output=True, text=True, check=True
    )
    without, after = map(int, found.stdout.split())
    assert (after < without / 10) == is_kept
