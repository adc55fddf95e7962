# SPDX-License-Identifier: LGPL-3.0-or-later
"""What the figures of an evaluation have in common."""

from typing import Any

import numpy as np

BINS = 80  # at most
MANY = 1000  # so many numbers and more have tails that a logarithmic scale shows


def draw_histogram(axes: Any, values: np.ndarray, **style: Any) -> None:
    """Draw a histogram on axes of Matplotlib, with as many bins as the rule of Rice says."""
    bins = min(BINS, max(10, round(2 * len(values) ** (1 / 3))))
    axes.hist(values, bins=bins, log=len(values) >= MANY, **style)
