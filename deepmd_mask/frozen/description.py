# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a frozen model says of itself: by its operators and variables, and by its training input.

Operators and variables come first, since they are what runs. The training input adds what they do
not show; a model without one is described as far as its graph goes.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, combinations_with_replacement, count, takewhile
from typing import Any

import numpy as np

from ..shared.options import MOST_SLOTS, section
from ..shared.reason import named
from .model_file import TELLING_OPS, FrozenModel, python_value

PLUGIN = "PipInstallDeepmdMask>"
# Operators that stand for one thing together, and so have the same attributes.
TOGETHER = [
    ("FitSeries", "Embed", "EmbedGrad", "Force", "ForceGrad", "Potential", "WeightedPotential"),
    ("Contract", "ContractReverse", "Potential", "WeightedPotential"),
    ("Energies", "EnergiesGrad"),
]
SHARED = ("neuron", "resnet_dt", "activation", "net", "n", "M2", "ntypes")
MOST_TYPES = 1000
# What uses the sum of a layer tells its activation function; the first of these that is among it.
ACTIVATION_OF_USER = {
    "Less": "silut",
    "Pow": "gelu_tf",
    "Mul": "silu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Relu": "relu",
    "Relu6": "relu6",
    "Softplus": "softplus",
    "GeluCustom": "gelu",
    "Reshape": "none",
}


@dataclass(frozen=True)
class Net:
    """What the embedding nets, or the fitting nets, have in common.

    Attributes
    ----------
    neuron
        Width of each hidden layer.
    activation
        DeePMD-kit's name of the activation function; None if it cannot be told.
    resnet_dt
        Whether a skip connection has a timestep.
    precision
        "float64" or "float32", in a model that can be converted; None if it cannot be told.
    """

    neuron: list[int]
    activation: str | None
    resnet_dt: bool
    precision: str | None


@dataclass(frozen=True)
class Description:
    """What is known of a frozen model; None or empty for what is not.

    Attributes
    ----------
    operators
        Whose operators the model runs on, "deepmd-mask" or "built-in".
    ops_version
        The version of this package's operators that it needs; None for the built-in.
    compressed
        Whether tables stand in for the embedding nets.
    made_by
        Versions of the packages that made it, by name.
    type_map
        Names of the types.
    sel
        Largest number of real atoms of each type.
    n
        The normalisation, by which X is divided.
    type_one_side
        Whether the embedding nets depend on the neighbour's type only.
    axis_neuron
        M2.
    exclude_types
        Pairs of types that do not see each other.
    embedding, fitting
        The nets.
    fitting_options
        Other options of the fitting net.
    min_distance
        The shortest distance between real atoms in the training data.
    training_input
        The input that the model was trained with.
    """

    operators: str
    ops_version: int | None
    compressed: bool
    made_by: dict[str, str]
    type_map: list[str]
    sel: list[int] | None
    n: int | None
    type_one_side: bool | None
    axis_neuron: int | None
    exclude_types: list[list[int]]
    embedding: Net
    fitting: Net
    fitting_options: dict[str, Any]
    min_distance: float | None
    training_input: dict


def describe(model: FrozenModel, training_input: dict | None = None) -> Description:
    """Describe a frozen model.

    Parameters
    ----------
    model
        The model.
    training_input
        The input that it was trained with, for a model that does not carry it itself.

    Returns
    -------
    Description
        Of the model.

    Raises
    ------
    ValueError
        If it is not a model with se_a_mask, is damaged, or says what cannot be.
    """
    operators = model.require_operators()
    script = training_input or model.training_input()
    what = f"{model.path} says of itself what cannot be"
    with named(model.path, unreadable=f"{what} read", wrong=what):
        found = _describe(model, operators, script)
        _require_plausible(found)
        _require_agreement(model)
    return found


def describe_graph(model: FrozenModel) -> Description:
    """Describe a model that `describe` lets pass by its operators and variables alone."""
    return _describe(model, model.require_operators(), {})


def _describe(model: FrozenModel, operators: str, script: dict) -> Description:
    reader = _Reader(model, script)
    return Description(
        operators=operators,
        ops_version=reader.ops_version() if operators == "deepmd-mask" else None,
        compressed=model.is_compressed(),
        made_by=model.json("descrpt_attr/made_by"),
        type_map=(model.text("model_attr/tmap") or "").split(),
        sel=reader.sel(),
        n=reader.n(),
        type_one_side=reader.type_one_side(),
        axis_neuron=reader.axis_neuron(),
        exclude_types=reader.exclude_types(),
        embedding=reader.embedding(),
        fitting=reader.fitting(),
        fitting_options=reader.fitting_options(),
        min_distance=model.number("train_attr/min_nbor_dist"),
        training_input=script,
    )


def _require_plausible(found: Description) -> None:
    """Refuse what no model is: a ValueError that names the value."""
    sel, ntypes = found.sel, len(found.type_map)
    if sel is not None and (min(sel, default=0) < 0 or not 0 < sum(sel) <= MOST_SLOTS):
        raise ValueError(f"sel is {_short(sel)}")
    if sel is not None and 0 < ntypes != len(sel):
        raise ValueError(f"sel has {len(sel)} types, the type map {ntypes}")
    if sel is not None and found.n is not None and sum(sel) != found.n:
        raise ValueError(f"sel is {_short(sel)}, but the sum of sel is {found.n}")
    numbers = {"axis_neuron": found.axis_neuron, "ops_version": found.ops_version}
    for what, net in (("embedding", found.embedding), ("fitting", found.fitting)):
        numbers |= {f"a width of the {what} nets": width for width in net.neuron}
        if not isinstance(net.activation, str | None):
            raise ValueError(f"the activation function of the {what} nets is {net.activation!r}")
    for name, number in numbers.items():
        if number is not None and not (isinstance(number, int) and number > 0):
            raise ValueError(f"{name} is {number!r}")
    if found.min_distance is not None and not 0 < found.min_distance < math.inf:
        raise ValueError(f"the shortest distance is {found.min_distance!r}")
    if not isinstance(found.type_one_side, bool | None):
        raise ValueError(f"type_one_side is {found.type_one_side!r}")


def _require_agreement(model: FrozenModel) -> None:
    """Refuse operators that contradict each other, as energy and forces would."""
    for names in TOGETHER:
        nodes = [n for n in model.graph.node if n.op in [f"{PLUGIN}{name}" for name in names]]
        for name in SHARED:
            values = {n.name: python_value(n.attr[name]) for n in nodes if name in n.attr}
            for node, value in values.items():
                first = next(iter(values))
                if value != values[first]:
                    raise ValueError(f"the operators {first} and {node} differ in {name}")


def _short(value: object) -> str:
    """Return a value as text that fits into a message."""
    text = str(value)
    return text if len(text) < 80 else f"{text[:77]}..."


class _Reader:
    """Finds the fields of a Description in a model and its training input."""

    def __init__(self, model: FrozenModel, script: dict) -> None:
        self.model = model
        self.variables = model.variables()
        self.descriptor = section(script, "model/descriptor")
        self.fitting_net = section(script, "model/fitting_net")
        names = (re.fullmatch(r"filter_type_(all|\d+)/matrix_1_(\d+)", n) for n in self.variables)
        self.nets = [name.groups() for name in names if name]  # types (i, j) of each net
        # What this package's operators have as attributes; a compressed model has one for all.
        whole = model.attributes(f"{PLUGIN}Potential")
        self.of_embedding = model.attributes(f"{PLUGIN}Embed") or whole
        self.of_contraction = model.attributes(f"{PLUGIN}Contract") or whole
        self.of_fitting = model.attributes(f"{PLUGIN}Energies") or {
            name.removeprefix("fitting_"): value
            for name, value in whole.items()
            if name.startswith("fitting_")
        }

    def ops_version(self) -> int:
        """Models older than versions need version 1."""
        return self.model.attributes(TELLING_OPS["deepmd-mask"]).get("ops_version", 1)

    def sel(self) -> list[int] | None:
        found = self.model.attributes(TELLING_OPS["deepmd-mask"]).get("sel")
        if found is None and isinstance(self.descriptor.get("sel"), list):
            found = self.descriptor["sel"]
        return self._sel_of_slices() if found is None else [int(bound) for bound in found]

    def _sel_of_slices(self) -> list[int] | None:
        """Return sel as the built-in cuts pairs, 4 numbers each, into types; None if unclear."""
        width = {}
        for node in self.model.graph.node:
            if node.op == "Slice" and node.name.startswith("filter_type_"):
                begin, size = (self.model.constant(name) for name in node.input[1:])
                if begin is None or size is None or begin.shape != (2,):
                    continue
                if size[1] > 0 and size[1] % 4 == 0:
                    width[int(begin[1])] = int(size[1])
        first = sorted(width)
        widths = [width[start] for start in first]
        complete = widths and first == [0, *accumulate(widths)][:-1]
        return [w // 4 for w in widths] if complete else None

    def n(self) -> int | None:
        n = self.model.attributes("ProdForceSeAMask").get("total_atom_num")
        n = self.of_embedding.get("n", n)
        return None if n is None else int(n)

    def type_one_side(self) -> bool | None:
        if self.nets:
            return any(i == "all" for i, _ in self.nets)
        return self.descriptor.get("type_one_side")

    def axis_neuron(self) -> int | None:
        found = self.of_contraction.get("M2")
        found = found or self.descriptor.get("axis_neuron")
        inputs = self.variables.get("layer_0_type_0/matrix")
        if found is None and inputs is not None and self.nets:
            return len(inputs) // self.embedding().neuron[-1]  # inputs beside D are fewer than M1
        return found

    def exclude_types(self) -> list[list[int]]:
        """Return pairs (i, j), i <= j."""
        table = self.of_embedding.get("net")
        if table is not None:
            table = np.reshape(table, (math.isqrt(len(table)), -1))
            return np.argwhere(np.triu(table < 0)).tolist()
        if "exclude_types" in self.descriptor:
            return sorted(sorted(pair) for pair in self.descriptor["exclude_types"])
        if self.type_one_side() is not False:
            return []
        ntypes = self.model.number("descrpt_attr/ntypes") or 0
        if not 0 <= ntypes <= MOST_TYPES:
            raise ValueError(f"it has {ntypes} types")
        pairs = combinations_with_replacement(range(ntypes), 2)
        return [[i, j] for i, j in pairs if (str(i), str(j)) not in self.nets]

    def embedding(self) -> Net:
        i, j = self.nets[0] if self.nets else ("", "")
        hidden = (f"filter_type_{i}/matrix_{k}_{j}" for k in count(1))
        scopes = r"filter_type_(all|\d+)/"
        return self._net(scopes, hidden, self.descriptor, self.of_embedding, f"filter_type_{i}/")

    def fitting(self) -> Net:
        hidden: Iterable[str] = (f"layer_{k}" for k in count())
        shared = self.fitting_net.get("layer_name")
        if shared:  # layers that have a name there are called by it
            names = enumerate(shared[:-1])
            hidden = (f"share_{name}" if name else f"layer_{k}" for k, name in names)
        matrices = (f"{layer}_type_0/matrix" for layer in hidden)
        scopes = r"(layer_\d+|final_layer|share_.+)_type_\d+/"
        return self._net(scopes, matrices, self.fitting_net, self.of_fitting, "layer_0_type_0/")

    def _net(
        self, scopes: str, hidden: Iterable[str], options: dict, attributes: dict, scope: str
    ) -> Net:
        """Describe nets.

        Parameters
        ----------
        scopes
            Pattern of the scopes of all their variables.
        hidden
            The names that the matrices of one net have if it has enough layers.
        options
            Of the training input.
        attributes
            Of this package's operator for them.
        scope
            Where the graph of the built-in has their first layer.
        """
        own = {name: v for name, v in self.variables.items() if re.match(scopes, name)}
        matrices = [own[name] for name in takewhile(own.__contains__, hidden)]
        activation = attributes.get("activation")
        activation = activation or options.get("activation_function") or self._activation(scope)
        precisions = {self.model.precision(name) for name in own}
        return Net(
            neuron=[matrix.shape[1] for matrix in matrices] or list(options.get("neuron", [])),
            activation=activation,
            resnet_dt=any("/idt" in name for name in own),
            precision=" and ".join(sorted(precisions)) or options.get("precision"),
        )

    def _activation(self, scope: str) -> str | None:
        """Return the activation function behind the first sum of a scope; None if unclear."""
        inside = [node for node in self.model.graph.node if node.name.startswith(scope)]
        total = next((node.name for node in inside if node.op == "BiasAdd"), None)
        users = {node.op: node for node in inside if total in node.input}
        name = next((name for op, name in ACTIVATION_OF_USER.items() if op in users), None)
        if name == "silut":
            return f"silut:{self.model.number(users['Less'].input[1])}"
        return name

    def fitting_options(self) -> dict[str, Any]:
        """Return the options of the fitting net that are not those of a Net."""
        return {
            "numb_fparam": self.model.number("fitting_attr/dfparam") or 0,
            "numb_aparam": self.model.number("fitting_attr/daparam") or 0,
            "use_aparam_as_mask": "fitting_attr/t_aparam_avg" not in self.variables,
            "atom_ener": self.fitting_net.get("atom_ener") or [],
            "layer_name": self.fitting_net.get("layer_name"),
            "tot_ener_zero": bool(self.fitting_net.get("tot_ener_zero")),
        }
