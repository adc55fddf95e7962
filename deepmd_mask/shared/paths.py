# SPDX-License-Identifier: LGPL-3.0-or-later
"""Paths as users give them: one or several, and none of them for two things."""

import os
from collections.abc import Iterable, Mapping

AnyPath = str | os.PathLike[str]
Paths = AnyPath | Iterable[AnyPath]


def listed(paths: Paths) -> list[str]:
    """Return the paths, one or several, as texts."""
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    return [os.fspath(path) for path in several]


def require_unlike_files(
    inputs: Mapping[str, Paths], outputs: Mapping[str, AnyPath | None]
) -> None:
    """Refuse an output that is another output, or an input.

    Parameters
    ----------
    inputs
        Paths by the parameters that have them; also FILE@INDEX and FILE#/GROUP.
    outputs
        Paths by the parameters that have them; None for one that is not wanted.

    Raises
    ------
    ValueError
        Naming both parameters and the path.
    """
    named: dict[str, str] = {}
    for name, paths in inputs.items():
        for path in listed(paths):
            for file in filter(None, (path, path.partition("#")[0], path.rpartition("@")[0])):
                named.setdefault(os.path.realpath(file), name)
    for name, output in outputs.items():
        if output is not None:
            first = named.setdefault(os.path.realpath(output), name)
            if first != name:
                raise ValueError(
                    f"`{first}` and `{name}` are both {output}; give each a file of its own"
                )
