# SPDX-License-Identifier: LGPL-3.0-or-later
"""Opens frozen models to evaluate them."""

from os import PathLike
from pathlib import Path
from typing import NamedTuple

from deepmd.infer import DeepPot

from ..shared.process import claim_process
from ..shared.reason import reason_of
from .description import describe
from .model_file import FrozenModel

# The nodes that DeePMD-kit feeds and asks for.
NODES_FED = ("t_coord", "t_type", "t_natoms", "t_box", "t_mesh", "t_aparam")
NODES_READ = ("o_energy", "o_force", "o_virial", "o_atom_energy", "o_atom_virial")


class OpenedModel(NamedTuple):
    """A frozen model of se_a_mask.

    Attributes
    ----------
    frozen
        What its file has.
    operators
        Whose operators it runs on, as FrozenModel.require_operators names them.
    potential
        What evaluates it.
    """

    frozen: FrozenModel
    operators: str
    potential: DeepPot


def open_model(path: str | PathLike) -> OpenedModel:
    """Open a frozen model of se_a_mask, of this package or of the built-in.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a frozen model, is damaged, has another descriptor, cannot be loaded, or takes
        other parameters than a mask.
    RuntimeError
        If this process was forked from one that had opened a model.
    """
    claim_process()
    frozen = FrozenModel(Path(path))
    operators = describe(frozen).operators
    lacking = [name for name in NODES_FED + NODES_READ if name not in frozen.nodes]
    if lacking:
        raise ValueError(f"model {path}: it is not a whole one, it lacks {', '.join(lacking)}")
    try:
        potential = DeepPot(str(path))
    except Exception as error:  # DeePMD-kit's readers raise whatever they meet
        reason = reason_of(error)
        raise ValueError(f"model {path}: DeePMD-kit cannot load it ({reason})") from error
    if (potential.get_dim_aparam(), potential.get_dim_fparam()) != (1, 0):
        raise ValueError(
            f"model {path}: it has {potential.get_dim_aparam()} atomic and "
            f"{potential.get_dim_fparam()} frame parameters; a model with se_a_mask has the mask "
            "as its only one, numb_aparam 1. Use dp test for other models"
        )
    return OpenedModel(frozen, operators, potential)
