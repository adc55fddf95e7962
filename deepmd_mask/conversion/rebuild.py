# SPDX-License-Identifier: LGPL-3.0-or-later
"""Builds a frozen model from a description and variables, on either kind of operators."""

import json
import warnings
from dataclasses import asdict
from pathlib import Path

import deepmd.tf  # noqa: F401  first, since it loads this package as its plugin
import numpy as np
from deepmd.tf.descriptor.se_a_mask import DescrptSeAMask
from deepmd.tf.entrypoints.freeze import _make_node_names, freeze_graph
from deepmd.tf.env import GLOBAL_TF_FLOAT_PRECISION, tf
from deepmd.tf.fit.ener import EnerFitting
from deepmd.tf.model.ener import EnerModel
from deepmd.tf.utils.graph import load_graph_def

from ..frozen.description import Description
from ..graph.descriptor import DescrptMask
from ..graph.fitting import MaskEnerFitting
from ..graph.model import MaskEnerModel
from ..shared.reason import reason_of

CLASSES = {
    "deepmd-mask": (DescrptMask, MaskEnerFitting, MaskEnerModel),
    "built-in": (DescrptSeAMask, EnerFitting, EnerModel),
}


def build_frozen(
    model: Description,
    variables: dict[str, np.ndarray],
    path: Path,
    to_compress: Path | None = None,
    weights: bool = False,
) -> None:
    """Build a model, give it the variables, and freeze it to a file.

    Parameters
    ----------
    model
        What to build; all that it needs must be known.
    variables
        By name, as FrozenModel.variables returns them; in either precision.
    path
        The file to write.
    to_compress
        For a compressed model, on the operators of this package: the frozen model whose embedding
        nets become its table.
    weights
        Whether a compressed model is to take weights between 0 and 1, too.

    Raises
    ------
    ValueError
        If the variables are not those of the model.
    OSError
        If the file cannot be written.
    """
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        outputs = _make_node_names("ener")
        built = _build(model, to_compress)
        if weights:
            outputs += built.add_weights()
        session.run(tf.global_variables_initializer())
        if model.compressed:
            variables = {k: v for k, v in variables.items() if not k.startswith("filter_type_")}
        _take_over(session, variables)
        graph_def = graph.as_graph_def()
        names = [node.name for node in graph_def.node]
        try:
            freeze_graph(session, graph_def, names, "ener", None, str(path), outputs)
        except tf.errors.OpError as error:  # of the variables, nothing else is run
            raise OSError(reason_of(error).split("; ")[-1]) from error


def model_options(model: Description) -> dict:
    """Return a description as the section "model" of a training input.

    Parameters
    ----------
    model
        The description.

    Returns
    -------
    dict
        The section.
    """

    def net(options: dict) -> dict:
        return {"activation_function": options.pop("activation"), **options}

    names = ("sel", "axis_neuron", "type_one_side", "exclude_types")
    descriptor = {name: getattr(model, name) for name in names}
    return {
        "type_map": model.type_map,
        "descriptor": {"type": "se_a_mask", **descriptor, **net(asdict(model.embedding))},
        "fitting_net": {"type": "ener", **model.fitting_options, **net(asdict(model.fitting))},
    }


def _build(model: Description, to_compress: Path | None) -> EnerModel:
    """Build the graph of a model, with the nodes that DeePMD-kit reads and feeds; return it."""
    assert model.sel is not None, "all that it needs must be known"
    ntypes = len(model.sel)
    floats, integers = GLOBAL_TF_FLOAT_PRECISION, tf.int32
    text = json.dumps(model.training_input, separators=(",", ":"))
    tf.constant(text, name="train_attr/training_script", dtype=tf.string)
    kind = "compressed_model" if model.compressed else "original_model"
    tf.constant(kind, name="model_type", dtype=tf.string)
    if model.min_distance is not None:
        tf.constant(model.min_distance, name="train_attr/min_nbor_dist", dtype=floats)
    coord = tf.placeholder(floats, [None], name="t_coord")
    types = tf.placeholder(integers, [None], name="t_type")
    natoms = tf.placeholder(integers, [ntypes + 2], name="t_natoms")
    box = tf.placeholder(floats, [None], name="t_box")
    mesh = tf.placeholder(integers, [None], name="t_mesh")
    inputs = {"aparam": tf.placeholder(floats, [None], name="t_aparam")}
    if model.fitting_options["numb_fparam"] > 0:
        inputs["fparam"] = tf.placeholder(floats, [None], name="t_fparam")
    built = _new_model(model, ntypes)
    if model.compressed:
        built.descrpt.enable_compression(model.min_distance, *load_graph_def(str(to_compress)))
    built.build(coord, types, natoms, box, mesh, inputs, reuse=False)
    return built


def _new_model(model: Description, ntypes: int) -> EnerModel:
    """Make DeePMD-kit's object for a model."""
    options = model_options(model)
    new_descriptor, new_fitting, new_model = CLASSES[model.operators]
    try:
        descriptor = new_descriptor(**_arguments(options["descriptor"]), ntypes=ntypes)
        width = descriptor.get_dim_out()
        fitting = new_fitting(
            ntypes=ntypes, dim_descrpt=width, **_arguments(options["fitting_net"])
        )
    except RuntimeError as error:  # DeePMD-kit's for names that it does not know
        raise ValueError(str(error)) from error
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The cutoff radius is not used")
        return new_model(descriptor=descriptor, fitting_net=fitting, type_map=model.type_map)


def _arguments(options: dict) -> dict:
    return {name: value for name, value in options.items() if name != "type"}


def _take_over(session: tf.Session, variables: dict[str, np.ndarray]) -> None:
    """Set the variables of the session's graph."""
    created = {variable.op.name: variable for variable in tf.global_variables()}
    # Freezing drops timesteps that no layer uses; DeePMD-kit 2.2 has no t_out_bias, t_out_std.
    needed = {name for name in created if "/idt_" not in name and "/t_out_" not in name}
    for what, names in (
        ("lacks", needed - set(variables)),
        ("has, beyond what se_a_mask knows,", set(variables) - set(created)),
    ):
        if names:
            msg = f"it {what} the variables {sorted(names)}"
            raise ValueError(msg)
    values = {}
    for name, value in variables.items():
        variable = created[name]
        if variable.shape != value.shape:
            wanted = tuple(variable.shape.as_list())
            msg = f"its variable {name} has the shape {value.shape}, not {wanted}"
            raise ValueError(msg)
        values[variable.initializer.inputs[1]] = value.astype(variable.dtype.as_numpy_dtype)
    session.run([created[name].initializer for name in variables], values)
