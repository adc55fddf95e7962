# SPDX-License-Identifier: LGPL-3.0-or-later
"""The library for C, called from Python; docs/c.md shows how C does it.

As a script it opens files, with little memory, and prints what became of each as JSON.
"""

import ctypes
import json
import resource
import sys
from ctypes import POINTER, c_char_p, c_double, c_int, c_int32, c_int64, c_void_p
from importlib.util import find_spec
from pathlib import Path

import numpy as np

FOLDER = Path(find_spec("deepmd_mask").origin).parent
LIBRARIES = sorted(FOLDER.glob("libdeepmd_mask_c.so.*"))
NUMBERS = POINTER(c_double)
SIGNATURES = {
    "version": (c_char_p, []),
    "error": (c_char_p, []),
    "open": (c_void_p, [c_char_p, c_int]),
    "close": (None, [c_void_p]),
    "ntypes": (c_int, [c_void_p]),
    "type_name": (c_char_p, [c_void_p, c_int]),
    "type_of": (c_int, [c_void_p, c_char_p]),
    "sel": (c_int64, [c_void_p, c_int]),
    "threads": (c_int, [c_void_p]),
    "evaluate": (
        c_int,
        [c_void_p, c_int64, c_int64, POINTER(c_int32), *[NUMBERS] * 6],
    ),
    "evaluate_weighted": (
        c_int,
        [
            *(c_void_p, c_int64, c_int64, POINTER(c_int32)),
            *(NUMBERS, NUMBERS, POINTER(c_int64)),
            *[NUMBERS] * 5,
        ],
    ),
}


def functions():
    """Return the functions of the header, by name without prefix."""
    (path,) = LIBRARIES
    library = ctypes.CDLL(str(path))
    found = {}
    for name, (result, arguments) in SIGNATURES.items():
        found[name] = getattr(library, f"dpmask_{name}")
        found[name].restype, found[name].argtypes = result, arguments
    return found


class CError(Exception):
    """What dpmask_error() says."""


class CPotential:
    """A potential by way of C."""

    def __init__(self, path, threads=0):
        self.c = functions()
        self.handle = self.c["open"](str(path).encode(), threads)
        if not self.handle:
            raise CError(self.c["error"]().decode())

    def close(self):
        self.c["close"](self.handle)
        self.handle = None

    def evaluate(
        self,
        types,
        positions,
        weights=None,
        wanted="energy energies forces virial",
        groups=None,
    ):
        """Evaluate frames; arrays as in the header. Return the wanted results, by name."""
        nframes, natoms = np.shape(types)
        shapes = {
            "energy": (nframes,),
            "energies": (nframes, natoms),
            "forces": (nframes, natoms, 3),
            "virial": (nframes, 9),
            "weight_gradient": (nframes, natoms),
        }
        results = {name: np.full(shapes[name], np.nan) for name in wanted.split()}
        given = [np.ascontiguousarray(types, np.int32)]
        given += [None if x is None else np.array(x, float) for x in (positions, weights)]
        pointers = [
            None if x is None else x.ctypes.data_as(kind)
            for x, kind in zip(given, (POINTER(c_int32), NUMBERS, NUMBERS), strict=True)
        ]
        outputs = [
            results[name].ctypes.data_as(NUMBERS) if name in results else None for name in shapes
        ]
        name = "evaluate"
        if groups is None and "weight_gradient" not in results:
            outputs.pop()
        else:
            name = "evaluate_weighted"
            groups = None if groups is None else np.ascontiguousarray(groups, np.int64)
            pointers.append(None if groups is None else groups.ctypes.data_as(POINTER(c_int64)))
        if self.c[name](self.handle, nframes, natoms, *pointers, *outputs) != 0:
            raise CError(self.c["error"]().decode())
        return results


def memory():
    """Return the most memory that this process has had, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def open_all(paths, limit=1 << 30):
    """Open files and return, for each, what is wrong with it, "" if nothing, and new memory."""
    c = functions()
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    found = []
    for path in paths:
        before = memory()
        handle = c["open"](path.encode(), 1)
        said = "" if handle else c["error"]().decode()
        c["close"](handle)
        found.append((said, memory() - before))
    return found


if __name__ == "__main__":
    print(json.dumps(open_all(sys.argv[1:])))
