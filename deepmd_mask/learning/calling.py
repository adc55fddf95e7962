# SPDX-License-Identifier: LGPL-3.0-or-later
"""Functions of the user's, by name."""

import importlib
from collections.abc import Callable
from typing import Any


def function_of(name: str) -> Callable[..., Any]:
    """Return what `module:function` names.

    Raises
    ------
    ValueError
        If there is no such module or function.
    """
    module, _, function = name.partition(":")
    if not function:
        raise ValueError(f"{name!r} is no function; write module:function")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise  # it is there, and lacks something itself
        raise ValueError(
            f"{name}: there is no module {module}; it must be installed, or be among `files`"
        ) from error
    if not callable(getattr(found, function, None)):
        raise ValueError(f"{name}: {found.__file__} has no function {function}")
    return getattr(found, function)
