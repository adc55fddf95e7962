# SPDX-License-Identifier: LGPL-3.0-or-later
"""Compare this plugin with the built-in se_a_mask, trained models of both.

Trains the models first, if they have not been. All sides do all the work of a scan in turn, round
after round, each in a process of its own, so that a busy machine slows all; figures are medians in
ms. Prints tables; writes trained.json, which keeps what other scans, threads and instruction sets
have written before, and trained.png.
"""

import json
import os
from pathlib import Path
from typing import Any

import click
from matplotlib import pyplot as plt
from models import HERE, MASKED, PEER
from scans import SCANS, Options
from sides import Setting, instruction_sets, machine
from tables import as_they_are

SCANS_OF_THREADS = ("evaluations", "weights", "training", "parts")
COLOURS = {
    "built-in": "tab:red",
    PEER: "tab:orange",
    "DeepPot": "tab:green",
    "Potential": "tab:blue",
    "limit": "black",
}


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw how evaluations scale in real atoms, on the most threads, by the widest instructions."""
    last = rows[-1]
    rows = [row for row in rows if all(row[key] == last[key] for key in ("threads", "isa"))]
    models = list(dict.fromkeys(row["model"] for row in rows))
    sizes = sorted({row["real"] for row in rows})
    size = (4.5 * len(models), 4)
    figure, axes = plt.subplots(1, len(models), figsize=size, squeeze=False, layout="constrained")
    for axis, model in zip(axes[0], models, strict=True):
        for column, colour in COLOURS.items():
            points = [(r["real"], r[column]) for r in rows if r["model"] == model and column in r]
            if points:
                style = "--" if column == "limit" else "o-"
                axis.loglog(*zip(*points, strict=True), style, color=colour, label=column)
        title = f"{model}, {last['threads']} threads"
        axis.set(title=title, xlabel="real atoms", ylabel="ms per evaluation")
        axis.set_xticks(sizes, sizes, rotation=45)
        axis.set_xticks([], minor=True)
    axes[0, 0].legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


@click.command(help=__doc__.split("\n\n", maxsplit=1)[0])
@click.option("--scan", "names", multiple=True, type=click.Choice(list(SCANS)), default=SCANS)
@click.option("--model", "models", multiple=True, type=click.Choice(MASKED), default=MASKED)
@click.option("--threads", multiple=True, type=int, help="By default 1 and all.")
@click.option("--isa", multiple=True, help="Instruction sets; by default those of the machine.")
@click.option("--rounds", default=5, show_default=True, help="Of all sides in turn.")
@click.option("--seconds", default=0.3, show_default=True, help="Of a side's turn.")
@click.option(
    "--kernels",
    multiple=True,
    type=(str, click.Path(exists=True, path_type=Path)),
    metavar="NAME PATH",
    help="Another build for the scan of parts, a file _kernels*.so or a package; its time to "
    "that of the installed one is printed.",
)
@click.option(
    "--output", default=HERE / "results", type=click.Path(path_type=Path), show_default=True
)
def main(
    names: list[str],
    models: list[str],
    threads: tuple[int, ...],
    isa: tuple[str, ...],
    rounds: int,
    seconds: float,
    kernels: tuple[tuple[str, Path], ...],
    output: Path,
) -> None:
    """Run scans."""
    output.mkdir(parents=True, exist_ok=True)
    path = output / "trained.json"
    cores = os.cpu_count() or 1
    for name in names:
        # Those that no number of threads matters for take all.
        of_scan = threads or ((1, cores) if name in SCANS_OF_THREADS else ())
        for one_isa in isa or instruction_sets():
            for count in dict.fromkeys(of_scan or (cores,)):
                setting = Setting(count, one_isa)
                options = Options(setting, rounds, seconds, list(models), dict(kernels))
                rows = SCANS[name](options)
                keep(path, name, rows)
                print(f"\n{name}, {count} threads, {one_isa}\n\n{as_they_are(rows)}")
    found = json.loads(path.read_text())["scans"]
    if "evaluations" in found:
        plot(found["evaluations"], output / "trained.png")


def keep(path: Path, name: str, rows: list[dict[str, Any]]) -> None:
    """Put the rows of a scan into the file, in the place of those of the same settings."""
    found = json.loads(path.read_text()) if path.exists() else {"scans": {}}
    found["machine"] = machine()

    def setting(row: dict[str, Any]) -> tuple[str, ...]:
        return tuple(str(row.get(key, "")) for key in ("isa", "threads", "model"))

    new = set(map(setting, rows))
    kept = [row for row in found["scans"].get(name, []) if setting(row) not in new]
    found["scans"][name] = sorted([*kept, *rows], key=setting)
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
