# SPDX-License-Identifier: LGPL-3.0-or-later
"""deepmd-mask: the se_a_mask descriptor of DeePMD-kit on operators that follow the real atoms."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .potential import ForceDeviation, Potential, Prediction

__all__ = ["ForceDeviation", "Potential", "Prediction", "__version__"]

__version__ = version("deepmd-mask")


def __getattr__(name: str) -> Any:
    """Import the potential when it is asked for."""
    if name.startswith("_") or name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import potential  # noqa: PLC0415

    return getattr(potential, name)


def __dir__() -> list[str]:
    """List the public names, too."""
    return sorted({*globals(), *__all__})
