# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frozen models with something changed, and what they give for frames, real and virtual atoms."""

import json
from pathlib import Path

import jobs
import numpy as np
import tensorflow as tf

from deepmd_mask import Potential
from deepmd_mask.frozen.model_file import TELLING_OPS, FrozenModel

REAL_ATOMS = TELLING_OPS["deepmd-mask"]


def graph_of(path):
    """Return the graph of a frozen model, as TensorFlow reads it."""
    return tf.compat.v1.GraphDef.FromString(Path(path).read_bytes())


def edited(source, target, drop=(), change=None, **constants):
    """Write a model to target, without some nodes or with other constants, and return target.

    Parameters
    ----------
    source, target
        Paths.
    drop
        Names of nodes.
    change
        Called with each node.
    constants
        New values by name, "__" for "/"; a node that is not there is added.
    """
    before = graph_of(source)
    graph = tf.compat.v1.GraphDef(versions=before.versions)
    values = {name.replace("__", "/"): np.array(value) for name, value in constants.items()}
    graph.node.extend(n for n in before.node if n.name not in {*drop, *values})
    for name, value in values.items():
        node = graph.node.add(name=name, op="Const")
        node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    for node in graph.node:
        if change:
            change(node)
    target.write_bytes(graph.SerializeToString())
    return target


def with_input(source, target, change):
    """Write a model to target whose training input a function has changed, and return target."""
    script = FrozenModel(source).training_input()
    change(script)
    return edited(source, target, train_attr__training_script=json.dumps(script).encode())


def of_first_version(source, target):
    """Write a model to target as version 1 of the operators had it, and return target.

    RealAtoms had the number of slots then, and nothing of the mesh.
    """
    nodes = {node.name: node for node in graph_of(source).node}

    def change(node):
        if node.op == REAL_ATOMS:
            node.attr["ops_version"].i = 1
            node.input[3] = nodes[node.input[3]].input[0]

    return edited(source, target, change=change)


def evaluate(model, frames, batch=1):
    """Evaluate a model, one frame at a time, as the built-in needs it."""
    return jobs.evaluate(model, frames.coord, frames.types, frames.mask, batch=batch)


def assert_same_potential(found, wanted, mask, tolerance=1e-10):
    """Compare forces and atomic energies of real atoms, relative to the largest."""
    real = mask[..., None]
    assert np.abs(wanted["force"]).max() > 1e-4
    for name in ("force", "atom_energy"):
        limit = tolerance * np.abs(wanted[name] * real).max()
        np.testing.assert_allclose(found[name] * real, wanted[name] * real, rtol=0, atol=limit)


def assert_potential_agrees(model, frames, tolerance, wanted=None):
    """Compare Potential with DeePMD-kit's evaluation of a model, or with what is wanted.

    Virials are compared but for models of the built-in, which have none.
    """
    if wanted is None:
        wanted = evaluate(model, frames)
    potential = Potential(model, device="cpu")
    found = potential.evaluate(frames.types, frames.coord, frames.mask, virial=True)
    results = {"force": found.forces, "atom_energy": found.energies[..., None]}
    assert_same_potential(results, wanted, frames.mask, tolerance)
    np.testing.assert_array_equal(found.forces[frames.mask == 0], 0)
    np.testing.assert_array_equal(found.energies[frames.mask == 0], 0)
    np.testing.assert_allclose(found.energy, found.energies.sum(axis=1), rtol=1e-13)
    for name in ("virial", "atom_virial"):
        if wanted[name].any():
            limit = tolerance * np.abs(wanted[name]).max()
            np.testing.assert_allclose(getattr(found, name), wanted[name], rtol=0, atol=limit)
