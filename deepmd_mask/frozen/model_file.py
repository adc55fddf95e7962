# SPDX-License-Identifier: LGPL-3.0-or-later
"""Reads frozen models, of this package and of the built-in se_a_mask."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from ..shared.options import require_sections, section
from ..shared.paths import AnyPath
from ..shared.reason import reason_of

# Operators by which models are told apart.
TELLING_OPS = {"deepmd-mask": "PipInstallDeepmdMask>RealAtoms", "built-in": "DescrptSeAMask"}
LARGEST_FILE = 1 << 31  # bytes; protobuf has no larger ones
# So many numbers may a constant have of which the file has fewer, all others being the last of
# them: whoever reads it needs memory for all.
LARGEST_REPETITION = 1 << 24


class FrozenModel:
    """A frozen model as its file has it; nothing of it is run.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    path
        The file.
    graph_def
        The graph.
    nodes
        Its nodes, by name.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not a frozen model, not a whole one, or has constants that are none.
    """

    def __init__(self, path: AnyPath) -> None:
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(2, "there is no such model; dp freeze makes one", str(path))
        self.path = path
        self.graph_def = tf.compat.v1.GraphDef()
        try:
            if path.stat().st_size < LARGEST_FILE:
                self.graph_def.ParseFromString(path.read_bytes())
        except DecodeError:
            self.graph_def.Clear()
        self.nodes = {node.name: node for node in self.graph_def.node}
        if not self.nodes or not self._is_whole():
            msg = (
                f"{path} is not a frozen model of DeePMD-kit's TensorFlow backend (a .pb file), or "
                "not a whole one; dp freeze makes one, and dp convert-from pbtxt from text"
            )
            raise ValueError(msg)
        for node in self.graph_def.node:
            if node.op == "Const":
                self._require_size(node)

    def _is_whole(self) -> bool:
        """Return whether all nodes that others compute with are there, and an output."""
        inputs = {name for node in self.graph_def.node for name in node.input}
        needed = {name.split(":")[0] for name in inputs if not name.startswith("^")}
        return needed <= set(self.nodes) and any(name.startswith("o_") for name in self.nodes)

    def _require_size(self, node: tf.compat.v1.NodeDef) -> None:
        """Refuse a constant that has another number of numbers than its shape, or is too large."""
        tensor = node.attr["value"].tensor
        sizes = [dimension.size for dimension in tensor.tensor_shape.dim]
        size = -1 if min(sizes, default=0) < 0 else math.prod(sizes)
        given = max((len(v) for f, v in tensor.ListFields() if f.name.endswith("_val")), default=0)
        if tensor.tensor_content:
            good = len(tensor.tensor_content) == size * _width(tensor.dtype)
        else:
            good = 0 <= size <= max(given, LARGEST_REPETITION)
        if not good:
            msg = (
                f"{self.path} is damaged: its constant {node.name} has the shape {sizes}, but "
                f"{len(tensor.tensor_content)} bytes or {given} numbers"
            )
            raise ValueError(msg)

    def operators(self) -> str | None:
        """Return whose operators the model runs on, a key of TELLING_OPS; None for others."""
        found = {node.op for node in self.graph_def.node}
        return next((name for name, op in TELLING_OPS.items() if op in found), None)

    def require_operators(self) -> str:
        """Return whose operators the model runs on.

        Raises
        ------
        ValueError
            If it is not a model with se_a_mask.
        """
        operators = self.operators()
        if operators is None:
            kind = section(self.training_input(), "model/descriptor").get("type")
            but = f" but with {kind}" if kind else ""
            raise ValueError(f"{self.path} is not a model with se_a_mask{but}")
        return operators

    def is_compressed(self) -> bool:
        """Return whether tables stand in for the embedding nets."""
        return self.text("model_type") == "compressed_model"

    def constant(self, name: str) -> np.ndarray | None:
        """Return the value of a constant; None if the model lacks it."""
        node = self.nodes.get(name)
        if node is None or node.op != "Const":
            return None
        try:
            return tf.make_ndarray(node.attr["value"].tensor)
        except (TypeError, ValueError, AttributeError) as error:
            raise self._damaged(name, reason_of(error)) from error

    def _damaged(self, name: str, what: str) -> ValueError:
        return ValueError(f"{self.path} is damaged: its constant {name} cannot be read ({what})")

    def number(self, name: str) -> Any:
        """Return a constant that is one number; None if the model lacks it."""
        value = self.constant(name)
        if value is not None and value.size != 1:
            raise self._damaged(name, f"it has the shape {value.shape} in the place of one value")
        return None if value is None else value.item()

    def text(self, name: str) -> str | None:
        """Return a constant that is a text; None if the model lacks it."""
        value = self.number(name)
        if value is None:
            return None
        try:
            return value.decode()
        except (AttributeError, UnicodeDecodeError) as error:
            raise self._damaged(name, "it is no text") from error

    def json(self, name: str) -> dict:
        """Return a constant that is an object of JSON; {} if the model lacks it."""
        try:
            found = json.loads(self.text(name) or "{}")
        except (json.JSONDecodeError, RecursionError) as error:
            raise self._damaged(name, f"it is no JSON: {reason_of(error)}") from error
        if not isinstance(found, dict):
            raise self._damaged(name, f"it is JSON of another kind, {str(found)[:40]}")
        return found

    def training_input(self) -> dict:
        """Return the input that the model was trained with; {} if the model lacks it."""
        script = self.json("train_attr/training_script")
        require_sections(script, f"{self.path}: its training input")
        return script

    def variables(self) -> dict[str, np.ndarray]:
        """Return what was a variable before freezing, by name."""
        names = (name.removesuffix("/read") for name in self.nodes if name.endswith("/read"))
        values = {name: self.constant(name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def attributes(self, op: str) -> dict[str, Any]:
        """Return the attributes of the first operator of that name; {} if there is none."""
        node = next((node for node in self.graph_def.node if node.op == op), None)
        found = {} if node is None else node.attr
        return {key: python_value(value) for key, value in found.items()}


def _width(dtype: int) -> int:
    """Return the bytes of a number of a type; 0 if there is no such type."""
    try:
        return tf.as_dtype(dtype).size
    except TypeError:
        return 0


def python_value(value: tf.compat.v1.AttrValue) -> Any:
    """Return an attribute as numbers, texts or lists of them."""
    kind = value.WhichOneof("value")
    if kind == "list":
        return next((list(items) for _, items in value.list.ListFields()), [])
    found = getattr(value, kind)
    return found.decode() if isinstance(found, bytes) else found
