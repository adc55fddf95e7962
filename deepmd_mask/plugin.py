# SPDX-License-Identifier: LGPL-3.0-or-later
"""What DeePMD-kit loads through the entry-point group "deepmd".

DP_MASK=builtin in the environment leaves se_a_mask to DeePMD-kit. The operators are there all the
same, so that models frozen with them run.
"""

import os
from typing import Any

import deepmd.tf.entrypoints.train as train_entry
from deepmd.tf.descriptor.descriptor import Descriptor
from deepmd.tf.fit.fitting import Fitting
from deepmd.tf.model.model import Model

from . import ops  # noqa: F401  registers the operators and their gradients
from .descriptor import DescrptMask
from .fitting import MaskEnerFitting
from .model import MaskStandardModel
from .systems import check_training_data


def register() -> None:
    """Put this package in the place of the built-in se_a_mask."""
    Descriptor.register("se_a_mask")(DescrptMask)
    Fitting.register("ener")(MaskEnerFitting)
    Model.register("standard")(MaskStandardModel)
    # DeePMD-kit shows a plugin its data one system at a time, and the validation data not at all.
    # Normalising the input is the last that dp train does before it writes its first file.
    normalize = train_entry.normalize

    def normalize_and_check(data: dict, *args: Any, **kwargs: Any) -> dict:
        jdata = normalize(data, *args, **kwargs)
        model = jdata["model"]
        descriptor = model.get("descriptor") or {}
        if descriptor.get("type") == "se_a_mask" and not model.get("compress"):
            check_training_data(jdata)
        return jdata

    train_entry.normalize = normalize_and_check


mode = os.environ.get("DP_MASK", "")
if mode not in ("", "builtin"):
    raise ValueError(f'DP_MASK is "{mode}"; the only value that it can have is "builtin"')
if mode == "":
    register()
