# SPDX-License-Identifier: LGPL-3.0-or-later
"""Step 6: plot and compare zinc's ligands in the simulations of step 5, and of direct.py."""

import argparse
import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from system import EXAMPLE

TITLES = {  # by file
    "mm": "force field",
    "corrected": "with DP correction",
    "direct": "with GFN2-xTB itself",
}
DISTANCES = {"zn_n1": "Zn-N (His 2)", "zn_n2": "Zn-N (His 4)", "zn_o": "Zn-O (bound water, mean)"}
SMOOTHED = 10  # lines of a running mean
EQUILIBRATION = 0.25  # fraction of a simulation that is left out of means


def read(path):
    """Return the columns of a file of step 5 by name."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def draw(runs, path):
    """Draw distances and coordination numbers over time, a column of panels for each run."""
    figure = Figure(figsize=(3.4 * len(runs), 4.4), layout="constrained")
    panels = figure.subplots(2, len(runs), sharex="col", sharey="row", height_ratios=(2, 1))
    for (name, columns), (above, below) in zip(runs.items(), panels.T, strict=True):
        time = columns["time_ps"]
        for k, (column, label) in enumerate(DISTANCES.items()):
            above.plot(time, columns[column], color=f"C{k}", alpha=0.25, linewidth=0.5)
            width = min(SMOOTHED, len(time))
            smooth = np.convolve(columns[column], np.ones(width) / width, mode="valid")
            above.plot(time[width - 1 :], smooth, color=f"C{k}", label=label)
        below.step(time, columns["coordination"], color="black", linewidth=0.8)
        above.set_title(TITLES[name])
        below.set_xlabel("time (ps)")
        above.grid(alpha=0.3)
        below.grid(alpha=0.3)
        below.yaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0, 0].set_ylabel("distance (Å)")
    panels[1, 0].set_ylabel("coordination")
    panels[0, -1].legend(fontsize="small")
    figure.savefig(path, dpi=80)


def table(runs):
    """Return means and standard deviations of each run as text."""
    lines = [f"{'':28}" + "".join(f"{TITLES[name]:>24}" for name in runs)]
    for column, label in {**DISTANCES, "coordination": "coordination number"}.items():
        cells = ""
        for columns in runs.values():
            values = columns[column][int(EQUILIBRATION * len(columns[column])) :]
            cells += f"{f'{np.nanmean(values):.3f} ± {np.nanstd(values):.3f}':>24}"
        lines.append(f"{label:28}{cells}")
    return "\n".join(lines)


def main():
    """Plot what is in a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=EXAMPLE / "run")
    arguments = parser.parse_args()
    paths = {name: arguments.folder / f"{name}.csv" for name in TITLES}
    runs = {name: read(path) for name, path in paths.items() if path.exists()}
    draw(runs, arguments.folder / "ligands.png")
    print(table(runs))


if __name__ == "__main__":
    main()
