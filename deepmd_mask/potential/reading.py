# SPDX-License-Identifier: LGPL-3.0-or-later
"""From the file of a frozen model to what the kernels take."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import _kernels
from ..frozen.description import Description, describe
from ..frozen.model_file import FrozenModel
from ..frozen.refusals import reasons_against
from ..shared.paths import AnyPath
from ..shared.reason import reason_of
from .builtin_variables import parts_of_builtin
from .own_operators import parts_of_own
from .parts import Nets, Parts

# The nodes that DeePMD-kit feeds and asks for. A file that was cut between nodes lacks some.
NODES = (
    *("t_coord", "t_type", "t_natoms", "t_box", "t_mesh", "t_aparam"),
    *("o_energy", "o_force", "o_virial", "o_atom_energy", "o_atom_virial"),
)


class ReadModel(NamedTuple):
    """A frozen model as it has been read.

    Attributes
    ----------
    path
        The file.
    type_map
        Names of the types.
    sel
        Largest number of real atoms of each type that it was trained for; None if unknown.
    arguments
        Of `_kernels.Model`, and the same on a GPU.
    """

    path: Path
    type_map: list[str]
    sel: list[int] | None
    arguments: dict[str, Any]


def read_model(path: AnyPath) -> ReadModel:
    """Read a frozen model of se_a_mask, of this package or of the built-in.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not such a model, is damaged, of a later version, or takes what cannot be given
        here; it names the file.
    """
    model = FrozenModel(path)
    found = describe(model)
    try:
        _require_readable(model, found)
        parts = parts_of_own(model) if found.operators == "deepmd-mask" else None
        arguments = _arguments(model, found, parts or parts_of_builtin(model, found))
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
        msg = f"model {path} has what cannot be read ({reason_of(error)})"
        raise ValueError(msg) from error
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"model {path} cannot be evaluated: {error}") from error
    return ReadModel(model.path, found.type_map, found.sel, arguments)


def _require_readable(model: FrozenModel, found: Description) -> None:
    """Refuse what is of a later version, incomplete, or takes more than coordinates and mask."""
    if found.ops_version is not None and found.ops_version > _kernels.OPS_VERSION:
        raise ValueError(
            f"it needs operators of version {found.ops_version}, and those installed have version "
            f"{_kernels.OPS_VERSION}; run pip install -U deepmd-mask"
        )
    lacking = [name for name in NODES if name not in model.nodes]
    if lacking:
        raise ValueError(f"it is not a whole one, it lacks {', '.join(lacking)}")
    options = found.fitting_options
    if (options["numb_aparam"], options["numb_fparam"]) != (1, 0):
        raise ValueError(
            f"it has {options['numb_aparam']} atomic and {options['numb_fparam']} frame "
            "parameters; a model with se_a_mask has the mask as its only one, numb_aparam 1. Use "
            "dp test, or DeepPot of DeePMD-kit, for other models"
        )
    reasons = reasons_against(model, found)
    reasons["the mean of its atomic energies is zero (tot_ener_zero)"] = options["tot_ener_zero"]
    reasons["it does not tell its sel"] = found.sel is None
    for reason, holds in reasons.items():
        if holds:
            raise ValueError(reason)


def _arguments(model: FrozenModel, found: Description, parts: Parts) -> dict[str, Any]:
    """Return what _kernels.Model is made of."""
    assert found.sel is not None, "it is required"
    variables = _FoundVariables(model, len(found.sel))
    precision = _precision(parts)
    C = [] if parts.table is None else [parts.table[2]]
    table = None
    if parts.table is not None:
        table = (*parts.table[:2], C[0].astype(precision, copy=False))
    fitting = _without_aparam(variables, parts.fitting)
    fitting = fitting._replace(
        parameters=[p.astype(precision, copy=False) for p in fitting.parameters]
    )
    bias = variables.bias() - _energies_in_vacuum(found, parts, fitting, precision)
    std, shift = variables.of_output("t_out_std", 1.0), variables.of_output("t_out_bias", 0.0)
    return {
        "precision": precision,
        "n": float(found.n if found.n is not None else sum(found.sel)),
        "M2": parts.M2,
        "net": parts.net,
        "neuron": parts.embedding.neuron,
        "resnet_dt": parts.embedding.resnet_dt,
        "activation": parts.embedding.activation,
        "parameters": [p.astype(precision, copy=False) for p in parts.embedding.parameters],
        "table": table,
        "min_distance": found.min_distance,
        "fitting_neuron": fitting.neuron,
        "fitting_resnet_dt": fitting.resnet_dt,
        "fitting_activation": fitting.activation,
        "fitting_parameters": _scaled(fitting.parameters, std),
        "bias": (bias * std + shift).astype(np.float64),
    }


def _precision(parts: Parts) -> str:
    """Return that of all nets; the wider one if embedding and fitting nets have not the same."""
    tables = [] if parts.table is None else [parts.table[2]]
    arrays = [*parts.embedding.parameters, *parts.fitting.parameters, *tables]
    found = {array.dtype.name for array in arrays}
    if not found <= {"float64", "float32"}:
        raise ValueError(f"its nets have numbers of the types {', '.join(sorted(found))}")
    return "float64" if "float64" in found else "float32"


def _scaled(parameters: list[np.ndarray], std: np.ndarray) -> list[np.ndarray]:
    """Multiply the last layer of each type's fitting net by the type's scale of energies."""
    of_net, rest = divmod(len(parameters), len(std))
    if rest or of_net < 2:
        raise ValueError(f"it has {len(parameters)} parameters for {len(std)} fitting nets")
    return [
        # Matrix and bias of the last layer end a net's list.
        p * std[k // of_net].astype(p.dtype) if k % of_net >= of_net - 2 else p
        for k, p in enumerate(parameters)
    ]


def _energies_in_vacuum(
    found: Description, parts: Parts, fitting: Nets, precision: str
) -> np.ndarray:
    """Return F(0) of types whose energy in vacuum is given, which is taken off, 0 of others."""
    assert found.sel is not None, "it is required"
    ntypes, given = len(found.sel), found.fitting_options["atom_ener"]
    assigned = np.array([t < len(given) and given[t] is not None for t in range(ntypes)])
    if not assigned.any():
        return np.zeros(ntypes)
    widths = parts.embedding.neuron[-1] * parts.M2
    kernels = _kernels.Fitting64 if precision == "float64" else _kernels.Fitting32
    nets = kernels(
        np.arange(ntypes + 1),
        np.zeros((ntypes, widths), precision),
        neuron=fitting.neuron,
        resnet_dt=fitting.resnet_dt,
        activation=fitting.activation,
        parameters=fitting.parameters,
    )
    return np.where(assigned, nets.energies()[0].astype(np.float64), 0.0)


def _without_aparam(variables: "_FoundVariables", nets: Nets) -> Nets:
    """Let the mask be no input of the fitting nets where it is one, beside D: it is always 1."""
    value = variables.mask_as_input()
    if value is None:
        return nets
    parameters, of_net = list(nets.parameters), len(nets.parameters) // variables.ntypes
    for k in range(0, len(parameters), max(1, of_net)):
        matrix, bias = parameters[k : k + 2]
        parameters[k : k + 2] = matrix[:-1], bias + matrix[-1] * bias.dtype.type(value)
    return nets._replace(parameters=parameters)


class _FoundVariables:
    """The variables of a model that are no parameters of nets."""

    def __init__(self, model: FrozenModel, ntypes: int) -> None:
        self.model, self.ntypes = model, ntypes

    def bias(self) -> np.ndarray:
        """Return the energy bias of each type."""
        return self._of_types("fitting_attr/t_bias_atom_e")

    def of_output(self, name: str, default: float) -> np.ndarray:
        """Return a scale or shift of each type, which models of DeePMD-kit 2 lack."""
        found = [node for node in self.model.nodes if node.endswith(f"/{name}")]
        return self._of_types(found[0]) if found else np.full(self.ntypes, default)

    def mask_as_input(self) -> float | None:
        """Return what the fitting nets are given of a mask of 1; None if they take none."""
        mean = self.model.number("fitting_attr/t_aparam_avg")
        inverse_std = self.model.number("fitting_attr/t_aparam_istd")
        return None if mean is None else (1.0 - mean) * inverse_std

    def _of_types(self, name: str) -> np.ndarray:
        values = self.model.constant(name)
        if values is None or values.size != self.ntypes:
            size = "not there" if values is None else f"of size {values.size}"
            raise ValueError(f"{name} is {size}, but there are {self.ntypes} types")
        return values.ravel()
