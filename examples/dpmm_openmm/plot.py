# SPDX-License-Identifier: LGPL-3.0-or-later
"""Plots and compares zinc's ligands in the simulations of md.py and direct.py."""

import argparse
import csv
from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from md import BOUND
from system import EXAMPLE

TITLES = {  # by file, or what files begin with
    "mm": "force field",
    "corrected": "with DP correction",
    "direct": "with GFN2-xTB itself",
}
DISTANCES = {"zn_n1": "Zn-N (His 2)", "zn_n2": "Zn-N (His 4)", "zn_o": "Zn-O (bound water, mean)"}
SMOOTHED = 10  # lines of a running mean
EQUILIBRATION = 0.2  # fraction of a simulation that is left out of means
BLOCKS = 5  # of a simulation, for the errors of means
SHELLS = np.arange(1.5, 6.0, 0.05)  # Å
ANGLES = np.arange(40.0, 181.0, 4.0)  # degrees


def title_of(name):
    """Return what a simulation is called, by its file's name, which may go on after a title's."""
    begin = next(begin for begin in TITLES if name.startswith(begin))
    return TITLES[begin] + name.removeprefix(begin).replace("_", " ")


def read(path):
    """Return the columns of a file by name."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def kept(values):
    """Return values without those of the beginning."""
    return values[int(EQUILIBRATION * len(values)) :]


def mean_and_error(values):
    """Return the mean and its error, of blocks in time; too small where they are short."""
    blocks = [block[np.isfinite(block)] for block in np.array_split(kept(values), BLOCKS)]
    means = [block.mean() for block in blocks if len(block)]
    return np.nanmean(kept(values)), np.std(means, ddof=1) / np.sqrt(len(means))


def draw_over_time(runs, path):
    """Draw distances and coordination numbers over time, a column of panels for each run."""
    figure = Figure(figsize=(3.4 * len(runs), 4.4), layout="constrained")
    panels = figure.subplots(
        2, len(runs), sharex="col", sharey="row", height_ratios=(2, 1), squeeze=False
    )
    for (name, columns), (above, below) in zip(runs.items(), panels.T, strict=True):
        time = columns["time_ps"]
        for k, (column, label) in enumerate(DISTANCES.items()):
            above.plot(time, columns[column], color=f"C{k}", alpha=0.25, linewidth=0.5)
            width = min(SMOOTHED, len(time))
            smooth = np.convolve(columns[column], np.ones(width) / width, mode="valid")
            above.plot(time[width - 1 :], smooth, color=f"C{k}", label=label)
        below.step(time, columns["coordination"], color="black", linewidth=0.8)
        above.set_title(title_of(name))
        below.set_xlabel("time (ps)")
        above.grid(alpha=0.3)
        below.grid(alpha=0.3)
        below.yaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0, 0].set_ylabel("distance (Å)")
    panels[1, 0].set_ylabel("coordination")
    panels[0, -1].legend(fontsize="small")
    figure.savefig(path, dpi=80)


def radial_distribution(r, is_water, density):
    """Return g(r) of water oxygen about zinc in SHELLS [nshells - 1]; NaN beyond what is known.

    Parameters
    ----------
    r : numpy.ndarray
        [nlines, n, 3] in Å, the nearest nitrogens and oxygens.
    is_water : numpy.ndarray
        [nlines, n] bool.
    density : float
        Of waters, in 1/Å³.
    """
    distances = np.linalg.norm(r, axis=2)
    counts, _ = np.histogram(distances[is_water], SHELLS)
    g = counts / len(r) / (density * 4 / 3 * np.pi * np.diff(SHELLS**3))
    return np.where(SHELLS[1:] <= distances[:, -1].min(), g, np.nan)


def angles(r):
    """Return the angles between zinc's ligands in degrees, of all pairs in all lines."""
    found = []
    for frame in r:
        distances = np.linalg.norm(frame, axis=1)
        unit = frame[distances < BOUND] / distances[distances < BOUND, None]
        found += [float(a @ b) for a, b in combinations(unit, 2)]
    return np.degrees(np.arccos(np.clip(found, -1, 1)))


def draw_structure(places, path):
    """Draw radial distribution functions, and how angles between ligands are distributed."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, found in places.items():
        r, is_water = kept(found["r"]), kept(found["is_water"])
        g = radial_distribution(r, is_water, found["density"])
        left.plot((SHELLS[1:] + SHELLS[:-1]) / 2, g, label=title_of(name))
        share, _ = np.histogram(angles(r), ANGLES, density=True)
        right.plot((ANGLES[1:] + ANGLES[:-1]) / 2, share, label=title_of(name))
    left.set(xlabel="zinc to water oxygen (Å)", ylabel="g(r)")
    right.set(xlabel="angle between two ligands (degrees)", ylabel="density")
    left.legend(fontsize="small")
    figure.savefig(path, dpi=80)


def table(runs):
    """Return means with errors, and standard deviations, of each run as text."""
    lines = [f"{'':28}" + "".join(f"{name:>28}" for name in runs)]
    for column, label in {**DISTANCES, "coordination": "coordination number"}.items():
        cells = ""
        for columns in runs.values():
            mean, error = mean_and_error(columns[column])
            spread = np.nanstd(kept(columns[column]))
            cells += f"{f'{mean:.3f} ± {error:.3f}, spread {spread:.3f}':>28}"
        lines.append(f"{label:28}{cells}")
    lengths = [np.ptp(kept(columns["time_ps"])) / BLOCKS for columns in runs.values()]
    lines.append(f"{'blocks':28}" + "".join(f"{f'{length:.1f} ps':>28}" for length in lengths))
    return "\n".join(lines)


def main():
    """Plot what is in a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=EXAMPLE / "run")
    folder = parser.parse_args().folder
    paths = {
        path.stem: path
        for begin in TITLES
        for path in sorted(folder.glob(f"{begin}*.csv"))
        if not path.stem.endswith("_region")
    }
    if not paths:
        raise SystemExit(f"{folder} has no simulations of md.py or direct.py")
    runs = {name: read(path) for name, path in paths.items()}
    draw_over_time(runs, folder / "ligands.png")
    places = {name: path.with_suffix(".npz") for name, path in paths.items()}
    there = {name: dict(np.load(path)) for name, path in places.items() if path.exists()}
    if there:
        draw_structure(there, folder / "structure.png")
    print(table(runs))


if __name__ == "__main__":
    main()
