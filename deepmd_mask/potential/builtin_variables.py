# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models of the built-in se_a_mask: variables by name, and options from the training input."""

from itertools import pairwise

import numpy as np

from ..frozen.description import Description, describe_graph
from ..frozen.model_file import FrozenModel
from ..shared.options import activation_of
from ..shared.pair_nets import PairNets
from .parts import Nets, Parts

# A graph tells these, too, if nothing else does.
TOLD_TWICE = ("type_one_side", "axis_neuron")


def parts_of_builtin(model: FrozenModel, found: Description) -> Parts:
    """Return the nets of a model.

    Parameters
    ----------
    model, found
        The model, on the operators of the built-in, and its description.

    Raises
    ------
    ValueError
        If it lacks its training input or a variable, or computes something else than that tells.
    """
    if not found.training_input:
        raise ValueError(
            "it does not carry the input that it was trained with, which tells what its graph "
            "does not, as the types that nets exclude; dp-mask convert takes that with --input"
        )
    if found.embedding.activation is None or found.fitting.activation is None:
        raise ValueError("it does not tell its activation functions")
    _require_agreement(model, found)
    excluded = {(i, j) for pair in found.exclude_types for i, j in (pair, pair[::-1])}
    ntypes = len(found.sel or ())
    nets = PairNets(ntypes, bool(found.type_one_side), excluded)
    variables = _Variables(model.variables())
    return Parts(
        Nets(
            found.embedding.neuron,
            found.embedding.resnet_dt,
            activation_of(found.embedding.activation),
            [p for i, j in nets.names() for p in variables.of_embedding(found, i, j)],
        ),
        net=nets.of_pairs(),
        M2=found.axis_neuron or 0,
        table=None,
        fitting=Nets(
            found.fitting.neuron,
            found.fitting.resnet_dt,
            activation_of(found.fitting.activation),
            [p for t in range(ntypes) for p in variables.of_fitting(found, t)],
        ),
    )


def _require_agreement(model: FrozenModel, found: Description) -> None:
    """Refuse a training input that tells something else than the graph, as far as that tells."""
    graph = describe_graph(model)
    pairs = {name: (getattr(graph, name), getattr(found, name)) for name in TOLD_TWICE}
    if graph.sel is not None:  # which has no types without slots
        pairs["sel"] = graph.sel, [slots for slots in found.sel or () if slots > 0]
    if graph.type_one_side is False:
        pairs["exclude_types"] = graph.exclude_types, found.exclude_types
    for part in ("embedding", "fitting"):
        told = [getattr(d, part).activation for d in (graph, found)]
        if told[0] is not None:
            one, other = map(activation_of, told)
            pairs[f"activation function of the {part} nets"] = one, other
    for name, (in_graph, in_script) in pairs.items():
        if in_graph is not None and in_graph != in_script:
            raise ValueError(
                f"its {name} is {in_script} by its training input, but {in_graph} by its graph"
            )


class _Variables:
    """What was a variable before freezing, by the names that DeePMD-kit gives."""

    def __init__(self, values: dict[str, np.ndarray]) -> None:
        self.values = values

    def of_embedding(self, found: Description, i: str, j: int) -> list[np.ndarray]:
        """Return the parameters of one embedding net."""
        net, parameters = found.embedding, []
        for layer, (before, width) in enumerate(pairwise([1, *net.neuron]), start=1):
            names = ["matrix", "bias"]
            if net.resnet_dt and width in (before, 2 * before):
                names.append("idt")
            parameters += [self._get(f"filter_type_{i}/{name}_{layer}_{j}") for name in names]
        return parameters

    def of_fitting(self, found: Description, t: int) -> list[np.ndarray]:
        """Return the parameters of the fitting net of a type."""
        net, parameters = found.fitting, []
        shared = found.fitting_options["layer_name"] or [None] * (len(net.neuron) + 1)
        for layer, name in enumerate(shared):
            scope = f"layer_{layer}" if layer < len(net.neuron) else "final_layer"
            scope = f"{scope if name is None else f'share_{name}'}_type_{t}"
            has_skip = 0 < layer < len(net.neuron) and net.neuron[layer] == net.neuron[layer - 1]
            names = ["matrix", "bias", *(["idt"] if net.resnet_dt and has_skip else [])]
            parameters += [self._get(f"{scope}/{name}") for name in names]
        return parameters

    def _get(self, name: str) -> np.ndarray:
        if name not in self.values:
            raise ValueError(f"it lacks the variable {name}")
        return self.values[name]
