# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frozen models read with protobuf alone: as TensorFlow reads them, and whatever a file claims."""

import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
from frozen_models import graph_of
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from deepmd_mask.frozen.messages import Graph
from deepmd_mask.frozen.model_file import FrozenModel
from deepmd_mask.frozen.tensors import KINDS, LARGEST_REPETITION, array_of, repeated_numbers

SOME = settings(max_examples=100, deadline=None, derandomize=True)
NUMBERS = [kind.name for kind in KINDS.values() if kind.name not in ("string", "bfloat16")]
HUGE = 10**9


def as_message(proto):
    """Return a tensor of TensorFlow's as a message of this package."""
    graph = Graph()
    tensor = graph.node.add(name="a", op="Const").attr["value"].tensor
    tensor.ParseFromString(proto.SerializeToString())
    return tensor


def assert_as_tensorflow(proto):
    wanted, tensor = tf.make_ndarray(proto), as_message(proto)
    assert repeated_numbers(tensor) >= 0
    found = array_of(tensor)
    assert found.shape == wanted.shape
    np.testing.assert_array_equal(found, wanted.astype(found.dtype))


@SOME
@given(st.sampled_from(NUMBERS), st.data())
def test_constants_given_as_bytes(name, data):
    shape = data.draw(array_shapes(min_dims=0, min_side=0, max_side=4))
    elements = {"allow_nan": False} if "float" in name else None
    value = data.draw(arrays(np.dtype(name), shape, elements=elements))
    proto = tf.make_tensor_proto(value)
    assert_as_tensorflow(proto)
    assert array_of(as_message(proto)).dtype == value.dtype


@SOME
@given(st.sampled_from(list(KINDS)), array_shapes(max_side=4), st.integers(0, 3))
def test_constants_given_as_numbers(number, shape, given_numbers):
    """The last one stands for all that are missing."""
    kind = KINDS[number]
    proto = tf.compat.v1.TensorShape(shape).as_proto()
    proto = tf.make_tensor_proto(np.zeros(0)).__class__(dtype=number, tensor_shape=proto)
    numbers = [1, 0, 1]
    if kind.name == "string":
        numbers, given_numbers = [b"a", b"", b"xyz"], max(1, given_numbers)
    getattr(proto, kind.field).extend(numbers[: min(given_numbers, int(np.prod(shape)))])
    assert_as_tensorflow(proto)


def test_bfloat16_is_read_as_it_is():
    value = np.array([1.5, -2.25, 3e38], tf.bfloat16.as_numpy_dtype)
    assert_as_tensorflow(tf.make_tensor_proto(value))


def tensor_with(sizes, numbers=(), content=b"", dtype=2):
    graph = Graph()
    tensor = graph.node.add(name="a", op="Const").attr["value"].tensor
    tensor.dtype = dtype
    for size in sizes:
        tensor.tensor_shape.dim.add().size = size
    tensor.double_val.extend(numbers)
    tensor.tensor_content = content
    return graph


LIES = {
    "huge": tensor_with([HUGE, HUGE, HUGE], [1.0]),
    "many dimensions": tensor_with([2**60] * 100_000, [1.0]),
    "negative": tensor_with([-1, 4], [1.0] * 4),
    "no rank": tensor_with([], [1.0] * 4),
    "too few bytes": tensor_with([4], content=b"1234"),
    "too many numbers": tensor_with([2], [1.0] * 4),
    "repeats too much": tensor_with([LARGEST_REPETITION + 2], [1.0]),
    "texts as bytes": tensor_with([8], content=b"12345678", dtype=7),
}


@pytest.mark.parametrize("lie", LIES)
def test_shapes_that_lie_cost_nothing(lie, tmp_path):
    graph = Graph()
    graph.CopyFrom(LIES[lie])
    graph.node.add(name="o_energy", op="Identity", input=["a"])
    (tmp_path / "model.pb").write_bytes(graph.SerializeToString())
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"model\.pb is damaged: of its constant a, it"):
        FrozenModel(tmp_path / "model.pb")
    assert tracemalloc.get_traced_memory()[1] < 1 << 23
    tracemalloc.stop()


def test_repetitions_add_up(tmp_path):
    graph = Graph()
    for k in range(3):
        node = graph.node.add()
        node.CopyFrom(tensor_with([LARGEST_REPETITION // 2], [1.0]).node[0])
        node.name = f"o_{k}"
    (tmp_path / "model.pb").write_bytes(graph.SerializeToString())
    with pytest.raises(ValueError, match=r"model\.pb is damaged: its constants repeat \d+ numbers"):
        FrozenModel(tmp_path / "model.pb")


def test_what_is_not_read_is_kept(trained):
    data = trained.model.read_bytes()
    again = tf.compat.v1.GraphDef.FromString(Graph.FromString(data).SerializeToString())
    assert again == graph_of(trained.model)


def test_attributes_are_those_of_tensorflow(trained):
    graphs = FrozenModel(trained.model).graph, graph_of(trained.model)
    for node, wanted in zip(*(graph.node for graph in graphs), strict=True):
        assert (node.name, node.op) == (wanted.name, wanted.op)
        assert list(node.input) == list(wanted.input)
        for name, value in wanted.attr.items():
            if value.WhichOneof("value") in ("i", "f", "b", "s", "type"):
                kind = value.WhichOneof("value")
                assert getattr(node.attr[name], kind) == getattr(value, kind)
