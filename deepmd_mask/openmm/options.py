# SPDX-License-Identifier: LGPL-3.0-or-later
"""The options of `dp_force`, which describes them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from inspect import Parameter, Signature, signature
from typing import Any, TypeVar

import openmm
from openmm import unit

from ..shared.elements import Types

Function = TypeVar("Function", bound=Callable)


@dataclass(frozen=True)
class Options:
    """How a model acts on the regions of a system; the attributes are arguments of `dp_force`."""

    candidates: Sequence[int] | None = None
    periodic: bool | None = None
    types: Types = "element"
    system: openmm.System | None = None
    scale: str = "dp_scale"
    length_unit: Any = unit.angstrom
    energy_unit: Any = unit.ev
    device: str = "auto"
    precision: str | None = None

    @classmethod
    def of(cls, given: dict[str, Any]) -> "Options":
        """Take what a user gives by name.

        Raises
        ------
        TypeError
            If there is no option of a name; it says which there are.
        """
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                msg = f"dp_force has no option {name!r}, only {', '.join(known)}"
                raise TypeError(msg)
        return cls(**given)


def showing_options(function: Function) -> Function:
    """Let `help` and editors see the options that a function takes as ``**options``."""
    whole = signature(function)
    kept = [p for p in whole.parameters.values() if p.kind != Parameter.VAR_KEYWORD]
    more = [p.replace(kind=Parameter.KEYWORD_ONLY) for p in signature(Options).parameters.values()]
    function.__signature__ = Signature(  # type: ignore[attr-defined]
        [*kept, *more], return_annotation=whole.return_annotation
    )
    return function
