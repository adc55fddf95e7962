# SPDX-License-Identifier: LGPL-3.0-or-later
"""Step 8: plot learning curves, the masked force error on the validation set."""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

EXAMPLE = Path(__file__).resolve().parent


def load(name, subset="validation"):
    """Load an array of a system of this example."""
    return np.load(EXAMPLE / "data" / subset / "set.000" / f"{name}.npy")


def masked_errors(folder):
    """Read the masked force errors of a run.

    lcurve.out has rmse_pf_val = sqrt(sum(pref * |dF|^2) / (3 * nframes * n)), an average over as
    many slots as sel allows, which is what these data have. The validation batches of a row are,
    all together, the whole set (batch_size times numb_btch in input.json), so that dividing by the
    mean of pref instead gives the masked error exactly, to the digits displayed.

    Returns
    -------
    steps, errors : numpy.ndarray
        [nrows]; errors in eV/Å. Only rows that are complete.
    """
    path = Path(folder) / "lcurve.out"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    rows = [line.split() for line in lines if not line.startswith("#")]
    if not rows:
        return np.empty(0, dtype=int), np.empty(0)
    columns = dict(zip(lines[0].lstrip("# ").split(), np.array(rows).T, strict=True))
    to_masked = 1 / np.sqrt(np.mean(load("atom_pref")))
    return columns["step"].astype(int), columns["rmse_pf_val"].astype(float) * to_masked


def draw(curves, xlabel, path):
    """Draw learning curves.

    Parameters
    ----------
    curves : dict of str to (x, errors)
        By label.
    xlabel : str
    path : pathlib.Path
        Of the figure.
    """
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for label, (x, errors) in curves.items():
        axes.plot(x, errors, label=label)
    axes.set(xlabel=xlabel, ylabel="masked force error, validation (eV/Å)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if any(curves):
        axes.legend()
    figure.savefig(path, dpi=120)


def main():
    """Plot one run or several."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="*", default=[EXAMPLE / "run"])
    parser.add_argument("--output", type=Path, help="default: learning.png in the first folder")
    arguments = parser.parse_args()
    output = arguments.output or arguments.folders[0] / "learning.png"
    draw({f.name: masked_errors(f) for f in arguments.folders}, "training step", output)


if __name__ == "__main__":
    main()
