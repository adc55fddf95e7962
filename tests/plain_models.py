# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frozen models of the built-in, written by hand, where there is no TensorFlow to train one."""

import json
from itertools import pairwise

import numpy as np

from deepmd_mask.frozen.messages import Graph
from deepmd_mask.frozen.tensors import KINDS
from deepmd_mask.potential.reading import NODES

NUMBER = {kind.name: number for number, kind in KINDS.items()}  # TensorFlow's, of a type
# The shapes of the nets of examples/zinc_protein.
ZINC = {"neuron": [32, 32, 64, 128], "M2": 16, "fitting_neuron": [240, 240, 240]}


def random_nets(ntypes, *, neuron, M2, fitting_neuron, precision="float64", sel=30, seed=0):
    """Return arguments of _kernels.Model: one-sided tanh nets without timesteps, no table.

    Parameters are numbers that make nets as smooth as trained ones, about; sel is that of a type.
    """
    rng = np.random.default_rng(seed)

    def nets(widths):
        shapes = [shape for pair in pairwise(widths) for shape in (pair, pair[1:])]
        return [
            rng.normal(scale=shape[0] ** -0.5, size=shape).astype(precision)
            for _ in range(ntypes)
            for shape in shapes
        ]

    return {
        "precision": precision,
        "n": float(sel * ntypes),
        "M2": M2,
        "net": list(range(ntypes)) * ntypes,
        "neuron": neuron,
        "resnet_dt": False,
        "activation": "tanh",
        "parameters": nets([1, *neuron]),
        "table": None,
        "min_distance": 0.9,
        "fitting_neuron": fitting_neuron,
        "fitting_resnet_dt": False,
        "fitting_activation": "tanh",
        "fitting_parameters": nets([neuron[-1] * M2, *fitting_neuron, 1]),
        "bias": rng.normal(size=ntypes),
    }


def write_model(path, nets, type_map):
    """Write random_nets as a frozen model, and return its path."""
    ntypes = len(type_map)
    constants = {
        "train_attr/training_script": json.dumps(_input(nets, ntypes)),
        "train_attr/min_nbor_dist": nets["min_distance"],
        "model_attr/tmap": " ".join(type_map),
        "model_attr/model_type": "ener",
        "model_type": "original_model",
        "descrpt_attr/ntypes": np.int32(ntypes),
        "fitting_attr/daparam": np.int32(1),
        "fitting_attr/dfparam": np.int32(0),
        "fitting_attr/t_bias_atom_e": nets["bias"],
    }
    names = [
        *_names("filter_type_all/{0}_{1}_{2}", range(1, len(nets["neuron"]) + 1), ntypes),
        *_names(
            "{1}_type_{2}/{0}",
            [*(f"layer_{k}" for k in range(len(nets["fitting_neuron"]))), "final_layer"],
            ntypes,
        ),
    ]
    parameters = nets["parameters"] + nets["fitting_parameters"]
    variables = dict(zip(names, parameters, strict=True))
    graph = Graph()
    for name in NODES:
        graph.node.add(name=name, op="Placeholder" if name.startswith("t_") else "Identity")
    graph.node.add(name="DescrptSeAMask", op="DescrptSeAMask")
    for name, value in (constants | variables).items():
        _add_constant(graph, name, value)
    for name in variables:
        graph.node.add(name=f"{name}/read", op="Identity", input=[name])
    path.write_bytes(graph.SerializeToString())
    return path


def _names(form, layers, ntypes):
    """Yield the names of parameters, net after net."""
    for t in range(ntypes):
        for layer in layers:
            for name in ("matrix", "bias"):
                yield form.format(name, layer, t)


def _input(nets, ntypes):
    """Return the training input that is told besides."""
    options = {"activation_function": "tanh", "resnet_dt": False, "precision": nets["precision"]}
    return {
        "model": {
            "descriptor": {
                "type": "se_a_mask",
                "sel": [int(nets["n"]) // ntypes] * ntypes,
                "neuron": nets["neuron"],
                "axis_neuron": nets["M2"],
                "type_one_side": True,
                **options,
            },
            "fitting_net": {
                "neuron": nets["fitting_neuron"],
                "numb_aparam": 1,
                "use_aparam_as_mask": True,
                **options,
            },
        }
    }


def _add_constant(graph, name, value):
    """Add a node that is an array, a number or a text."""
    tensor = graph.node.add(name=name, op="Const").attr["value"].tensor
    if isinstance(value, str):
        tensor.dtype = NUMBER["string"]
        tensor.string_val.append(value.encode())
        return
    array = np.asarray(value)
    tensor.dtype = NUMBER[array.dtype.name]
    for extent in array.shape:
        tensor.tensor_shape.dim.add(size=extent)
    tensor.tensor_content = array.tobytes()
