# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models on the operators of this package: attributes and inputs of these say what they compute."""

from typing import Any

import numpy as np

from ..frozen.description import PLUGIN
from ..frozen.model_file import FrozenModel, python_value
from .parts import Nets, Parts, TableArrays

OPERATORS = {
    "RealAtoms", "FitSeries", "FitSeriesGrad", "Embed", "EmbedGrad", "Contract", "ContractReverse",
    "Energies", "EnergiesGrad", "Force", "ForceGrad", "Potential",
    "RealAtomsOfGroups", "WeightedPotential",
}  # fmt: skip
# Where inputs of an operator begin.
SERIES = 4  # after coord, slot, weight and first
PARAMETERS_OF_EMBED = SERIES + 3
PARAMETERS_OF_ENERGIES = 2  # after type_first and D
BIAS_OF_POTENTIAL = SERIES + 3


def parts_of_own(model: FrozenModel) -> Parts:
    """Return the nets of a model.

    Parameters
    ----------
    model
        On the operators of this package.

    Raises
    ------
    ValueError
        If it has operators that this version does not know, lacks one, or one has other inputs
        than it should have.
    """
    known = {f"{PLUGIN}{name}" for name in OPERATORS}
    for node in model.graph.node:
        if node.op.startswith(PLUGIN) and node.op not in known:
            raise ValueError(
                f"it has the operator {node.op}, which the installed version does not know; "
                "run pip install -U deepmd-mask"
            )
    whole = model.with_op(f"{PLUGIN}Potential")
    embed = _only(model, whole or model.with_op(f"{PLUGIN}Embed"), "Embed")
    contract = _only(model, whole or model.with_op(f"{PLUGIN}Contract"), "Contract")
    energies = _only(model, whole or model.with_op(f"{PLUGIN}Energies"), "Energies")
    if whole:
        first, count = BIAS_OF_POTENTIAL + 1, _attribute(energies, "Q")
        fitting = energies.input[first : first + count]
        embedding = embed.input[first + count :]
    else:
        fitting = energies.input[PARAMETERS_OF_ENERGIES:]
        embedding = embed.input[PARAMETERS_OF_EMBED:]
    prefix = "fitting_" if whole else ""
    table = _table(model, embed.input[SERIES : SERIES + 3])
    return Parts(
        Nets(
            neuron=_attribute(embed, "neuron"),
            resnet_dt=_attribute(embed, "resnet_dt"),
            activation=_attribute(embed, "activation"),
            parameters=[] if table else [_constant(model, name) for name in embedding],
        ),
        net=_attribute(embed, "net"),
        M2=_attribute(contract, "M2"),
        table=table,
        fitting=Nets(
            neuron=_attribute(energies, f"{prefix}neuron"),
            resnet_dt=_attribute(energies, f"{prefix}resnet_dt"),
            activation=_attribute(energies, f"{prefix}activation"),
            parameters=[_constant(model, name) for name in fitting],
        ),
    )


def _only(model: FrozenModel, nodes: list[Any], name: str) -> Any:
    """Return the first of some operators; those after it have the same nets."""
    if not nodes:
        raise ValueError(f"it lacks the operator {PLUGIN}{name}")
    return nodes[0]


def _attribute(node: Any, name: str) -> Any:
    if name not in node.attr:
        raise ValueError(f"its operator {node.name} lacks the attribute {name}")
    return python_value(node.attr[name])


def _table(model: FrozenModel, names: list[str]) -> TableArrays | None:
    """Return a table; None if the series are fitted anew for each batch."""
    node = model.nodes.get(names[0].split(":")[0]) if names else None
    if node is None or node.op == f"{PLUGIN}FitSeries":
        return None
    first, panels, C = (_constant(model, name) for name in names)
    if first.dtype.kind != "i":
        raise ValueError(f"its table has offsets of the type {first.dtype}")
    return first, panels, C


def _constant(model: FrozenModel, name: str) -> np.ndarray:
    """Return the constant that an input of an operator comes from.

    On the way there may be what hands it on, changes its precision, or multiplies a last layer by
    the model's scale of energies, which is the second factor.
    """
    seen: set[str] = set()
    node = model.nodes.get(name.split(":", maxsplit=1)[0])
    while node is not None and node.name not in seen:
        if node.op == "Const":
            found = model.constant(node.name)
            assert found is not None, "it is a constant"
            return found
        if node.op not in ("Identity", "Cast", "Mul"):
            break
        if node.op == "Mul" and not _is_scale(model, node.input[1:]):
            break
        seen.add(node.name)
        node = model.nodes.get(node.input[0].split(":")[0]) if node.input else None
    raise ValueError(f"what its operators take from {name} is no constant")


def _is_scale(model: FrozenModel, names: list[str]) -> bool:
    """Return whether a factor, one input of an operator, is of the model's scale of energies."""
    seen: set[str] = set()
    while len(names) >= 1 and names[0] not in seen:
        seen.add(names[0])
        node = model.nodes.get(names[0].split(":")[0])
        if node is None or node.op not in ("Identity", "Cast", "StridedSlice", "Const"):
            return False
        if node.op == "Const":
            return node.name.endswith("/t_out_std")
        names = node.input
    return False
