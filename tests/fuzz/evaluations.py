# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluates a potential many times, each time another molecule; memory must not grow.

Every molecule is evaluated twice, with others between, and gives the same bits. Prints how much
memory the process had on the way.
"""

import argparse
import resource
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_potential_kernel import NTYPES, assert_same, potential_of, random_model

MOST = 60  # atoms
ROOM = 8 << 20  # bytes by which it may grow when the first tenth is over


def memory() -> int:
    """Return what the process has in memory, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def molecules(seed: int) -> tuple:
    """Return types, positions, weights and groups of some frames, where there are groups."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 4)), int(rng.integers(1, MOST)))
    types = rng.integers(NTYPES, size=shape).astype(np.int32)
    weights = (rng.random(shape) < 0.8).astype(float)
    groups = None
    if seed % 3 == 0:
        groups = rng.integers(9, size=shape)
        weights *= np.take_along_axis(rng.random((len(weights), 9)), groups, axis=1)
    return types, rng.normal(scale=3.0, size=(*shape, 3)), weights, groups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=1_000_000, help="of evaluations")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    models = [random_model(0, min_distance=2.0), random_model(1, precision="float32")]
    potential = potential_of(*models, threads=arguments.threads)
    at_first, seen, before = None, {}, 0
    for k in range(arguments.number):
        seed = k // 8 * 4 + k % 4  # 0 to 3 twice, 4 to 7 twice, ...
        *frames, groups = molecules(seed)
        found = potential.evaluate(*frames, virial=seed % 2 == 0, groups=groups)
        if seed in seen:
            wanted = [array for array in seen.pop(seed) if array is not None]
            assert_same([array for array in found if array is not None], wanted)
        else:
            seen[seed] = found
        if k == arguments.number // 10:
            at_first = memory()
        if k >= 2 * before:
            before = max(k, 1)
            print(f"{k} evaluations: {memory() / 1e6:.1f} MB", flush=True)
    print(f"{arguments.number} evaluations: {memory() / 1e6:.1f} MB")
    if at_first is not None and memory() > at_first + ROOM:
        raise SystemExit(f"memory grew from {at_first / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
