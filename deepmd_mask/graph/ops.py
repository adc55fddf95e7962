# SPDX-License-Identifier: LGPL-3.0-or-later
"""The TensorFlow operators and their gradients; op/kernels documents what they compute.

There are gradients by X, A and parameters, and none by coordinates (tf.gradients returns None for
them): forces come from the operator of that name, and TensorFlow's optimizers would evaluate a
gradient by coordinates in each step, wanted or not.
"""

from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops as tf_ops

from .._kernels import OPS_VERSION

LIBRARY = Path(__file__).parents[1] / "libdeepmd_mask.so"
BUILT_FOR = "2.21.0"
PREFIX = "PipInstallDeepmdMask>"  # op/tensorflow/operator.h says why
COMMON_INPUTS = 4  # coord, slot, weight, first
SERIES_INPUTS = 3  # first, panels, C
NET_ATTRIBUTES = ("neuron", "resnet_dt", "activation")
EMBEDDING_ATTRIBUTES = (*NET_ATTRIBUTES, "net", "n")
FITTING_ATTRIBUTES = ("ntypes", "neuron", "resnet_dt", "activation")


def _load() -> Any:
    try:
        return tf.load_op_library(str(LIBRARY))
    except (tf.errors.NotFoundError, RuntimeError) as error:
        msg = (
            f"deepmd-mask cannot load {LIBRARY}. It is built for TensorFlow {BUILT_FOR}, the one "
            f"that DeePMD-kit 3.1.3 and 3.2.0 pin; {tf.__version__} is installed. Install both "
            'together: pip install "deepmd-mask[cpu]", or [gpu]'
        )
        raise ImportError(msg) from error


_library = _load()


def _function(name: str) -> Any:
    return getattr(_library, f"pip_install_deepmd_mask_{name}")


real_atoms = partial(_function("real_atoms"), ops_version=OPS_VERSION)
real_atoms_of_groups = partial(_function("real_atoms_of_groups"), ops_version=OPS_VERSION)
fit_series = _function("fit_series")
fit_series_grad = _function("fit_series_grad")
embed = _function("embed")
embed_grad = _function("embed_grad")
force = _function("force")
force_grad = _function("force_grad")
contract = _function("contract")
contract_reverse = _function("contract_reverse")
energies = _function("energies")
energies_grad = _function("energies_grad")
potential = _function("potential")
weighted_potential = _function("weighted_potential")


def _attributes(op: tf.Operation, names: tuple[str, ...]) -> dict[str, Any]:
    found = {name: op.get_attr(name) for name in names}
    found["activation"] = found["activation"].decode()
    return found


tf_ops.NotDifferentiable(f"{PREFIX}RealAtoms")
tf_ops.NotDifferentiable(f"{PREFIX}RealAtomsOfGroups")
tf_ops.NotDifferentiable(f"{PREFIX}WeightedPotential")


@tf_ops.RegisterGradient(f"{PREFIX}FitSeries")
def _fit_series_gradient(
    op: tf.Operation, _first: None, _panels: None, dC: tf.Tensor
) -> list[tf.Tensor | None]:
    first, panels, _C = op.outputs
    dparameters = fit_series_grad(
        first, panels, dC, op.inputs[COMMON_INPUTS:], **_attributes(op, NET_ATTRIBUTES)
    )
    return [*[None] * COMMON_INPUTS, *dparameters]


@tf_ops.RegisterGradient(f"{PREFIX}Embed")
def _embed_gradient(op: tf.Operation, dX: tf.Tensor) -> list[tf.Tensor | None]:
    before, parameters = _split(op)
    dC, dparameters = embed_grad(*before, dX, parameters, **_attributes(op, EMBEDDING_ATTRIBUTES))
    return [*[None] * (len(before) - 1), dC, *dparameters]


@tf_ops.RegisterGradient(f"{PREFIX}Force")
def _force_gradient(
    op: tf.Operation, dforce: tf.Tensor, dvirial: tf.Tensor, datom_virial: tf.Tensor
) -> list[tf.Tensor | None]:
    before, [A, *parameters] = _split(op)
    dA, dC, dparameters = force_grad(
        *before,
        A,
        dforce,
        dvirial,
        datom_virial,
        parameters,
        **_attributes(op, EMBEDDING_ATTRIBUTES),
    )
    return [*[None] * (len(before) - 1), dC, dA, *dparameters]


def _split(op: tf.Operation) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Return the inputs up to C, which is the last of them, and those after it."""
    inputs = list(op.inputs)
    return inputs[: COMMON_INPUTS + SERIES_INPUTS], inputs[COMMON_INPUTS + SERIES_INPUTS :]


@tf_ops.RegisterGradient(f"{PREFIX}Contract")
def _contract_gradient(op: tf.Operation, gB: tf.Tensor) -> list[tf.Tensor]:
    X, Y = op.inputs
    M2 = op.get_attr("M2")
    return [contract_reverse(Y, gB, M2=M2), contract_reverse(X, gB, M2=M2)]


@tf_ops.RegisterGradient(f"{PREFIX}ContractReverse")
def _contract_reverse_gradient(op: tf.Operation, gX: tf.Tensor) -> list[tf.Tensor]:
    Y, gB = op.inputs
    M2 = op.get_attr("M2")
    return [contract_reverse(gX, gB, M2=M2), contract(gX, Y, M2=M2)]


@tf_ops.RegisterGradient(f"{PREFIX}Energies")
def _energies_gradient(
    op: tf.Operation, de: tf.Tensor, dA: tf.Tensor, _dz: tf.Tensor
) -> list[tf.Tensor | None]:
    type_first, D, *parameters = op.inputs
    _e, A, z = op.outputs
    dD, dparameters = energies_grad(
        type_first, D, parameters, z, de, dA, **_attributes(op, FITTING_ATTRIBUTES)
    )
    dparameters = list(dparameters)
    if _is_nothing(dA):
        # Forces are gradients of e alone, and training needs theirs: A has one, dD has none.
        dD = de[:, None] * A
    if _is_nothing(de):
        # The biases of the last layers have no say in A. An optimizer keeps moments of all that
        # has a gradient, and checkpoints of the built-in have none of these.
        of_net = len(parameters) // op.get_attr("ntypes")
        dparameters[of_net - 1 :: of_net] = [None] * op.get_attr("ntypes")
    return [None, dD, *dparameters]


@tf_ops.RegisterGradient(f"{PREFIX}Potential")
def _potential_gradient(op: tf.Operation, *_: tf.Tensor) -> list[tf.Tensor | None]:
    """Return gradients that fail when evaluated: dp compress asks for some, but never trains."""
    first = COMMON_INPUTS + SERIES_INPUTS + 1
    nets = range(first, first + op.get_attr("Q"))
    message = "compressed models of se_a_mask cannot be trained"
    with tf.control_dependencies([tf.raw_ops.Assert(condition=False, data=[message])]):
        return [tf.zeros_like(x) if k in nets else None for k, x in enumerate(op.inputs)]


def _is_nothing(gradient: tf.Tensor) -> bool:
    """Return whether TensorFlow made this up for an output that nothing depends on."""
    return gradient.op.type == "ZerosLike"
