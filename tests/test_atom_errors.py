# SPDX-License-Identifier: LGPL-3.0-or-later
"""Errors about atoms carry what is wrong as data, from C++ to whoever words the message."""

import pickle

import numpy as np
import pytest
from deepmd.tf.env import tf
from implementations import implementation, on  # noqa: F401

from deepmd_mask import _kernels

kernels = None  # those that a test runs on

# What spoils frame 1 of good frames, and what the error then has: code, atom, other, value, text.
FAULTS = {
    "mask": (
        ("mask", (1, 3), 0.9),
        ("mask", 3, None, 0.9),
        "mask value 0.9 is neither 0 nor 1; the mask (weights, or aparam) must be 1 for a real "
        "atom and 0 for a virtual one",
    ),
    "mask nan": (
        ("mask", (1, 2), np.nan),
        ("mask", 2, None, np.nan),
        "mask value nan is neither 0 nor 1; the mask (weights, or aparam) must be 1 for a real "
        "atom and 0 for a virtual one",
    ),
    "type": (
        ("type", (1, 1), 7),
        ("type", 1, None, 7),
        "type 7 is outside the type map, which has 2 types; number them from 0",
    ),
    "least type": (
        ("type", (1, 0), -(2**31)),
        ("type", 0, None, -(2**31)),
        "type -2147483648 is outside the type map, which has 2 types; number them from 0",
    ),
    "coordinate": (
        ("coord", (1, 2, 1), -np.inf),
        ("coordinate", 2, None, -np.inf),
        "coordinate y of a real atom is -inf, not a finite number; mend it or set the atom's mask "
        "to 0",
    ),
    "coincident": (
        ("coord", (1, 3), [0, 1, 2.0 + 2.0**-22]),  # as atom 0, but for z
        ("coincident", 0, 3, 2.0**-22),
        "at the same point as atom 3 (distance 2.38418579101562e-07); remove one of them or set "
        "its mask to 0",
    ),
}


def frames(spoiled=None):
    """Return the arguments of RealAtoms for two frames of four atoms, maybe with one fault."""
    given = {
        "coord": np.arange(24.0).reshape(2, 4, 3) % 12,
        "type": np.array([[0, 0, 1, 1]] * 2, np.int32),
        "mask": np.ones((2, 4)),
    }
    if spoiled is not None:
        name, place, value = spoiled
        given[name][place] = value
    return *given.values(), 2


def fault_of(name):
    with pytest.raises(ValueError) as error:
        kernels.RealAtoms(*frames(FAULTS[name][0]))
    return error.value.fault


def test_good_frames_pass():
    kernels.RealAtoms(*frames())


@on("cpu", "cuda", "emulated")
@pytest.mark.parametrize("name", FAULTS)
def test_an_error_has_its_data(name):
    spoiled, (code, atom, other, value), text = FAULTS[name]
    with pytest.raises(ValueError) as error:
        kernels.RealAtoms(*frames(spoiled))
    fault = error.value.fault
    assert (fault.code, fault.frame, fault.atom, fault.other) == (code, 1, atom, other)
    np.testing.assert_array_equal(fault.value, value)  # to the last bit; NaN is NaN
    assert fault.text == text == f"{fault.what}; {fault.remedy}"
    assert str(error.value) == fault.message() == f"frame 1, atom {atom}: {text}"
    assert fault.message(names_frame=False) == f"atom {atom}: {text}"


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_written_is_read_back(name):
    """The text for programs, which operators attach to the text for people."""
    fault = fault_of(name)
    again = _kernels.AtomFault.read(fault.written)
    for part in ("code", "frame", "atom", "other", "value", "text", "written"):
        np.testing.assert_array_equal(getattr(again, part), getattr(fault, part))


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_else_is_read(name):
    written = fault_of(name).written
    code, *numbers = written.split()
    for wrong in (
        "",
        "\0",
        code,
        f"{written} ",
        f"{written} 1",
        written.rsplit(" ", 1)[0],
        " ".join(["masks", *numbers]),
        " ".join([code, "x", *numbers[1:]]),
        " ".join(["coordinate", *numbers[:3], "3", *numbers[4:]]),
        " ".join([code, str(2**63), *numbers[1:]]),
    ):
        with pytest.raises(ValueError, match="no fault of an atom"):
            _kernels.AtomFault.read(wrong)


def test_other_numbers_of_atoms():
    """A caller that has sorted atoms into slots tells what it calls them."""
    fault = fault_of("coincident")
    other = fault.renumbered({0: 7, 3: 2})
    assert (other.atom, other.other, other.frame) == (7, 2, 1)
    assert other.what.startswith("at the same point as atom 2 (distance ")
    assert (fault.atom, fault.other) == (0, 3)
    assert fault_of("type").renumbered({1: 9}).atom == 9
    with pytest.raises(IndexError):
        fault.renumbered({0: 7})


def test_an_error_survives_another_process():
    with pytest.raises(_kernels.AtomError) as error:
        kernels.RealAtoms(*frames(FAULTS["type"][0]))
    again = pickle.loads(pickle.dumps(error.value))
    assert (type(again), str(again)) == (_kernels.AtomError, str(error.value))
    assert again.fault.written == error.value.fault.written


def test_shapes_are_no_atoms():
    coord, *rest = frames()
    with pytest.raises(ValueError, match="coord must have the shape") as error:
        kernels.RealAtoms(coord[:1], *rest)
    assert not isinstance(error.value, _kernels.AtomError)


# ---- Through TensorFlow --------------------------------------------------------------------------


def atom_fault_of(error):
    """Return what an operator attached to an error of TensorFlow, or to one behind it."""
    while error is not None:
        written = getattr(error, "experimental_payloads", {}).get(_kernels.AtomFault.KEY.encode())
        if written is not None:
            return _kernels.AtomFault.read(written.decode())
        error = error.__context__
    return None


def test_operators_attach_it(trained):
    """Sessions replace an error by one that has its text alone; the data is found nevertheless."""
    mask = trained.frames.mask.copy()
    mask[2, 5] = 0.9
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        trained.evaluate(mask=mask)
    fault = atom_fault_of(error.value)
    assert (fault.code, fault.frame, fault.atom, fault.value) == ("mask", 2, 5, 0.9)
    assert f"deepmd-mask: frame 2, atom 5: {fault.text}" in str(error.value)


def test_the_text_alone_tells_nothing():
    error = tf.errors.InvalidArgumentError(None, None, "deepmd-mask: frame 0, atom 1: bad")
    assert atom_fault_of(error) is None
