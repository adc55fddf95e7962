# SPDX-License-Identifier: LGPL-3.0-or-later
"""Reads frozen models, of this package and of the built-in se_a_mask."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from ..shared.options import require_sections, section
from ..shared.paths import AnyPath
from ..shared.reason import reason_of
from .messages import Graph
from .tensors import KINDS, LARGEST_REPETITION, array_of, repeated_numbers

# Operators by which models are told apart.
TELLING_OPS = {"deepmd-mask": "PipInstallDeepmdMask>RealAtoms", "built-in": "DescrptSeAMask"}
LARGEST_FILE = 1 << 31  # bytes; protobuf has no larger ones


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
    graph
        The graph, a message of `messages`.
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
        self.graph = Graph()
        try:
            if path.stat().st_size < LARGEST_FILE:
                self.graph.ParseFromString(path.read_bytes())
        except DecodeError:
            self.graph.Clear()
        self.nodes = {node.name: node for node in self.graph.node}
        if not self.nodes or not self._is_whole():
            msg = (
                f"{path} is not a frozen model of DeePMD-kit's TensorFlow backend (a .pb file), or "
                "not a whole one; dp freeze makes one, and dp convert-from pbtxt from text"
            )
            raise ValueError(msg)
        self._require_sizes()

    def _is_whole(self) -> bool:
        """Return whether all nodes that others compute with are there, and an output."""
        inputs = {name for node in self.graph.node for name in node.input}
        needed = {name.split(":")[0] for name in inputs if not name.startswith("^")}
        return needed <= set(self.nodes) and any(name.startswith("o_") for name in self.nodes)

    def _require_sizes(self) -> None:
        """Refuse constants that have another number of numbers than their shape, or too many."""
        total = 0
        for node in self.graph.node:
            if node.op == "Const":
                try:
                    total += repeated_numbers(node.attr["value"].tensor)
                except ValueError as error:
                    msg = f"{self.path} is damaged: of its constant {node.name}, {error}"
                    raise ValueError(msg) from error
        if total > LARGEST_REPETITION:
            raise ValueError(f"{self.path} is damaged: its constants repeat {total} numbers")

    def operators(self) -> str | None:
        """Return whose operators the model runs on, a key of TELLING_OPS; None for others."""
        found = {node.op for node in self.graph.node}
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
        """Return the value of a constant, not to be changed; None if the model lacks it."""
        node = self.nodes.get(name)
        if node is None or node.op != "Const":
            return None
        try:
            return array_of(node.attr["value"].tensor)
        except (TypeError, ValueError, OverflowError) as error:
            raise self._damaged(name, reason_of(error)) from error

    def precision(self, name: str) -> str:
        """Return the type of a constant's numbers as TensorFlow calls it, bfloat16 among them."""
        dtype = self.nodes[name].attr["value"].tensor.dtype
        return KINDS[dtype].name

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

    def with_op(self, op: str) -> list[Any]:
        """Return the nodes with an operator, in the order of the file."""
        return [node for node in self.graph.node if node.op == op]

    def attributes(self, op: str) -> dict[str, Any]:
        """Return the attributes of the first operator of that name; {} if there is none."""
        node = next((node for node in self.graph.node if node.op == op), None)
        found = {} if node is None else node.attr
        return {key: python_value(value) for key, value in found.items()}


def python_value(value: Any) -> Any:
    """Return an attribute, a message of `messages`, as numbers, texts or lists of them."""
    kind = value.WhichOneof("value")
    if kind is None:  # one that is not read
        return None
    if kind == "list":
        return next((list(items) for _, items in value.list.ListFields()), [])
    found = getattr(value, kind)
    return found.decode() if isinstance(found, bytes) else found
