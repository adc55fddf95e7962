# SPDX-License-Identifier: LGPL-3.0-or-later
"""The TensorFlow operators and their gradients; op/kernels.h documents what they compute.

There are gradients by X, A and parameters, and none by coordinates (tf.gradients returns None for
them): forces come from the operator of that name, and TensorFlow's optimizers would evaluate a
gradient by coordinates in each step, wanted or not.
"""

from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops as tf_ops

LIBRARY = Path(__file__).parent / "libdeepmd_mask.so"
BUILT_FOR = "2.21.0"
PREFIX = "PipInstallDeepmdMask>"  # op/operator.h says why
COMMON_INPUTS = 4  # coord, slot, weight, first
ATTRIBUTES = ("neuron", "resnet_dt", "activation", "net", "n")


def _load() -> Any:
    try:
        return tf.load_op_library(str(LIBRARY))
    except (tf.errors.NotFoundError, RuntimeError) as error:
        msg = (
            f"deepmd-mask cannot load {LIBRARY}. It is built for TensorFlow {BUILT_FOR}, the one "
            f"that DeePMD-kit 3.2.0 pins; {tf.__version__} is installed. Install both together: "
            'pip install "deepmd-mask[cpu]"'
        )
        raise ImportError(msg) from error


_library = _load()


def _function(name: str) -> Any:
    return getattr(_library, f"pip_install_deepmd_mask_{name}")


real_atoms = _function("real_atoms")
embed = _function("embed")
embed_grad = _function("embed_grad")
force = _function("force")
force_grad = _function("force_grad")
product_by_type = _function("product_by_type")
outer_by_type = _function("outer_by_type")


def _attributes(op: tf.Operation) -> dict[str, Any]:
    found = {name: op.get_attr(name) for name in ATTRIBUTES}
    found["activation"] = found["activation"].decode()
    return found


tf_ops.NotDifferentiable(f"{PREFIX}RealAtoms")


@tf_ops.RegisterGradient(f"{PREFIX}Embed")
def _embed_gradient(op: tf.Operation, dX: tf.Tensor) -> list[tf.Tensor | None]:
    common, parameters = op.inputs[:COMMON_INPUTS], op.inputs[COMMON_INPUTS:]
    dparameters = embed_grad(*common, dX, parameters, **_attributes(op))
    return [*[None] * COMMON_INPUTS, *dparameters]


@tf_ops.RegisterGradient(f"{PREFIX}Force")
def _force_gradient(
    op: tf.Operation, dforce: tf.Tensor, dvirial: tf.Tensor, datom_virial: tf.Tensor
) -> list[tf.Tensor | None]:
    common, A, parameters = (
        op.inputs[:COMMON_INPUTS],
        op.inputs[COMMON_INPUTS],
        op.inputs[COMMON_INPUTS + 1 :],
    )
    dA, dparameters = force_grad(
        *common, A, dforce, dvirial, datom_virial, parameters, **_attributes(op)
    )
    return [*[None] * COMMON_INPUTS, dA, *dparameters]


@tf_ops.RegisterGradient(f"{PREFIX}ProductByType")
def _product_by_type_gradient(op: tf.Operation, dy: tf.Tensor) -> list[tf.Tensor | None]:
    type_first, x, *matrices = op.inputs
    transposed = op.get_attr("transposed")
    dx = product_by_type(type_first, dy, matrices, transposed=not transposed)
    factors = (dy, x) if transposed else (x, dy)
    return [None, dx, *outer_by_type(type_first, *factors, ntypes=len(matrices))]


@tf_ops.RegisterGradient(f"{PREFIX}OuterByType")
def _outer_by_type_gradient(op: tf.Operation, *dmatrices: tf.Tensor) -> list[tf.Tensor | None]:
    type_first, x, y = op.inputs
    dx = product_by_type(type_first, y, dmatrices, transposed=True)
    dy = product_by_type(type_first, x, dmatrices, transposed=False)
    return [None, dx, dy]
