# SPDX-License-Identifier: LGPL-3.0-or-later
"""Bad molecules, as section "Bad input" of the design has them, from C and from Python alike."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from c_library import LIBRARIES, CError, CPotential, functions

from deepmd_mask import Potential

TYPES = np.array([[2, 0, 1, 0]])
POSITIONS = np.array([[[0, 0, 0], [1.6, 0.2, 0], [0.1, 1.8, 0.4], [-0.3, 0.2, 1.7]]])
INT32 = np.iinfo(np.int32)

pytestmark = pytest.mark.skipif(not LIBRARIES, reason="built with -DDPMASK_C=OFF")


# What spoils a molecule, the atom that messages name, and what they say of it.
BAD_ATOMS = {
    "mask": (
        ("weights", 2, 0.9),
        2,
        "mask value 0.9 is neither 0 nor 1; the mask (weights, or aparam) must be 1 for a real "
        "atom and 0 for a virtual one",
    ),
    "mask that is no number": (
        ("weights", 0, np.nan),
        0,
        "mask value nan is neither 0 nor 1; the mask (weights, or aparam) must be 1 for a real "
        "atom and 0 for a virtual one",
    ),
    "not finite": (
        ("positions", (3, 1), np.inf),
        3,
        "coordinate y of a real atom is inf, not a finite number; mend it or set the atom's mask "
        "to 0",
    ),
    "coincident": (
        ("positions", 3, POSITIONS[0, 1]),
        1,
        "at the same point as atom 3 (distance 0); remove one of them or set its mask to 0",
    ),
    "type beyond": (
        ("types", 1, 3),
        1,
        "type 3 is outside the type map, which has 3 types; number them from 0",
    ),
    "type below": (
        ("types", 1, -1),
        1,
        "type -1 is outside the type map, which has 3 types; number them from 0",
    ),
    "largest type": (
        ("types", 0, INT32.max),
        0,
        f"type {INT32.max} is outside the type map, which has 3 types; number them from 0",
    ),
    "least type": (
        ("types", 3, INT32.min),
        3,
        f"type {INT32.min} is outside the type map, which has 3 types; number them from 0",
    ),
}


def spoilt(name, nframes):
    """Return molecules of which one atom of the last is bad."""
    given = {
        "types": np.repeat(TYPES, nframes, axis=0),
        "positions": np.repeat(POSITIONS, nframes, axis=0),
        "weights": np.ones((nframes, 4)),
    }
    array, place, value = BAD_ATOMS[name][0]
    given[array][-1][place] = value
    return given


@pytest.fixture(scope="module")
def potentials(trained):
    return CPotential(trained.model), Potential(trained.model, device="cpu")


@pytest.mark.parametrize("nframes", [1, 3])
@pytest.mark.parametrize("name", BAD_ATOMS)
def test_bad_atoms(potentials, name, nframes):
    """In the same words, which name a frame where there are several."""
    c, python = potentials
    given = spoilt(name, nframes)
    _, atom, text = BAD_ATOMS[name]
    frame = "" if nframes == 1 else f"frame {nframes - 1}, "
    ways = [(CError, c, given), (ValueError, python, given)]
    if nframes == 1:
        ways.append((ValueError, python, {key: array[0] for key, array in given.items()}))
    for error, potential, arrays in ways:
        with pytest.raises(error) as caught:
            potential.evaluate(**arrays)
        assert str(caught.value) == f"{frame}atom {atom}: {text}"
    assert np.isfinite(c.evaluate(TYPES, POSITIONS)["forces"]).all()  # goes on


def test_no_and_one_real_atom(potentials):
    """Energy 0, or that of the atom; no forces."""
    c, python = potentials
    weights = np.array([[0, 0, 0, 0], [0, 1, 0, 0]])
    types, positions = np.repeat(TYPES, 2, axis=0), np.repeat(POSITIONS, 2, axis=0)
    found = c.evaluate(types, positions, weights)
    wanted = python.evaluate(types, positions, weights, virial=True)
    for name, values in found.items():
        np.testing.assert_array_equal(values, getattr(wanted, name))
    assert found["energy"][0] == 0
    assert found["energy"][1] == found["energies"][1, 1] != 0
    assert not found["forces"].any()
    assert not found["energies"][weights == 0].any()


def test_more_atoms_than_sel_is_one_line_and_one_warning(trained, potentials, capfd, caplog):
    """For each potential, whichever thread comes first, in the same words."""
    positions = 2.0 * np.arange(48.0).reshape(2, 8, 3)
    within = [[0] * 5 + [1] * 3] * 2, positions
    virtual = [[0] * 8] * 2, positions, [[1] * 5 + [0] * 3] * 2
    beyond = [[0] * 5 + [1] * 3, [0] * 8], positions
    said = []
    for potential in (CPotential(trained.model), Potential(trained.model, device="cpu")):
        capfd.readouterr()
        for frames in (within, virtual):
            potential.evaluate(*frames)
        assert not capfd.readouterr().err
        assert not caplog.records
        with ThreadPoolExecutor(8) as pool:
            for forces in pool.map(lambda p: p.evaluate(*beyond), [potential] * 40):
                assert forces is not None
        if isinstance(potential, CPotential):
            said += capfd.readouterr().err.splitlines()
    assert len(said) == len(caplog.records) == 1
    assert said == [record.getMessage() for record in caplog.records]
    assert said[0].startswith(
        "deepmd-mask: 8 real atoms of type 0 (C), more than the 5 that sel bounds; "
    )


def test_bad_arguments(trained):
    c = CPotential(trained.model).c
    handle = c["open"](str(trained.model).encode(), 0)
    nothing = [None] * 7
    for arguments, message in {
        (None, 1, 1): "potential is NULL",
        (handle, -1, 1): "nframes and natoms must be 0 or more",
        (handle, 1, 1): "types and positions must not be NULL",
        (handle, 1 << 40, 1 << 40): "too large",
    }.items():
        assert c["evaluate"](*arguments, *nothing) == -1
        assert message in c["error"]().decode()
    for arguments, message in {(None, 0): "path is NULL", (b"x.pb", -1): "threads must be"}.items():
        assert c["open"](*arguments) is None
        assert message in c["error"]().decode()
    c["close"](None)


def test_each_thread_has_its_own_error(trained):
    c = functions()
    assert c["open"](b"here.pb", 0) is None
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(c["error"]).result() == b""
    assert b"here.pb" in c["error"]()
