# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frozen models that are damaged, or that lie; what they are made of is trained once."""

from functools import cache
from pathlib import Path

import helpers
import numpy as np
from google.protobuf.message import Message

from deepmd_mask.frozen.messages import Graph
from deepmd_mask.frozen.tensors import KINDS

BASES = Path("models")  # in the working directory; made where it is missing
NUMBERS = [0, -1, 1, 2, 3, 7, 2**31 - 1, -(2**31), 2**31, 10**9, 2**40, 2**62, -(2**63)]
TEXTS = [
    b"", b"{", b"[]", b"null", b"7", b'"text"', b"{}", b"\xff\xfe", b"\0", b"nan", b"[" * 100_000,
    b'{"a":' * 50_000 + b"1" + b"}" * 50_000, b'{"model": []}', b'{"model": {"descriptor": 3}}',
    b'{"model": {"descriptor": {"sel": ["a"], "neuron": "x"}, "fitting_net": [1]}}',
    b'{"model": {"descriptor": {"sel": [-1, 1000000000], "axis_neuron": -3}}}',
    b"H\nC\tO", b"H H H", b"A B C D E F G H", "Å ζ".encode(), b"x" * 10_000, b"compressed_model",
    b'{"descriptor": {"exclude_types": [[0, "x"], 3]}}', b"1e999", b"Infinity",
]  # fmt: skip


@cache
def bases():
    """Return the models to spoil, as bytes, and the system that they were trained with."""
    if not BASES.exists():
        make_bases()
    return {path.name: path.read_bytes() for path in sorted(BASES.glob("*.pb"))}


def make_bases():
    """Train a small model and put it on all kinds of operators."""
    import jobs

    from deepmd_mask.conversion import convert

    system = helpers.write_system(BASES / "system", helpers.random_frames(nframes=4))
    helpers.write_input(BASES, helpers.make_input([system.resolve()], steps=2))
    here = BASES.resolve()
    jobs.run([[here, "train", "input.json"], [here, "freeze", "-o", "frozen.pb"]])
    convert(BASES / "frozen.pb", BASES / "plain.pb", operators="built-in")
    convert(BASES / "frozen.pb", BASES / "single.pb", precision="float32", compress=True)


# ---- Bytes -------------------------------------------------------------------------------------


def spoil_bytes(rng, data):
    """Flip bits, cut, repeat, splice."""
    kind = rng.integers(6)
    at, length = int(rng.integers(len(data))), int(rng.integers(1, 1 << rng.integers(1, 14)))
    if kind == 0:
        out = bytearray(data)
        for _ in range(1 << rng.integers(6)):
            out[rng.integers(len(out))] ^= 1 << int(rng.integers(8))
        return bytes(out)
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + data[at + length :]
    if kind == 3:
        return data[:at] + bytes(length) + data[at + length :]
    if kind == 4:
        return data[:at] + data[at : at + length] + data[at:]
    other = bases()[str(rng.choice(list(bases())))]
    there = int(rng.integers(len(other)))
    return data[:at] + other[there : there + length] + data[at:]


# ---- Graphs ------------------------------------------------------------------------------------


def numbers_of(message):
    """Yield all repeated and single fields of a message, at any depth, as (message, field)."""
    for field, value in message.ListFields():
        yield message, field
        if field.type == field.TYPE_MESSAGE:
            values = [value]
            if field.message_type.GetOptions().map_entry:
                values = [value[key] for key in value]
            elif not isinstance(value, Message):
                values = list(value)
            for item in values:
                if isinstance(item, Message):
                    yield from numbers_of(item)


def other_value(rng, field, value):
    """Return another value of a field that is no message."""
    if field.cpp_type in (field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT):
        other = float(rng.choice([np.nan, np.inf, 0.0, -1.0, 1e30]))
    elif field.cpp_type == field.CPPTYPE_BOOL:
        other = not value
    elif field.cpp_type == field.CPPTYPE_ENUM:
        other = int(rng.integers(0, 24))
    elif field.type == field.TYPE_BYTES:
        other = [
            value[: rng.integers(len(value) + 1)],
            value + bytes(int(rng.integers(1, 20))),
            TEXTS[rng.integers(len(TEXTS))],
            spoil_bytes(rng, value or b"\0"),
        ][rng.integers(4)]
    elif field.cpp_type == field.CPPTYPE_STRING:
        other = str(rng.choice(["", "o_energy", "t_coord", value + ":1", "^" + value, value[:-1]]))
    else:
        bits = 31 if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_UINT32) else 63
        low = 0 if field.cpp_type in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64) else -(1 << bits)
        other = min(max(int(rng.choice(NUMBERS)), low), (1 << bits) - 1)
    return other


def spoil_field(rng, graph):
    """Change one value anywhere in a node."""
    node = graph.node[rng.integers(len(graph.node))]
    found = [
        (message, field) for message, field in numbers_of(node) if field.type != field.TYPE_MESSAGE
    ]
    message, field = found[rng.integers(len(found))]
    value = getattr(message, field.name)
    if isinstance(value, (str, bytes)) or not hasattr(value, "append"):
        setattr(message, field.name, other_value(rng, field, value))
    elif rng.integers(3) == 0:
        del value[rng.integers(len(value)) :]
    else:
        k = rng.integers(len(value))
        value[k] = other_value(rng, field, value[k])


def spoil_nodes(rng, graph):
    """Drop, double or rewire nodes."""
    kind, k = rng.integers(6), int(rng.integers(len(graph.node)))
    node, other = graph.node[k], graph.node[rng.integers(len(graph.node))]
    if kind == 0:
        del graph.node[k]
    elif kind == 1:
        graph.node.add().CopyFrom(node)
    elif kind == 2:
        node.op = other.op
    elif kind == 3 and node.input:
        node.input[rng.integers(len(node.input))] = other.name  # a cycle, perhaps
    elif kind == 4 and node.attr:
        del node.attr[str(rng.choice(list(node.attr)))]
    else:
        del graph.node[int(rng.integers(len(graph.node))) :]


def spoil_constant(rng, graph):
    """Give a constant that describes the model another value."""
    names = [n.name for n in graph.node if n.op == "Const" and ("_attr/" in n.name)]
    name = str(rng.choice([*names, "model_type"]))
    node = next((n for n in graph.node if n.name == name), graph.node[0])
    kind = rng.integers(4)
    values = [
        TEXTS[rng.integers(len(TEXTS))],
        np.int32(rng.choice(NUMBERS[:8])),
        np.full(int(rng.integers(0, 4)), rng.choice([np.nan, 0.5, -3.0, 1e9])),
        np.array([[b"a", b"b"]]),
    ]
    set_value(node, np.array(values[kind]))


def set_value(node, value):
    """Make a node a constant."""
    names = {"S": "string"}
    name = names.get(value.dtype.kind, value.dtype.name)
    number = next(number for number, kind in KINDS.items() if kind.name == name)
    node.attr["dtype"].type = number
    tensor = node.attr["value"].tensor
    tensor.Clear()
    tensor.dtype = number
    for size in value.shape:
        tensor.tensor_shape.dim.add().size = size
    if name == "string":
        tensor.string_val.extend(value.ravel().tolist())
    else:
        tensor.tensor_content = value.tobytes()


def spoil_own_operator(rng, graph):
    """Change an attribute of an operator with nets or sel."""
    own = [node for node in graph.node if node.op.startswith("PipInstall")]
    if not own:
        spoil_field(rng, graph)
        return
    node = own[rng.integers(len(own))]
    value = node.attr[str(rng.choice(list(node.attr)))]
    kind = value.WhichOneof("value")
    if kind == "list":
        numbers = value.list.i
        choice = rng.integers(3)
        if choice == 0 or not numbers:
            numbers.append(int(rng.choice(NUMBERS)))
        elif choice == 1:
            numbers[rng.integers(len(numbers))] = int(rng.choice(NUMBERS))
        else:
            del numbers[-1]
    elif kind == "i":
        value.i = int(rng.choice(NUMBERS))
    elif kind == "f":
        value.f = float(rng.choice([0, -1, np.nan, np.inf, 1e-30, 3]))
    elif kind == "b":
        value.b = not value.b
    elif kind == "s":
        value.s = TEXTS[rng.integers(len(TEXTS))]


SPOIL = [spoil_field, spoil_nodes, spoil_constant, spoil_own_operator]


def spoilt(rng):
    """Return a model that something was done to, and what."""
    name = str(rng.choice(list(bases())))
    data = bases()[name]
    if rng.integers(3) == 0:
        return spoil_bytes(rng, data), "bytes"
    graph = Graph.FromString(data)
    kinds = [SPOIL[rng.integers(len(SPOIL))] for _ in range(rng.integers(1, 3))]
    for kind in kinds:
        if graph.node:
            kind(rng, graph)
    return graph.SerializeToString(), kinds[0].__name__
