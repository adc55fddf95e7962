# SPDX-License-Identifier: LGPL-3.0-or-later
"""Commands whose errors are lines, in the words of their options."""

import importlib
import re
from typing import Any

import click

from .missing import MissingError


class Command(click.Command):
    """A command that reports what is wrong with the input as one line, not a traceback."""

    def invoke(self, context: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(context)
        except (ValueError, OSError, MissingError) as error:
            raise click.ClickException(in_words_of_options(self, str(error))) from error


def in_words_of_options(command: click.Command, message: str) -> str:
    """Name options where a message names parameters of the function, as in `set_size`."""
    message = re.sub(r"^\[Errno \d+\] ", "", message)
    for option in command.params:
        message = message.replace(f"`{option.name}`", max(option.opts, key=len))
    return message


class Commands(click.Group):
    """A group of such commands.

    Parameters
    ----------
    lazy
        Commands that are elsewhere, as module:command.
    """

    command_class = Command

    def __init__(self, *args: Any, lazy: dict[str, str] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._lazy = lazy or {}

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names of commands."""
        return sorted([*super().list_commands(context), *self._lazy])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Return a command; one that is lazy is imported when it is asked for."""
        if name not in self._lazy:
            return super().get_command(context, name)
        module, _, found = self._lazy[name].partition(":")
        return getattr(importlib.import_module(module), found)
