# SPDX-License-Identifier: LGPL-3.0-or-later
"""From elements and names, as files and programs spell them, to a model's types.

Which of an atom's names counts is up to a rule of the user's, `types`: "element"; "name"; a dict
from names of atoms to types, where others go by their element; or a function. None instead of a
type stands for a virtual site.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

ATOM_NAMES = "atomtypes"  # where ASE keeps the names of atoms that it reads from PDB and GRO files

Types = str | Mapping[str, str | None] | Callable[[Any], Any]


def forms_of_types(function: str) -> str:
    """Return for messages what `types` may be; functions are described by the caller."""
    return (
        f'give "element", "name", a dict from names of atoms to types, or a function {function}; '
        "None is for virtual sites"
    )


def require_types(types: Types, forms: str) -> None:
    """Raise a ValueError, which has the forms, if `types` is none of them."""
    good = types in ("element", "name") if isinstance(types, str) else callable(types)
    if isinstance(types, Mapping):
        good = all(isinstance(name, str) for name in types)
        good = good and all(map(is_type, types.values()))
    if not good:
        raise ValueError(f"types is {types!r}; {forms}")


def is_type(value: Any) -> bool:
    """Tell whether a value is the name of a type, or None."""
    return value is None or (isinstance(value, str) and value != "")


def name_by_rule(types: Types, name: str, element: str | None) -> str | None:
    """Return what the type map calls an atom, by `types` that are no function.

    Parameters
    ----------
    types
        The rule.
    name, element
        Of the atom.
    """
    if isinstance(types, Mapping):
        return types.get(name, element)
    return name if types == "name" else element


def types_of_names(names: Sequence[str], type_map: Sequence[str]) -> np.ndarray:
    """Return the types of names: those of the same letters, or else of the same in any case.

    Parameters
    ----------
    names
        Of elements or atoms; Zn is ZN where the type map has no Zn.
    type_map
        Names of the types.

    Returns
    -------
    np.ndarray
        [n] int, -1 for a name that the type map lacks.

    Raises
    ------
    ValueError
        If two types are meant equally well.
    """
    found = {name: _type_of(name, type_map) for name in dict.fromkeys(names)}
    return np.array([found[name] for name in names], int)


def _type_of(name: str, type_map: Sequence[str]) -> int:
    same = [t for t, other in enumerate(type_map) if other == name]
    same = same or [t for t, other in enumerate(type_map) if other.upper() == name.upper()]
    if len(same) > 1:
        one, other = (f"{type_map[t]} (type {t})" for t in same[:2])
        raise ValueError(
            f"{name} may be {one} or {other} of the model; give types by name, spelled as the "
            "model has them"
        )
    return same[0] if same else -1
