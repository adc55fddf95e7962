# SPDX-License-Identifier: LGPL-3.0-or-later
"""What the steps that sample and label have in common: options, workers, files that are whole."""

import argparse
import multiprocessing
import os
from pathlib import Path

import ase.io
from tqdm import tqdm

BUILD = Path(__file__).resolve().parent / "build"


def options(description, **folders):
    """Parse the command line.

    Parameters
    ----------
    description : str
        Of the step.
    **folders : str
        Names of options for folders, with defaults within `BUILD`.
    """
    parser = argparse.ArgumentParser(
        description=description.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for name, default in folders.items():
        parser.add_argument(f"--{name}", type=Path, default=BUILD / default, help="folder")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    return parser


def for_each(function, tasks, workers, unit):
    """Call a function for each task in processes of their own, with a progress bar."""
    # spawn: a process that has started OpenMP threads must not be forked.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for _ in tqdm(pool.imap_unordered(function, tasks), total=len(tasks), unit=unit):
            pass


def write_frames(path, frames):
    """Write frames as extended XYZ. The file appears when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    if frames:
        ase.io.write(partial, frames, format="extxyz")
    else:
        partial.touch()
    partial.replace(path)
