# SPDX-License-Identifier: LGPL-3.0-or-later
"""From elements and names, as files and programs spell them, to a model's types."""

from collections.abc import Sequence

import numpy as np


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
