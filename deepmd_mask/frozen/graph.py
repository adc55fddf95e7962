# SPDX-License-Identifier: LGPL-3.0-or-later
"""Reads frozen models, of this package and of the built-in se_a_mask."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

MARKS = {"deepmd-mask": "PipInstallDeepmdMask>RealAtoms", "built-in": "DescrptSeAMask"}


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
        If the file is not a frozen model.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(2, "there is no such model; dp freeze makes one", str(path))
        self.path = path
        self.graph_def = tf.compat.v1.GraphDef()
        try:
            self.graph_def.ParseFromString(path.read_bytes())
        except DecodeError:
            self.graph_def.Clear()
        self.nodes = {node.name: node for node in self.graph_def.node}
        if not self.nodes:
            msg = (
                f"{path} is not a frozen model of DeePMD-kit's TensorFlow backend (a .pb file), or "
                "not a whole one; dp freeze makes one, and dp convert-from pbtxt from text"
            )
            raise ValueError(msg)

    def operators(self) -> str | None:
        """Return whose operators the model runs on, a key of MARKS; None for another model."""
        found = {node.op for node in self.graph_def.node}
        return next((name for name, op in MARKS.items() if op in found), None)

    def require_operators(self) -> str:
        """Return whose operators the model runs on.

        Raises
        ------
        ValueError
            If it is not a model with se_a_mask.
        """
        operators = self.operators()
        if operators is None:
            kind = self.training_input().get("model", {}).get("descriptor", {}).get("type")
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
        return tf.make_ndarray(node.attr["value"].tensor)

    def number(self, name: str) -> Any:
        """Return a constant that is one number; None if the model lacks it."""
        value = self.constant(name)
        return None if value is None else value.item()

    def text(self, name: str) -> str | None:
        """Return a constant that is a text; None if the model lacks it."""
        value = self.number(name)
        return value.decode() if isinstance(value, bytes) else value

    def json(self, name: str) -> dict:
        """Return a constant that is JSON; {} if the model lacks it."""
        return json.loads(self.text(name) or "{}")

    def training_input(self) -> dict:
        """Return the input that the model was trained with; {} if the model lacks it."""
        return self.json("train_attr/training_script")

    def variables(self) -> dict[str, np.ndarray]:
        """Return what was a variable before freezing, by name."""
        names = (name.removesuffix("/read") for name in self.nodes if name.endswith("/read"))
        values = {name: self.constant(name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def attributes(self, op: str) -> dict[str, Any]:
        """Return the attributes of the first operator of that name; {} if there is none."""
        node = next((node for node in self.graph_def.node if node.op == op), None)
        return {} if node is None else {key: _python(value) for key, value in node.attr.items()}


def _python(value: tf.compat.v1.AttrValue) -> Any:
    """Return an attribute as numbers, texts or lists of them."""
    kind = value.WhichOneof("value")
    if kind == "list":
        return next((list(items) for _, items in value.list.ListFields()), [])
    found = getattr(value, kind)
    return found.decode() if isinstance(found, bytes) else found
