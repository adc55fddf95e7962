# SPDX-License-Identifier: LGPL-3.0-or-later
"""What DeePMD-kit loads through the entry-point group "deepmd".

DP_MASK=builtin in the environment leaves se_a_mask to DeePMD-kit. The operators are there all the
same, so that models frozen with them run.
"""

import os
from copy import deepcopy
from typing import Any

import deepmd.tf.entrypoints.train as train_entry
from deepmd.tf.common import get_precision
from deepmd.tf.descriptor.descriptor import Descriptor
from deepmd.tf.fit.fitting import Fitting
from deepmd.tf.model.model import Model
from deepmd.utils.argcheck import normalize

from . import dp_evaluation
from .data.training import check_training_data
from .descriptor import PRECISIONS, DescrptMask
from .fitting import MaskEnerFitting
from .model import MaskStandardModel


def register() -> None:
    """Put this package in the place of the built-in se_a_mask."""
    Descriptor.register("se_a_mask")(DescrptMask)
    Fitting.register("ener")(MaskEnerFitting)
    Model.register("standard")(MaskStandardModel)
    dp_evaluation.register()
    # DeePMD-kit shows a plugin its data one system at a time, and the validation data not at all.
    # Bringing the input up to date is what dp train does before it writes its first file.
    update_deepmd_input = train_entry.update_deepmd_input

    def check_and_update(jdata: dict, *args: Any, **kwargs: Any) -> dict:
        check(normalize(update_deepmd_input(deepcopy(jdata), warning=False)))
        return update_deepmd_input(jdata, *args, **kwargs)

    train_entry.update_deepmd_input = check_and_update


def check(jdata: dict) -> None:
    """Check options and data of a training, if it has se_a_mask and is not a compression.

    Parameters
    ----------
    jdata
        The normalised input of ``dp train``.

    Raises
    ------
    ValueError
        If training could not go on.
    """
    if check_options(jdata):
        check_training_data(jdata)


def check_options(jdata: dict) -> bool:
    """Check the options of a training.

    Parameters
    ----------
    jdata
        The normalised input of ``dp train``.

    Returns
    -------
    bool
        Whether it has se_a_mask and is not a compression, so that its data matter, too.

    Raises
    ------
    ValueError
        If training could not go on.
    """
    model = jdata["model"]
    options = dict(model.get("descriptor") or {})
    if any(part.get("type") == "se_a_mask" for part in options.get("list", ())):
        raise ValueError("se_a_mask cannot be part of a hybrid descriptor")
    if options.pop("type", None) != "se_a_mask" or model.get("compress"):
        return False
    ntypes = len(model.get("type_map") or ())
    if isinstance(options["sel"], str):
        options["sel"] = [1] * max(ntypes, 1)  # the data will tell; the other options count here
    DescrptMask(**options, ntypes=ntypes)
    if get_precision(model["fitting_net"].get("precision", "default")) not in PRECISIONS:
        raise ValueError("se_a_mask: the precision of fitting_net must be float64 or float32")
    if jdata["training"].get("mixed_precision"):
        raise ValueError('se_a_mask: use "precision": "float32" instead of mixed_precision')
    for option in ("use_srtab", "type_embedding"):
        if model.get(option):
            raise ValueError(f"se_a_mask does not go with {option}; take it out of the model")
    return True


mode = os.environ.get("DP_MASK", "")
if mode not in ("", "builtin"):
    raise ValueError(f'DP_MASK is "{mode}"; the only value that it can have is "builtin"')
if mode == "":
    register()
