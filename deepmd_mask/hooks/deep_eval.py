# SPDX-License-Identifier: LGPL-3.0-or-later
"""DeepPot of masked models: it refuses a box, and says so if there is no mask.

For C and C++ the operators refuse boxes.
"""

import functools
import inspect
from typing import Any

import numpy as np
from deepmd.tf.env import tf
from deepmd.tf.infer.deep_eval import DeepEval

from .._kernels import reason_against_box
from .masked import forget, operators_in, operators_of
from .process import claim_process

NO_MASK = (
    "this model has se_a_mask, and its mask is missing: aparam must be 1 for each real atom and 0 "
    "for each virtual one, 1 throughout if there is no padding. It is a parameter of DeepPot.eval; "
    'DeePMD-kit\'s ASE calculator DP takes it from atoms.info["aparam"]. Molecules without a mask '
    "go to deepmd_mask.Potential, deepmd_mask.ase.MaskedDP or, in dpdata, "
    'the driver "deepmd-mask"'
)


def register() -> None:
    """Have DeePMD-kit look at what masked models are given."""
    DeepEval._load_graph = staticmethod(_claiming_process(DeepEval._load_graph))
    DeepEval.eval = _checking_input(DeepEval.eval)


def _claiming_process(load_graph: Any) -> Any:
    """Have a model claim the process when it is loaded.

    DeepEval loads the graph first, and then starts a session to read what the graph holds: after a
    fork that would hang already.
    """

    @functools.wraps(load_graph)
    def wrapper(*args: Any, **kwargs: Any) -> tf.Graph:
        graph = load_graph(*args, **kwargs)
        forget(graph)
        if operators_in(graph) is not None:
            claim_process()
        return graph

    return wrapper


def _checking_input(evaluate: Any) -> Any:
    signature = inspect.signature(evaluate)

    @functools.wraps(evaluate)
    def wrapper(self: DeepEval, *args: Any, **kwargs: Any) -> dict[str, np.ndarray]:
        if operators_of(self) is not None:
            claim_process()
            given = signature.bind(self, *args, **kwargs).arguments
            # The operators see neither boxes that come with neighbour lists nor those that models
            # of the built-in or of the first version are given.
            reason = "" if given.get("cells") is None else reason_against_box()
            if not reason and given.get("aparam") is None and self.has_aparam:
                reason = NO_MASK
            if reason:
                raise ValueError(reason)
        return evaluate(self, *args, **kwargs)

    return wrapper
