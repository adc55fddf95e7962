# SPDX-License-Identifier: LGPL-3.0-or-later
"""Numbers as users give them."""

from numbers import Real
from typing import Any


def is_number(value: Any) -> bool:
    """Tell whether a value is a real number, of Python or NumPy; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)
