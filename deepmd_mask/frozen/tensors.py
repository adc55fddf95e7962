# SPDX-License-Identifier: LGPL-3.0-or-later
"""Constants of frozen models as NumPy arrays; what their sizes claim is checked before."""

import math
from typing import Any, NamedTuple

import numpy as np

MOST_DIMENSIONS = 32
# So many numbers may a constant have of which the file has fewer, all others being the last of
# them: whoever reads it needs memory for all.
LARGEST_REPETITION = 1 << 24


class Kind(NamedTuple):
    """A type of numbers.

    Attributes
    ----------
    name
        As NumPy has it, or TensorFlow.
    field
        Of a tensor whose numbers are not given as bytes.
    dtype
        Of the array.
    """

    name: str
    field: str
    dtype: str


# By TensorFlow's number of the type. NumPy has no bfloat16, which is the upper half of a float32.
KINDS = {
    1: Kind("float32", "float_val", "<f4"),
    2: Kind("float64", "double_val", "<f8"),
    3: Kind("int32", "int_val", "<i4"),
    4: Kind("uint8", "int_val", "u1"),
    5: Kind("int16", "int_val", "<i2"),
    6: Kind("int8", "int_val", "i1"),
    7: Kind("string", "string_val", "O"),
    9: Kind("int64", "int64_val", "<i8"),
    10: Kind("bool", "bool_val", "?"),
    14: Kind("bfloat16", "half_val", "<u2"),
    17: Kind("uint16", "int_val", "<u2"),
    19: Kind("float16", "half_val", "<u2"),
    22: Kind("uint32", "uint32_val", "<u4"),
    23: Kind("uint64", "uint64_val", "<u8"),
}


def repeated_numbers(tensor: Any) -> int:
    """Return how many numbers a tensor has beyond those that it gives.

    Parameters
    ----------
    tensor
        A message of `messages`.

    Raises
    ------
    ValueError
        If its shape is none, or has another number of numbers than are given.
    """
    sizes = _shape(tensor)
    size = math.prod(sizes)
    kind = KINDS.get(tensor.dtype)
    if kind is None:  # of which nothing is read
        return 0
    if tensor.tensor_content:
        nbytes = len(tensor.tensor_content)
        if kind.name == "string" or nbytes != size * np.dtype(kind.dtype).itemsize:
            raise ValueError(f"it has the shape {_short(sizes)}, but {nbytes} bytes")
        return 0
    given = len(getattr(tensor, kind.field))
    if given > size or size - given > LARGEST_REPETITION:
        raise ValueError(f"it has the shape {_short(sizes)}, but {given} numbers")
    return size - given


def array_of(tensor: Any) -> np.ndarray:
    """Return the values of a tensor that `repeated_numbers` lets pass.

    Parameters
    ----------
    tensor
        A message of `messages`.

    Raises
    ------
    ValueError
        If they are of a type that no frozen model with se_a_mask has.
    """
    kind = KINDS.get(tensor.dtype)
    if kind is None:
        raise ValueError(f"it is of type {tensor.dtype}")
    sizes = _shape(tensor)
    if tensor.tensor_content:
        values = np.frombuffer(tensor.tensor_content, kind.dtype)
    else:
        values = _given(tensor, kind, math.prod(sizes))
    if kind.name == "bfloat16":
        values = (values.astype("<u4") << 16).view("<f4")
    elif kind.name == "float16":
        values = values.view("<f2")
    return values.reshape(sizes)


def _given(tensor: Any, kind: Kind, size: int) -> np.ndarray:
    """Return the numbers of a field; the last stands for all that lack, 0 if there is none."""
    given = list(getattr(tensor, kind.field))
    empty = b"" if kind.name == "string" else 0
    values = np.full(size, given[-1] if given else empty, kind.dtype)
    values[: len(given)] = given
    return values


def _shape(tensor: Any) -> list[int]:
    shape = tensor.tensor_shape
    if shape.unknown_rank or len(shape.dim) > MOST_DIMENSIONS:
        raise ValueError(f"its shape has {len(shape.dim) or 'unknown'} dimensions")
    sizes = [dimension.size for dimension in shape.dim]
    if min(sizes, default=0) < 0:
        raise ValueError(f"it has the shape {_short(sizes)}")
    return sizes


def _short(sizes: list[int]) -> str:
    text = str(sizes)
    return text if len(text) < 80 else f"{text[:77]}..."
