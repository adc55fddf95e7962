# SPDX-License-Identifier: LGPL-3.0-or-later
"""dp test of masked models on their real atoms; testing_3_1.py is for DeePMD-kit before 3.2."""

import functools
from dataclasses import replace
from typing import Any

from deepmd.infer.model_test.base import ChunkContext
from deepmd.infer.model_test.ener import EnerTester
from deepmd.utils.data import DeepmdData
from deepmd.utils.weight_avg import merge_weighted_errors

from .masked import is_mask, of_real_atoms, runs, takes_real_atoms


def register() -> None:
    """Have dp test count real atoms only."""
    EnerTester.evaluate_chunk = _testing_real_atoms(EnerTester.evaluate_chunk)


def _testing_real_atoms(evaluate_chunk: Any) -> Any:
    @functools.wraps(evaluate_chunk)
    def wrapper(
        self: EnerTester, data: DeepmdData, test_data: dict, context: ChunkContext
    ) -> dict[str, tuple[float, float]]:
        masked = takes_real_atoms([self.dp], "dp test", "dp-mask test")
        if not masked or not is_mask(test_data["aparam"]):  # the operators say what is wrong
            return evaluate_chunk(self, data, test_data, context)
        errors, append = [], context.append_detail
        for frames, real in runs(test_data["aparam"], test_data["type"]):
            if not len(real):
                continue  # no atom to divide by
            place = replace(
                context, append_detail=append, frame_offset=context.frame_offset + frames.start
            )
            part = of_real_atoms(test_data, frames, real)
            found = evaluate_chunk(self, data, part, place)
            # A weight of 0 says nothing, and an average over nothing is none.
            errors.append({key: pair for key, pair in found.items() if pair[1] > 0})
            append = True
        return merge_weighted_errors(errors)

    return wrapper
