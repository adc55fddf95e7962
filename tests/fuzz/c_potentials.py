# SPDX-License-Identifier: LGPL-3.0-or-later
"""Random frames, with a mask or with weights of groups, for the library for C and for Potential.

Both must give the same numbers, bit for bit, or the same error.
"""

from functools import cache
from pathlib import Path

import numpy as np
from c_library import CError, CPotential
from random_input import RandomFrames

from deepmd_mask import Potential

SEEDS = sorted((Path(__file__).parent / "seeds").glob("*.pb"))
RESULTS = "energy energies forces virial"


@cache
def opened(path):
    return CPotential(path, threads=1), Potential(path, device="cpu", threads=1)


def attempt(seed):
    """Evaluate frames of one of the models of seeds/."""
    c, python = opened(SEEDS[seed % len(SEEDS)])
    frames = RandomFrames(seed)
    if np.abs(frames.coord[frames.mask != 0]).max(initial=0) > 1e100:
        return "not tried: virials are no numbers"
    groups, wanted = None, RESULTS
    if seed // len(SEEDS) % 3:
        frames.give_groups()
        groups, wanted = frames.groups, f"{RESULTS} weight_gradient"
    arguments = frames.types, frames.coord, frames.mask
    said = {}
    try:
        found = c.evaluate(*arguments, groups=groups, wanted=wanted)
    except CError as error:
        said["C"] = str(error)
    try:
        of_python = python.evaluate(*arguments, groups=groups, virial=True)
    except ValueError as error:
        said["Python"] = str(error)
    if said:
        assert said.get("C") == said.get("Python"), said
        assert "atom " in said["C"], said
        return "refused"
    for name, values in found.items():
        other = getattr(of_python, name)
        np.testing.assert_array_equal(values, other.reshape(values.shape), err_msg=name)
        assert np.isfinite(values).all(), name
    return "done" if groups is None else "done, with groups"
