# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frozen models that are damaged, or that lie, opened and evaluated by Potential."""

from pathlib import Path

import numpy as np
from spoilt_models import spoilt

from deepmd_mask import Potential

TYPES = np.array([0, 0, 1, 1])
ROOM = 1 << 29  # bytes that it may take; a constant that repeats its last number takes a quarter
WEIGHTS, GROUPS = np.array([0.3, 0.3, 1.0, 0.0]), np.array([5, 5, -1, 5])
POSITIONS = np.array([[0.0, 0, 0], [1.1, 0.2, 0], [0, 1.3, 0.1], [0.3, 0, 1.6]])


def attempt(seed):
    """Spoil a model; open and evaluate it."""
    data, kind = spoilt(np.random.default_rng(seed))
    model = Path("model.pb")
    model.write_bytes(data)
    return f"{kind} {run(model)}"


def run(model):
    """Load and evaluate a model."""
    try:
        potential = Potential(model, threads=1)
    except (ValueError, OSError) as error:
        assert model.name in str(error), f"does not name the file: {error}"
        return "refused by Potential"
    ntypes = len(potential.type_map)
    found = potential.evaluate(TYPES % ntypes, POSITIONS)
    if is_own(potential):
        weighted = potential.evaluate(TYPES % ntypes, POSITIONS, WEIGHTS, groups=GROUPS)
        assert weighted.weight_gradient.shape == WEIGHTS.shape
        assert weighted.weight_gradient[-1] == 0
    return "evaluated" if np.isfinite(found.forces).all() else "evaluated, not finite"


def is_own(potential):
    """Return whether a model takes groups; those of the built-in refuse them."""
    try:
        potential.evaluate([], np.zeros((0, 3)), groups=[])
    except ValueError as error:
        assert "built-in" in str(error), error
        return False
    return True
