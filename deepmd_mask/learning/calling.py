# SPDX-License-Identifier: LGPL-3.0-or-later
"""Functions of the user's, by name."""

import importlib
from collections.abc import Callable
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def require_module(name: str, folder: Path) -> None:
    """Refuse `module:function` without its module, which is not imported.

    Parameters
    ----------
    name
        Of the function.
    folder
        Where the user's own modules are.

    Raises
    ------
    ValueError
        If there is no such module, there or installed.
    """
    module = name.partition(":")[0]
    top = module.split(".")[0]
    # Not by PathFinder alone: what is installed to be edited may have a finder of its own.
    if PathFinder.find_spec(top, [str(folder)]) is None and find_spec(top) is None:
        raise ValueError(_no_module(name, module))


def _no_module(name: str, module: str) -> str:
    return f"{name}: there is no module {module}; it must be installed, or be among `files`"


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
        raise ValueError(_no_module(name, module)) from error
    if not callable(getattr(found, function, None)):
        raise ValueError(f"{name}: {found.__file__} has no function {function}")
    return getattr(found, function)
