# SPDX-License-Identifier: LGPL-3.0-or-later
"""How sources are named on a command line: PATH, FILE@INDEX, FORMAT:PATH, dpdata:FORMAT:PATH?…."""

import os
from dataclasses import dataclass, field
from glob import escape, glob
from typing import Any


@dataclass(frozen=True)
class Named:
    """What the name of a source says.

    Attributes
    ----------
    library
        "ase", "dpdata" or "cclib"; None if it is for the path to tell.
    file_format
        A name of that library's; empty if there is none.
    path
        The rest.
    options
        Of the format's reader.
    """

    library: str | None
    file_format: str
    path: str
    options: dict[str, Any] = field(default_factory=dict)


def parse_source(text: str) -> Named:
    """Take the name of a source apart; a path that exists is a path.

    Raises
    ------
    ValueError
        If it is neither a path nor a known format with one.
    """
    if is_path(text):
        return Named(None, "", text)
    head, colon, rest = text.partition(":")
    if not colon or not head:
        raise ValueError(f"source {text}: not found; check the path")
    if head == "cclib":
        return _with_options(text, "cclib", "", rest)
    if head in ("ase", "dpdata"):
        library, (file_format, colon, rest) = head, rest.partition(":")
    else:
        library, file_format = ("dpdata" if "/" in head else "ase"), head
    known = formats_of(library)
    if file_format not in known:
        hint = "" if head == library else f" (write {library}:FORMAT:PATH for any of them)"
        raise ValueError(
            f"source {text}: not found; if {file_format} is meant as a format, it is none of "
            f"{_NAMES[library]}{hint}: {', '.join(known)}"
        )
    return _with_options(text, library, file_format, rest)


_NAMES = {"ase": "ASE's", "dpdata": "dpdata's"}


def formats_of(library: str) -> list[str]:
    """Return the names of the formats that a library reads, sorted."""
    if library == "ase":
        from ase.io.formats import ioformats  # noqa: PLC0415  ASE takes its time

        return sorted(name for name, each in ioformats.items() if each.can_read)
    from dpdata.format import Format  # noqa: PLC0415

    methods = ("from_labeled_system", "from_multi_systems")
    return sorted(
        name
        for name, each in Format.get_formats().items()
        if any(getattr(each, method) is not getattr(Format, method) for method in methods)
    )


def _with_options(text: str, library: str, file_format: str, rest: str) -> Named:
    path, options = rest, {}
    if not is_path(rest) and "?" in rest:
        path, _, query = rest.rpartition("?")
        options = _options(text, query)
    # Some formats take several files, or the common begin of the names of several.
    paths = split_paths(path)
    missing = [each for each in paths if not (is_path(each) or glob(f"{escape(each)}*"))]
    if (missing or not path) and not (options and not path):
        file = missing[0] if missing else ""
        raise ValueError(f'source {text}: there is no file "{file}"; check the path')
    return Named(library, file_format, path, options)


def split_paths(path: str) -> list[str]:
    """Return the files of "A,B"; a path that exists is one file."""
    return [path] if is_path(path) or "," not in path else path.split(",")


def _options(text: str, query: str) -> dict[str, Any]:
    options = {}
    for part in query.split("&"):
        name, equals, value = part.partition("=")
        if not name.isidentifier() or not equals:
            raise ValueError(
                f'source {text}: "{part}" is no option; write them as ?NAME=VALUE&NAME=VALUE'
            )
        values = [_value(each) for each in value.split(",")]
        options[name] = values[0] if len(values) == 1 else [v for v in values if v != ""]
    return options


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def is_path(path: str) -> bool:
    """Tell whether a path, or the file of FILE#/GROUP or FILE@INDEX, exists."""
    files = path.partition("#")[0], split_index(path)[0]
    return os.path.exists(path) or any(map(os.path.isfile, files))


def split_index(path: str) -> tuple[str, int | slice]:
    """Split FILE@INDEX, with ASE's indices as in "@-1" and "@::10"; a path that exists is a path.

    Raises
    ------
    ValueError
        If the file exists, and the index is none.
    """
    if "@" not in path or os.path.exists(path):
        return path, slice(None)
    from ase.io.formats import parse_filename  # noqa: PLC0415

    file, index = parse_filename(path)
    if not os.path.isfile(file):
        return path, slice(None)
    if not isinstance(index, (int, slice)):
        raise ValueError(f'source {path}: "{index}" is no index; write @-1 or @::10, for example')
    return file, index
