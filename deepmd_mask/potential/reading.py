# SPDX-License-Identifier: LGPL-3.0-or-later
"""From the file of a frozen model to what the kernels take."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._kernels import OPS_VERSION
from ..frozen.description import Description, describe
from ..frozen.model_file import FrozenModel
from ..frozen.refusals import reasons_against
from ..shared.paths import AnyPath
from ..shared.reason import named
from .builtin_variables import parts_of_builtin
from .energy_terms import energy_terms
from .own_operators import parts_of_own
from .parts import Parts

# The nodes that DeePMD-kit feeds and asks for. A file that was cut between nodes lacks some.
NODES = (
    *("t_coord", "t_type", "t_natoms", "t_box", "t_mesh", "t_aparam"),
    *("o_energy", "o_force", "o_virial", "o_atom_energy", "o_atom_virial"),
)


class RefusedModelError(ValueError):
    """A whole model of se_a_mask that cannot be evaluated here.

    Attributes
    ----------
    reason
        Why, without the file.
    """

    def __init__(self, path: AnyPath, reason: str) -> None:
        super().__init__(f"model {path} cannot be evaluated: {reason}")
        self.reason = reason


class ReadModel(NamedTuple):
    """A frozen model as it has been read.

    Attributes
    ----------
    path
        The file.
    type_map
        Names of the types.
    sel
        Largest number of real atoms of each type that it was trained for.
    arguments
        Of `_kernels.Model`, and the same on a GPU.
    is_builtin
        Whether it is on the operators of the built-in.
    """

    path: Path
    type_map: list[str]
    sel: list[int]
    arguments: dict[str, Any]
    is_builtin: bool


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
    what = f"model {path}"
    with named(
        path, unreadable=f"{what} has what cannot be read", wrong=f"{what} cannot be evaluated"
    ):
        _require_readable(model, found)
        parts = parts_of_own(model) if found.operators == "deepmd-mask" else None
        arguments = _arguments(model, found, parts or parts_of_builtin(model, found))
    sel = found.sel or []
    type_map = found.type_map or [f"Type_{t}" for t in range(len(sel))]  # as DeePMD-kit names them
    return ReadModel(model.path, type_map, sel, arguments, found.operators == "built-in")


def _require_readable(model: FrozenModel, found: Description) -> None:
    """Refuse what is of a later version, incomplete, or takes more than coordinates and mask."""
    if found.ops_version is not None and found.ops_version > OPS_VERSION:
        raise ValueError(
            f"it needs operators of version {found.ops_version}, and those installed have version "
            f"{OPS_VERSION}; run pip install -U deepmd-mask"
        )
    lacking = [name for name in NODES if name not in model.nodes]
    if lacking:
        raise ValueError(f"it is not a whole one, it lacks {', '.join(lacking)}")
    options = found.fitting_options
    if (options["numb_aparam"], options["numb_fparam"]) != (1, 0):
        raise RefusedModelError(
            model.path,
            f"it has {options['numb_aparam']} atomic and {options['numb_fparam']} frame "
            "parameters; a model with se_a_mask has the mask as its only one, numb_aparam 1. Use "
            "dp test, or DeepPot of DeePMD-kit, for other models",
        )
    reasons = reasons_against(model, found)
    reasons["the mean of its atomic energies is zero (tot_ener_zero)"] = options["tot_ener_zero"]
    reasons["it does not tell its sel"] = found.sel is None
    for reason, holds in reasons.items():
        if holds:
            raise RefusedModelError(model.path, reason)


def _arguments(model: FrozenModel, found: Description, parts: Parts) -> dict[str, Any]:
    """Return what _kernels.Model is made of."""
    assert found.sel is not None, "it is required"
    precision = _precision(parts)

    def of_precision(array: np.ndarray) -> np.ndarray:
        return array.astype(precision, copy=False)

    table = None
    if parts.table is not None:
        table = (*parts.table[:2], of_precision(parts.table[2]))
    fitting = parts.fitting._replace(parameters=[*map(of_precision, parts.fitting.parameters)])
    parameters, bias = energy_terms(model, found, parts._replace(fitting=fitting))
    return {
        "precision": precision,
        "n": float(found.n if found.n is not None else sum(found.sel)),
        "M2": parts.M2,
        "net": parts.net,
        "neuron": parts.embedding.neuron,
        "resnet_dt": parts.embedding.resnet_dt,
        "activation": parts.embedding.activation,
        "parameters": [*map(of_precision, parts.embedding.parameters)],
        "table": table,
        "min_distance": found.min_distance,
        "fitting_neuron": fitting.neuron,
        "fitting_resnet_dt": fitting.resnet_dt,
        "fitting_activation": fitting.activation,
        "fitting_parameters": parameters,
        "bias": bias,
    }


def _precision(parts: Parts) -> str:
    """Return that of all nets; the wider one if embedding and fitting nets have not the same."""
    tables = [] if parts.table is None else [parts.table[2]]
    arrays = [*parts.embedding.parameters, *parts.fitting.parameters, *tables]
    found = {array.dtype.name for array in arrays}
    if not found <= {"float64", "float32"}:
        raise ValueError(f"its nets have numbers of the types {', '.join(sorted(found))}")
    return "float64" if "float64" in found else "float32"
