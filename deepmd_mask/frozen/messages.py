# SPDX-License-Identifier: LGPL-3.0-or-later
"""The messages of protobuf that frozen models are made of, without TensorFlow.

protobuf makes classes of the table below. Their package and their pool are this module's own, so
that they get along with TensorFlow's in the same process. Of TensorFlow's messages they have the
fields that matter here; what a file has besides is kept as it is, unread.
"""

from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "deepmd_mask"
# By message, its fields: name, number and type. "*" is a list, "?" one of which only one can be
# set, "{}" a map from names.
MESSAGES = {
    "Dimension": "size 1 int64",
    "Shape": "dim 2 *Dimension, unknown_rank 3 bool",
    "Tensor": (
        "dtype 1 int32, tensor_shape 2 Shape, tensor_content 4 bytes, "
        "float_val 5 *float, double_val 6 *double, int_val 7 *int32, string_val 8 *bytes, "
        "int64_val 10 *int64, bool_val 11 *bool, half_val 13 *int32, uint32_val 16 *uint32, "
        "uint64_val 17 *uint64"
    ),
    "Values": "s 2 *bytes, i 3 *int64, f 4 *float, b 5 *bool, type 6 *int32",
    "Attribute": (
        "list 1 ?Values, s 2 ?bytes, i 3 ?int64, f 4 ?float, b 5 ?bool, type 6 ?int32, "
        "shape 7 ?Shape, tensor 8 ?Tensor"
    ),
    "Node": "name 1 string, op 2 string, input 3 *string, attr 5 {}Attribute",
    "Graph": "node 1 *Node",
}


def _file() -> FileDescriptorProto:
    """Return the table as protobuf describes a file of messages."""
    file = FileDescriptorProto(name=f"{PACKAGE}/graph.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields.split(", "):
            _add_field(message, *field.split())
    return file


def _add_field(message: DescriptorProto, name: str, number: str, kind: str) -> None:
    label = FieldDescriptorProto.LABEL_OPTIONAL
    if kind.startswith(("*", "{}")):
        label = FieldDescriptorProto.LABEL_REPEATED
    field = message.field.add(name=name, number=int(number), label=label)
    if kind.startswith("?"):
        field.oneof_index = 0
        if not message.oneof_decl:
            message.oneof_decl.add(name="value")
    elif kind.startswith("{}"):  # on the wire, a list of messages with a key and a value each
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        _add_field(entry, "key", "1", "string")
        _add_field(entry, "value", "2", kind.removeprefix("{}"))
        kind = f"{message.name}.{entry.name}"
    kind = kind.lstrip("*?")
    if kind.islower():
        field.type = getattr(FieldDescriptorProto, f"TYPE_{kind.upper()}")
    else:
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"


_pool = DescriptorPool()
_pool.AddSerializedFile(_file().SerializeToString())

# The class of the message that a file is.
Graph: Any = GetMessageClass(_pool.FindMessageTypeByName(f"{PACKAGE}.Graph"))
