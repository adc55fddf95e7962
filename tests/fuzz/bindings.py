# SPDX-License-Identifier: LGPL-3.0-or-later
"""The kernels' NumPy bindings, by the checks that test_fuzz.py makes a share of."""

import warnings

import numpy as np
import test_fuzz as checks

KINDS = ["f8", "f4", "i8", "u1", "?", "c16", "U3", "O", "M8[s]"]


def anything(rng):
    """Return what is an array perhaps, of any small shape and type."""
    kind = rng.integers(8)
    if kind == 0:
        return None
    if kind == 1:
        return float(rng.choice([0.0, np.nan, 1e300]))
    if kind == 2:
        return "x" * int(rng.integers(4))
    return np.zeros(rng.integers(0, 5, size=rng.integers(0, 5)), dtype=rng.choice(KINDS))


def attempt(seed):
    """Make one of the checks with random input."""
    rng = np.random.default_rng([seed, 1])
    three = [anything(rng) for _ in range(3)]
    calls = {
        "real atoms": (checks.check_real_atoms, seed),
        "real atoms of anything": (checks.check_anything, *three, int(rng.integers(-3, 4))),
        "good input": (checks.check_good_input, seed),
        "bad nets": (checks.check_bad_nets, seed),
        "wrong arrays": (checks.check_wrong_arrays, seed, *three),
        "potential": (checks.check_potential, seed),
        "weights": (checks.check_weights, seed),
        "wrong models": (checks.check_wrong_model, seed, *three),
        "wrong arrays of the fitting nets": (checks.check_wrong_fitting_arrays, seed, *three),
    }
    name = list(calls)[seed % len(calls)]
    check, *arguments = calls[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return f"{name}: {check(*arguments)}"
