# SPDX-License-Identifier: LGPL-3.0-or-later
"""What DeePMD-kit loads through the entry-point group "deepmd".

DP_MASK=builtin in the environment leaves se_a_mask to DeePMD-kit. The operators are there all the
same, so that models frozen with them run.
"""

import os
import sys
from copy import deepcopy
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import deepmd.tf.entrypoints.train as train_entry
from deepmd.tf import entrypoints
from deepmd.tf.descriptor.descriptor import Descriptor
from deepmd.tf.env import tf
from deepmd.tf.fit.fitting import Fitting
from deepmd.utils.argcheck import descrpt_args_plugin, normalize

from .data.training import check_training_data
from .graph import even_steps
from .graph.descriptor import DescrptMask
from .graph.fitting import MASK_FITTING, MaskEnerFitting
from .graph.model import hook_models
from .hooks import deep_eval, deviation
from .hooks.memory import keep_freed_memory
from .hooks.start import (
    Start,
    input_of_checkpoint,
    require_same_model,
    start_of,
    warn_of_constants,
)
from .shared import input_arguments
from .shared.options import check_options, has_mask


def register() -> None:
    """Put this package in the place of the built-in se_a_mask, and of nothing else."""
    Descriptor.register("se_a_mask")(DescrptMask)
    input_arguments.add_to(descrpt_args_plugin)
    Fitting.register(MASK_FITTING)(MaskEnerFitting)
    hook_models()
    hook_training()
    hook_change_bias()
    even_steps.register()
    deep_eval.register()
    deviation.register()
    module_on_testing().register()


def module_on_testing() -> ModuleType:
    """Return the module for the DeePMD-kit that is installed: 3.2 tests in another way than 3.1."""
    name = "testing" if find_spec("deepmd.infer.model_test") else "testing_3_1"
    return import_module(f".hooks.{name}", __package__)


def hook_training() -> None:
    """Check inputs with se_a_mask before ``dp train`` writes its first file, and see to memory.

    DeePMD-kit shows a plugin its data one system at a time, the validation data not at all, and
    not which model training starts from. Bringing the input up to date is the last it does before.
    """
    update_deepmd_input = train_entry.update_deepmd_input

    class RunOptions(train_entry.RunOptions):
        """Those of the last training."""

        last: "RunOptions | None" = None

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            RunOptions.last = self

    def check_and_update(jdata: dict, *args: Any, **kwargs: Any) -> dict:
        if has_mask(jdata):
            start = start_of(RunOptions.last)
            check(normalize(update_deepmd_input(deepcopy(jdata), warning=False)), start)
            keep_freed_memory()
        return update_deepmd_input(jdata, *args, **kwargs)

    train_entry.RunOptions = RunOptions
    train_entry.update_deepmd_input = check_and_update


def hook_change_bias() -> None:
    """Refuse what ``dp change-bias`` would do with data: it counts virtual atoms."""
    # In the package, the function has the name of its module.
    module: Any = sys.modules["deepmd.tf.entrypoints.change_bias"]
    change_bias = module.change_bias

    def change(INPUT: str, *args: Any, bias_value: list | None = None, **kwargs: Any) -> None:
        newest = None
        if not INPUT.endswith((".pb", ".pbtxt")):  # frozen models are no checkpoints
            # DeePMD-kit takes the newest checkpoint of the folder, whichever is named.
            folder = INPUT if os.path.isdir(INPUT) else os.path.dirname(INPUT) or "."
            newest = tf.train.latest_checkpoint(folder)
        if bias_value is None and newest and has_mask(input_of_checkpoint(Path(newest))):
            msg = (
                "se_a_mask: dp change-bias would count virtual atoms; give the energies with "
                "--bias-value, or go on from the model with dp train --init-model"
            )
            raise NotImplementedError(msg)
        change_bias(INPUT, *args, bias_value=bias_value, **kwargs)

    module.change_bias = entrypoints.change_bias = change


def check(jdata: dict, start: Start | None = None) -> None:
    """Check options, data and start of a training, if it has se_a_mask and is not a compression.

    Parameters
    ----------
    jdata
        The normalised input of ``dp train``.
    start
        The model that training starts from.

    Raises
    ------
    ValueError
        If training could not go on.
    """
    if check_options(jdata):
        sel = check_training_data(jdata)
        if start is not None:
            require_same_model(start, jdata["model"], sel)
            warn_of_constants(start, jdata.get("loss", {}))


mode = os.environ.get("DP_MASK", "")
if mode not in ("", "builtin"):
    raise ValueError(f'DP_MASK is "{mode}"; the only value that it can have is "builtin"')
if mode == "":
    register()
