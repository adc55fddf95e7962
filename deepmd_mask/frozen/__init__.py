# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frozen models: what they are, what they give, and the same ones on other operators.

TensorFlow, which takes its time, is loaded with the first name that is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compare import Difference
    from .conversion import convert
    from .evaluator import Evaluator, Prediction
    from .report import info, info_text

__all__ = ["Difference", "Evaluator", "Prediction", "convert", "info", "info_text"]

_MODULES = {
    "Difference": "compare",
    "Evaluator": "evaluator",
    "Prediction": "evaluator",
    "convert": "conversion",
    "info": "report",
    "info_text": "report",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    """List the public names, too."""
    return sorted({*globals(), *__all__})
