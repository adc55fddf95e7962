# SPDX-License-Identifier: LGPL-3.0-or-later
"""The process that evaluates models with TensorFlow: no forked child of another one that does.

TensorFlow computes with threads, and a process that was made by fork has none of those that its
parent had: what they should do is waited for there without an end, with new models, too.
"""

import os

_first: int | None = None  # the process with the first model, as its forked children see it, too


def claim_process() -> None:
    """Remember this process as one that evaluates models.

    Raises
    ------
    RuntimeError
        If it was forked from another one that does.
    """
    global _first  # noqa: PLW0603
    if _first is None:
        _first = os.getpid()
    elif _first != os.getpid():
        raise RuntimeError(
            f"this process, {os.getpid()}, was forked from process {_first}, which had loaded a "
            "model, and TensorFlow would wait without an end for threads that only that one has. "
            'Start processes with multiprocessing.get_context("spawn"), load the first model after '
            "the fork, or evaluate with deepmd_mask.Potential, which needs no TensorFlow"
        )
