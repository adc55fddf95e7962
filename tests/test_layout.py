# SPDX-License-Identifier: LGPL-3.0-or-later
"""The C++ sources keep to the table in docs/developing.md, which says who may include whom."""

import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [
    path.relative_to(ROOT)
    for folder in ("op", "cuda")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".h", ".cc", ".cu"}
]
# What comes from elsewhere has one place, too.
PACKAGES = {"tensorflow": "op/tensorflow", "absl": "op/tensorflow", "xla": "op/tensorflow"}
PACKAGES |= {"pybind11": "op/python", "Eigen": "op/kernels/per_isa"}


def allowed():
    """Return, for each folder in the table, those whose files it may include."""
    page = (ROOT / "docs" / "developing.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `((?:op|cuda)[\w/]*)/` \|.*\| ([^|]*) \|$", page, re.MULTILINE)
    return {folder: set(re.findall(r"`([\w/]+)/`", includes)) for folder, includes in rows}


def includes(source):
    """Return what a source includes, in order."""
    text = (ROOT / source).read_text(encoding="utf-8")
    return re.findall(r'^#include ["<]([^">]+)[">]', text, re.MULTILINE)


def test_the_table_has_all_folders_and_no_circle():
    table = allowed()
    assert set(table) == {source.parent.as_posix() for source in SOURCES}
    assert {name for names in table.values() for name in names} <= set(table)
    list(TopologicalSorter(table).static_order())  # raises CycleError


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_includes_are_allowed(source):
    folder = source.parent.as_posix()
    for name in includes(source):
        package = name.split("/")[0]
        if package in {"op", "cuda"}:
            assert (ROOT / name).is_file(), name
            assert Path(name).parent.as_posix() in allowed()[folder] | {folder}, name
        elif package in PACKAGES:
            assert folder == PACKAGES[package], name


def test_no_circle_of_files():
    ours = {source.as_posix(): includes(source) for source in SOURCES}
    graph = {name: [other for other in names if other in ours] for name, names in ours.items()}
    list(TopologicalSorter(graph).static_order())


def is_of_kernels(source):
    return source.suffix != ".h" and source.parts[1] not in {"tensorflow", "python"}


@pytest.mark.parametrize("source", filter(is_of_kernels, SOURCES), ids=str)
def test_a_header_is_implemented_by_the_file_of_its_name(source):
    assert Path(includes(source)[0]).stem == source.stem
