# SPDX-License-Identifier: LGPL-3.0-or-later
"""The same model on other operators, compressed or in another precision.

This builds graphs and runs them, so it needs TensorFlow and DeePMD-kit, which take their time: they
are loaded with the first name that is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..shared.missing import needing_deepmd

if TYPE_CHECKING:
    from .compare import Difference
    from .conversion import convert

__all__ = ["Difference", "convert"]

_MODULES = {"Difference": "compare", "convert": "conversion"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for; a MissingError if DeePMD-kit is not installed."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needing_deepmd("converting a model"):
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    """List the public names, too."""
    return sorted({*globals(), *__all__})
