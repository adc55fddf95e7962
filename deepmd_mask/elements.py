# SPDX-License-Identifier: LGPL-3.0-or-later
"""From elements, as files and programs spell them, to a model's types."""

from collections.abc import Sequence


def types_of_elements(type_map: Sequence[str]) -> dict[str, int]:
    """Return the type of each element, spelled as Zn, of a type map that may say ZN.

    Parameters
    ----------
    type_map
        Names of the types.

    Raises
    ------
    ValueError
        If two names differ in capital letters only.
    """
    found: dict[str, int] = {}
    for number, name in enumerate(type_map):
        first = found.setdefault(name.capitalize(), number)
        if first != number:
            raise ValueError(f"the model's types {type_map[first]} and {name} differ in case only")
    return found
