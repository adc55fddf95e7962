# SPDX-License-Identifier: LGPL-3.0-or-later
"""The public names: docs/python.md, __all__ and what can be imported agree."""

import importlib
import re
from importlib.resources import files
from pathlib import Path

import helpers
import pytest

ROOMS = ("data", "evaluation", "frozen", "conversion", "openmm", "ase")
PAGE = Path(__file__).parents[1] / "docs" / "python.md"


def on_the_page():
    return re.findall(r"^\| `([\w.]+)` \| \S", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_page_has_all_names():
    wanted = []
    for module in ("deepmd_mask", *(f"deepmd_mask.{room}" for room in ROOMS)):
        wanted += [f"{module}.{name}" for name in importlib.import_module(module).__all__]
    assert sorted(on_the_page()) == sorted(wanted)


@pytest.mark.parametrize("name", on_the_page())
def test_what_is_on_the_page_is_there(name):
    module, _, last = name.rpartition(".")
    found = getattr(importlib.import_module(module), last)
    assert last in dir(importlib.import_module(module))
    assert isinstance(found, str) or found.__doc__


def test_names_that_are_none():
    import deepmd_mask.conversion

    with pytest.raises(AttributeError, match="no attribute 'Convert'"):
        _ = deepmd_mask.conversion.Convert
    with pytest.raises(AttributeError, match="no attribute 'potentials'"):
        _ = deepmd_mask.potentials
    with pytest.raises(ImportError):
        from deepmd_mask.frozen import nothing  # noqa: F401


def test_tensorflow_waits_until_it_is_needed(tmp_path):
    rooms = "".join(f"import deepmd_mask.{room}\n" for room in ROOMS)
    code = f"{rooms}import sys\nprint('tensorflow' in sys.modules)"
    assert helpers.run_python(["-c", code], tmp_path) == "False\n"


def test_types_are_told_to_type_checkers():
    assert (files("deepmd_mask") / "py.typed").is_file()
