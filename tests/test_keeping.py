# SPDX-License-Identifier: LGPL-3.0-or-later
"""What is kept of a case is what it would compute, and all that follows from it is the same."""

import numpy as np
from embedding_case import Case
from fitting_case import FittingCase


def of_both(name):
    """Return what tests ask of cases, and the random numbers after that."""
    case, fitting = Case(), FittingCase()
    case.name = fitting.name = name
    found = [case.A, *case.moves[0], *fitting.cotangents]
    for _, directions, wanted in case.embed_grad:
        found += [*directions, wanted]
    for (_, directions, wanted), tolerance in case.force_grad:
        found += [*directions, wanted, tolerance]
    for step in fitting.gradient:
        found += step
    return [*found, *case.cotangents.values(), case.rng.normal(), fitting.rng.normal()]


def assert_same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_kept_cases_are_computed_ones(tmp_path, monkeypatch):
    monkeypatch.delenv("DP_MASK_TEST_KEPT", raising=False)
    wanted = of_both("a case")
    monkeypatch.setenv("DP_MASK_TEST_KEPT", str(tmp_path / "kept"))
    assert_same(of_both("a case"), wanted)
    files = set((tmp_path / "kept").iterdir())
    assert len(files) == 4
    monkeypatch.setattr("reference.loss_of_forces", None)  # what is kept is not computed
    monkeypatch.setattr("reference.derivative", None)
    assert_same(of_both("a case"), wanted)
    assert set((tmp_path / "kept").iterdir()) == files
