# SPDX-License-Identifier: LGPL-3.0-or-later
"""A good system for dp-mask check, what spoils it, and the command."""

import os
import shutil
from io import BytesIO

import helpers
import numpy as np
from click.testing import CliRunner
from helpers import SLOTS

from deepmd_mask.cli import main

NFRAMES, NSLOTS = 30, sum(SLOTS)
FRAMES = helpers.random_frames(nframes=NFRAMES, nreal=None)
REAL, VIRTUAL = (np.flatnonzero(FRAMES.mask[1] == value) for value in (1, 0))


def setting(key, values, frame=1):
    """Return what sets numbers of a frame in an array, by index of the flat frame."""

    def spoil(system):
        path = system / "set.000" / f"{key}.npy"
        array = np.load(path)
        for index, value in values.items():
            array.reshape(NFRAMES, -1)[frame, index] = value
        np.save(path, array)

    return spoil


def replacing(key, function):
    """Return what replaces an array by what a function makes of it."""

    def spoil(system):
        path = system / "set.000" / f"{key}.npy"
        np.save(path, function(np.load(path)), allow_pickle=True)

    return spoil


def writing(name, content):
    """Return what writes text or bytes to a file."""

    def spoil(system):
        data = content.encode() if isinstance(content, str) else content
        (system / name).write_bytes(data)

    return spoil


def removing(name):
    return lambda system: (system / name).unlink()


def archive():
    file = BytesIO()
    np.savez(file, force=FRAMES.force)
    return file.getvalue()


def truncate(system):
    path = system / "set.000/force.npy"
    os.truncate(path, path.stat().st_size - 8)


def folder_for_file(system):
    (system / "set.000/energy.npy").unlink()
    (system / "set.000/energy.npy").mkdir()


def file_for_system(system):
    shutil.rmtree(system)
    system.write_text("no folder")


def loop_of_links(system):
    shutil.rmtree(system)
    system.symlink_to(system)


def loop_for_set(system):
    shutil.rmtree(system / "set.000")
    (system / "set.000").symlink_to(system / "set.000")


def moved(frame, atom, by):
    return {3 * atom + axis: FRAMES.coord[frame, atom, axis] + by[axis] for axis in range(3)}


ONE, OTHER, GHOST = int(REAL[0]), int(REAL[-1]), int(VIRTUAL[0])


def run(*arguments):
    arguments = arguments and ("--external-field", *arguments)
    result = CliRunner().invoke(main, ["check", *map(str, arguments)])
    return result.exit_code, result.stdout
