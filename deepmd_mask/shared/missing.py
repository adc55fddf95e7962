# SPDX-License-Identifier: LGPL-3.0-or-later
"""What to say where DeePMD-kit or TensorFlow is not installed, which few parts need."""

from collections.abc import Iterator
from contextlib import contextmanager

INSTALL = 'pip install "deepmd-mask[cpu]"'


class MissingError(ImportError):
    """DeePMD-kit or TensorFlow is not installed."""


def is_for_training(error: ModuleNotFoundError) -> bool:
    """Return whether what was not found is DeePMD-kit or TensorFlow."""
    return (error.name or "").partition(".")[0] in ("deepmd", "tensorflow")


@contextmanager
def needing_deepmd(what: str) -> Iterator[None]:
    """Import what needs DeePMD-kit and TensorFlow.

    Parameters
    ----------
    what
        What needs them, for the message.

    Raises
    ------
    MissingError
        If one of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if is_for_training(error):
            message = f"{what} needs DeePMD-kit and TensorFlow, which are not installed: {INSTALL}"
            raise MissingError(message, name=error.name) from error
        raise
