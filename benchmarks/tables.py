# SPDX-License-Identifier: LGPL-3.0-or-later
"""Put results/trained.json into the tables of README.md, there and in the folder above.

A table begins after a line <!-- table NAME --> and ends before <!-- end -->. Tables for several
settings have those of the widest instruction set, and of all threads where one number is shown.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from models import HERE, MASKED, PEER

Rows = list[dict[str, Any]]
SHAPES = {"one-sided": "one-sided 16-32-64", "two-sided": "two-sided 25-50-100"}
SIZES_OF_FRONT = (35, 56, 89)
SIZE_OF_ERRORS = 56  # real atoms of the evaluation whose time stands beside errors
FORMER = "former"  # the name under which kernels from before the targets are measured
SIZES_OF_TARGETS = {"one-sided": (35, 56, 89), "two-sided": (35, 76)}
FASTER = (
    ("one-sided", "Potential", 20),
    ("two-sided", "Potential", 20),
    ("two-sided", "mixed", 30),
)
FASTER_TRAINING = {"one-sided": 14, "two-sided": 10}


def number(value: Any) -> str:
    """Return a cell."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(number, value))
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(head: Iterable[str], lines: Iterable[Iterable[Any]]) -> str:
    """Return a table in Markdown."""
    names = list(head)
    rows = [[number(cell) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in [names, ["---"] * len(names), *rows])


def as_they_are(rows: Rows, without: tuple[str, ...] = ()) -> str:
    """Return a table of all columns of rows, but for some."""
    head = [key for key in dict.fromkeys(k for row in rows for k in row) if key not in without]
    return table(head, ([row.get(key) for key in head] for row in rows))


def widest(rows: Rows) -> Rows:
    """Return the rows of the widest instruction set that there are any of."""
    last = max(row["isa"] for row in rows)
    return [row for row in rows if row["isa"] == last]


def on_all_threads(rows: Rows) -> Rows:
    """Return those of them that are of the most threads."""
    most = max(row["threads"] for row in rows)
    return [row for row in widest(rows) if row["threads"] == most]


def change(row: dict[str, Any] | None, column: str) -> str:
    """Return how a time falls from the built-in's; nothing where it was not measured."""
    if row is None:
        return ""
    before, after, times = (number(row[k]) for k in ("built-in", column, f"to {column}"))
    return f"{before} → {after} ms, **{times} times**"


def front(scans: dict[str, Rows]) -> str:
    """Return the table of README.md of the project."""
    evaluations = on_all_threads(scans["evaluations"])
    training = on_all_threads([*scans["training"], *scans.get("float32", [])])
    lines = []
    labels = {"Potential": "`Potential`", "mixed": '`Potential`, `precision="mixed"`'}
    labels |= {"DeepPot": "`DeepPot.eval`"}
    for name, label in labels.items():
        for real in SIZES_OF_FRONT:
            of_size = {row["model"]: row for row in evaluations if row["real"] == real}
            if not any(name in row for row in of_size.values()):
                continue
            lines.append([label, real, *(change(of_size.get(model), name) for model in MASKED)])
    for nets, precision in (("trained", "float64"), ("new", "float64"), ("new", "float32")):
        of_nets = {
            row["model"]: row
            for row in training
            if (row["nets"], row["precision"]) == (nets, precision)
        }
        label = "training step" if nets == "trained" else f"training step, new nets, {precision}"
        lines.append(
            [label, "4 frames of 66", *(change(of_nets.get(model), "plugin") for model in MASKED)]
        )
    return table(["", "real atoms", *(SHAPES[model] for model in MASKED)], lines)


def errors(scans: dict[str, Rows]) -> str:
    """Return what models are, how long they were trained, how well they do, and how fast."""
    head = ("model", "steps", "minutes", "force error, preferred atoms, eV/Å")
    head += ("all real atoms", "energy per atom, eV", "panels of each net")
    names = ("force, preferred", "force, all", "energy per atom", "panels")
    times = {}
    for row in on_all_threads(scans["evaluations"]):
        if row["real"] == SIZE_OF_ERRORS:
            times[row["model"]] = row["Potential"]
            if PEER in row:  # beside one of them
                times[PEER] = row[PEER]
    lines = [
        [row["model"], row["steps"], row["seconds"] / 60, *map(row.get, names), times[row["model"]]]
        for row in scans["errors"]
    ]
    return table([*head, f"evaluation of {SIZE_OF_ERRORS} atoms, ms"], lines)


def evaluations(scans: dict[str, Rows]) -> str:
    """Return times of evaluations, and how many times as fast as the built-in they are."""
    sides = {"Potential": "`Potential`", "mixed": "`Potential`, mixed", "DeepPot": "`DeepPot`"}
    sides |= {"compressed": "`DeepPot`, compressed", PEER: f"`{PEER}`, compressed"}
    rows = widest(scans["evaluations"])
    sides = {side: name for side, name in sides.items() if any(side in row for row in rows)}
    head = ("model", "threads", "real atoms", "built-in", *sides.values())
    head += ("limit", "`Potential` to it")

    def cell(row: dict[str, Any], side: str) -> str:
        times = f" ({row[f'to {side}']:.1f})" if f"to {side}" in row else ""
        return number(row.get(side)) + times

    lines = [
        [
            *(row.get(name) for name in ("model", "threads", "real", "built-in")),
            *(cell(row, side) for side in sides),
            row["limit"],
            row["over limit"],
        ]
        for row in rows
    ]
    return table(head, lines)


def training(scans: dict[str, Rows]) -> str:
    """Return times of training steps."""
    names = ("model", "nets", "precision", "threads", "built-in", "plugin", "to plugin")
    names += ("to new nets", "limit", "over limit")
    head = ("model", "nets", "precision", "threads", "built-in", "plugin", "ratio")
    head += ("plugin to new nets", "limit", "plugin to it")
    rows = widest([*scans["training"], *scans.get("float32", [])])
    return table(head, ([row.get(name) for name in names] for row in rows))


def parts(scans: dict[str, Rows]) -> str:
    """Return times of the kernels of an evaluation."""
    names = ["model", "threads", "real", "part", "ms", "limit", "over limit", "GFLOP/s"]
    names += ["to a product", "Potential to sum"]
    rows = widest(scans["parts"])
    # Other builds' times, if there are such.
    fixed = {*names, "isa"}
    names += list(dict.fromkeys(name for row in rows for name in row if name not in fixed))
    return table(names, ([row.get(name) for name in names] for row in rows))


def targets(scans: dict[str, Rows]) -> str:
    """Return what was aimed at, what came of it, and what the machine's limit would give.

    With kernels of another build named FORMER in the scan of parts, what is beside those, too.
    """
    evaluations = {(row["model"], row["real"]): row for row in on_all_threads(scans["evaluations"])}
    parts = {
        (row["model"], row["real"], row["part"]): row for row in on_all_threads(scans["parts"])
    }
    training = {(row["model"], row["nets"]): row for row in on_all_threads(scans["training"])}
    lines: list[list[Any]] = []

    def at_least(bound: float, what: str, found: float, at_limit: float | None = None) -> None:
        add("at least", bound, what, found, at_limit, found >= bound)

    def at_most(bound: float, what: str, found: float, at_limit: float | None = None) -> None:
        add("at most", bound, what, found, at_limit, found <= bound)

    def add(
        side: str, bound: float, what: str, found: float, at_limit: float | None, met: bool
    ) -> None:
        wanted = f"{side} {number(float(bound))}"
        lines.append([what, wanted, found, at_limit, "yes" if met else "**no**"])

    for model, column, bound in FASTER:
        mixed = ', `precision="mixed"`' if column == "mixed" else ""
        for real in SIZES_OF_TARGETS[model]:
            row = evaluations[model, real]
            what = f"{model}, {real} atoms{mixed}: times as fast as the built-in"
            limit = row["mixed limit" if mixed else "limit"]
            at_least(bound, what, row[f"to {column}"], row["built-in"] / limit)
    for model in MASKED:
        both, of_sum = parts[model, 89, "embed_and_force"], parts[model, 500, "sum"]
        if FORMER in of_sum:
            what = f"{model}, 89 atoms: embed and force to former kernels"
            at_most(1 / 3, what, 1 / both[FORMER], both["limit"] / (both["ms"] * both[FORMER]))
            at_most(1, f"{model}, 500 atoms: kernels to former ones", 1 / of_sum[FORMER])
        what = f"{model}, 89 atoms: read_out's FLOP/s to those of a large product"
        at_least(0.6, what, parts[model, 89, "read_out"]["to a product"])
        for real in (35, 89):
            what = f"{model}, {real} atoms: kernels to the limit"
            at_most(2, what, parts[model, real, "sum"]["over limit"], 1.0)
    for model, bound in FASTER_TRAINING.items():
        row = training[model, "trained"]
        what = f"{model}: a step of training, trained nets to new ones"
        at_most(1.15, what, row["to new nets"])
        what = f"{model}: training trained nets, times as fast as the built-in"
        at_least(bound, what, row["to plugin"], row["built-in"] / row["limit"])
    return table(["", "target", "measured", "at the limit", "met"], lines)


TABLES = {
    "front": front,
    "targets": targets,
    "errors": errors,
    "evaluations": evaluations,
    "training": training,
    "parts": parts,
    "weights": lambda scans: as_they_are(scans["weights"], without=("isa",)),
    "slots": lambda scans: as_they_are(scans["slots"], without=("isa",)),
    "processes": lambda scans: as_they_are(scans["processes"], without=("isa",)),
}


def fill(page: Path, scans: dict[str, Rows]) -> None:
    """Put tables into a page; those of scans that have not been made stay."""

    def filled(found: re.Match[str]) -> str:
        begin, indent, name, _, end = found.groups()
        try:
            text = TABLES[name](scans)
        except KeyError as missing:
            print(f"{page.name}: the table {name} stays as it is, there is no {missing}")
            return found.group()
        lines = (f"{indent}{line}" for line in text.splitlines())
        return begin + "\n" + "\n".join(lines) + "\n" + end

    pattern = r"(( *)<!-- table (\w+) -->)\n(.*?)( *<!-- end -->)"
    page.write_text(re.sub(pattern, filled, page.read_text(), flags=re.DOTALL))


if __name__ == "__main__":
    scans = json.loads((HERE / "results" / "trained.json").read_text())["scans"]
    for page in (HERE / "README.md", HERE.parent / "README.md"):
        fill(page, scans)
