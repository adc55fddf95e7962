# SPDX-License-Identifier: LGPL-3.0-or-later
"""Paths as users give them: one or several, and none of them for two things."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

AnyPath = str | os.PathLike[str]
Paths = AnyPath | Iterable[AnyPath]


def listed(paths: Paths) -> list[str]:
    """Return the paths, one or several, as texts."""
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    return [os.fspath(path) for path in several]


def paths_of_models(given: Any, whose: str = "") -> list[str]:
    """Return the paths of a model, or of several, as texts.

    Parameters
    ----------
    given
        What a user gave as the model.
    whose
        Begins the message.

    Raises
    ------
    ValueError
        If something in it is no path.
    """
    is_several = np.iterable(given) and not isinstance(given, str | bytes | os.PathLike)
    several = list(given) if is_several else [given]
    if not all(isinstance(one, str | os.PathLike) for one in several):
        what = several if is_several else given
        msg = f"{whose}the model is {what!r}; give the path of a frozen model, or of several"
        raise ValueError(msg)
    return listed(several)


def require_suffix(what: str, path: AnyPath, suffixes: Sequence[str]) -> None:
    """Refuse an output whose suffix says that something else is in it than there will be.

    Parameters
    ----------
    what
        What it is, for the message.
    path
        Of the output; it may have no suffix, as a pipe.
    suffixes
        Those that it may have.

    Raises
    ------
    ValueError
        Naming the path and the suffixes.
    """
    if Path(path).suffix.lower() not in ("", *suffixes):
        raise ValueError(f"{what} {path}: the suffix must be {' or '.join(suffixes)}")


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
