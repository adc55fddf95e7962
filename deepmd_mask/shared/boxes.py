# SPDX-License-Identifier: LGPL-3.0-or-later
"""Boxes where an argument ignores them, too: refused as everywhere else, with this remedy added."""

from .._kernels import reason_against_box


def require_no_box(argument: str) -> None:
    """Refuse a box, unless the environment allows it.

    Parameters
    ----------
    argument
        What the caller can pass to ignore the box, and has not passed.

    Raises
    ------
    ValueError
        If DP_MASK_IGNORE_BOX is not 1.
    """
    reason = reason_against_box()
    if reason:
        raise ValueError(f"{reason}; or pass {argument} to ignore the box")
