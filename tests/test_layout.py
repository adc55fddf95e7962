# SPDX-License-Identifier: LGPL-3.0-or-later
"""Sources keep to the table in docs/developing.md, which says who may include or import whom."""

import ast
import re
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "deepmd_mask"
SOURCES = [
    path.relative_to(ROOT)
    for folder in ("op", "cuda")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".h", ".cc", ".cu"}
]
MODULES = [path.relative_to(ROOT) for path in sorted((ROOT / PACKAGE).rglob("*.py"))]
# What comes from elsewhere has its places, too.
FOR_TRAINING = {f"{PACKAGE}/{name}" for name in ("graph", "hooks", "conversion", "plugin.py")}
PACKAGES = {"tensorflow": "op/tensorflow", "absl": "op/tensorflow", "xla": "op/tensorflow"}
PACKAGES |= {"pybind11": "op/python", "Eigen": "op/kernels/per_isa"}


def allowed():
    """Return, for each folder in the table, those whose files it may include or import."""
    page = (ROOT / "docs" / "developing.md").read_text(encoding="utf-8")
    folders = f"op|cuda|{PACKAGE}"
    rows = re.findall(rf"^\| `((?:{folders})[\w/]*)/` \|.*\| ([^|]*) \|$", page, re.MULTILINE)
    return {folder: set(re.findall(r"`([\w/]+)/`", others)) for folder, others in rows}


def includes(source):
    """Return what a source includes, in order."""
    text = (ROOT / source).read_text(encoding="utf-8")
    return re.findall(r'^#include ["<]([^">]+)[">]', text, re.MULTILINE)


def file_of(module):
    """Return the file of a dotted name; None if it is no module."""
    path = Path(*module.split("."))
    files = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in files if (ROOT / file).is_file()), None)


def names_imported(path):
    """Yield the dotted names that a module imports, also within functions; not for types alone."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    for_types = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in set(ast.walk(tree)) - for_types:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = path.parts[: len(path.parts) - node.level] if node.level else ()
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def imports(path):
    """Return the files of this package that a module imports, in order."""
    ours = [name for name in names_imported(path) if name.split(".")[0] == PACKAGE]
    ours = [name for name in ours if name.split(".")[1:2] != ["_kernels"]]
    return sorted({file_of(name) or file_of(name.rpartition(".")[0]) for name in ours})


def test_the_table_has_all_folders_and_no_circle():
    table = allowed()
    assert set(table) == {source.parent.as_posix() for source in SOURCES + MODULES}
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


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_are_allowed(module):
    folder = module.parent
    may = allowed()[folder.as_posix()] | {folder.as_posix()}
    for other in imports(module):
        below = module.name == "__init__.py" and folder in other.parents
        assert below or other.parent.as_posix() in may, other


def test_tensorflow_and_deepmd_kit_are_for_training_alone():
    of_both = {
        module.as_posix()
        for module in MODULES
        if {name.split(".")[0] for name in names_imported(module)} & {"tensorflow", "deepmd"}
    }
    assert of_both, "nothing was found"
    elsewhere = {name for name in of_both if not any(name.startswith(p) for p in FOR_TRAINING)}
    assert elsewhere == {f"{PACKAGE}/data/checking/input_file.py"}  # which does without, too


def test_imports_are_found(tmp_path, monkeypatch):
    """Whatever their form, and wherever they are."""
    forms = {
        "from ..shared.reason import reason_of": "shared/reason.py",
        "from ..shared import reason": "shared/reason.py",
        "def f():\n    from .. import shared": "shared/__init__.py",
        "from deepmd_mask.shared.reason import reason_of": "shared/reason.py",
        "import deepmd_mask.shared.reason as r": "shared/reason.py",
        "from .. import __version__": "__init__.py",
    }
    for file in MODULES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    module = Path(PACKAGE, "graph", "ops.py")
    for text, found in forms.items():
        (tmp_path / module).write_text(text)
        assert imports(module) == [Path(PACKAGE, found)], text
    (tmp_path / module).write_text("from .._kernels import OPS_VERSION\nfrom .. import _kernels")
    assert imports(module) == []


def test_only_the_rooms_of_graphs_load_tensorflow_with_them():
    """Elsewhere it is imported where it is needed, since it takes its time."""
    rooms = {f"{PACKAGE}/{name}" for name in ("graph", "hooks", "conversion")}
    for module in MODULES:
        tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
        found = {n.module for n in tree.body if isinstance(n, ast.ImportFrom) and not n.level}
        found |= {a.name for n in tree.body if isinstance(n, ast.Import) for a in n.names}
        heavy = [n for n in found if re.match(r"tensorflow|deepmd\.(tf|infer)\b", n)]
        assert not heavy or module.parent.as_posix() in rooms or module.name == "plugin.py", module


def test_a_name_means_one_thing():
    """Classes and constants that others may import, and modules that a package shows."""
    seen = {}
    for module in MODULES:
        for node in ast.parse((ROOT / module).read_text(encoding="utf-8")).body:
            targets = [node] if isinstance(node, ast.ClassDef) else getattr(node, "targets", [])
            names = [getattr(target, "name", getattr(target, "id", "_")) for target in targets]
            for name in names:
                if name[0].isupper():
                    assert seen.setdefault(name, module) == module, name
    for package in {module.parent for module in MODULES}:
        inside = {m.stem for m in MODULES if m.parent == package} - {"__init__"}
        tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
        shown = {a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
        assert not shown & inside, package


def test_a_type_of_cpp_means_one_thing():
    """But for two that the CPU and the GPU have, each its own."""
    texts = [(ROOT / source).read_text(encoding="utf-8") for source in SOURCES]
    definition = re.compile(r"^(?:struct|class|enum class) (\w+)(?: :[^{;]*)? \{", re.MULTILINE)
    found = Counter(name for text in texts for name in definition.findall(text))
    assert len(found) > 100
    assert {name for name, count in found.items() if count > 1} == {"NetOnTile", "Tile"}


def test_no_circle_of_files():
    ours = {source.as_posix(): includes(source) for source in SOURCES}
    graph = {name: [other for other in names if other in ours] for name, names in ours.items()}
    graph |= {module: imports(module) for module in MODULES}
    list(TopologicalSorter(graph).static_order())


def is_of_kernels(source):
    return source.suffix != ".h" and source.parts[1] not in {"tensorflow", "python"}


@pytest.mark.parametrize("source", [source for source in SOURCES if is_of_kernels(source)], ids=str)
def test_a_header_is_implemented_by_the_file_of_its_name(source):
    assert Path(includes(source)[0]).stem == source.stem
