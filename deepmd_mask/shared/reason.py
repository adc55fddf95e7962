# SPDX-License-Identifier: LGPL-3.0-or-later
"""What messages say of an error that another library raised."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from typing import TypeVar

Item = TypeVar("Item")
NOTHING_LEFT = "; nothing was left of the output"


def reason_of(error: Exception) -> str:
    """Return an error's first line, or its kind; of the system's errors what they mean."""
    if "pickle" in str(error) or "Python objects" in str(error):  # NumPy advises to trust them
        return "it holds pickled objects or text, not numbers"
    if "mmap length" in str(error):
        return "the file ends before its last frame"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = text.strip().removeprefix("Graph execution error:")  # how TensorFlow begins
    return text.strip().split("\n")[0] or type(error).__name__


@contextmanager
def named(path: str | PathLike[str], unreadable: str, wrong: str) -> Iterator[None]:
    """Let what a file makes fail be a ValueError that names the file.

    Parameters
    ----------
    path
        What a ValueError that names it passes with as it is.
    unreadable, wrong
        How messages begin: of what is not as any such file is, and of what a ValueError says.
    """
    try:
        yield
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"{unreadable} ({reason_of(error)})") from error
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{wrong}: {error}") from error


def until_error(items: Iterable[Item]) -> Iterator[Item | Exception]:
    """Yield items of another library's reader, and last what it raised, if it did: anything."""
    try:
        yield from items
    except Exception as error:
        yield error
