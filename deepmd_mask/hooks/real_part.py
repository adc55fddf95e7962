# SPDX-License-Identifier: LGPL-3.0-or-later
"""Real atoms of what dp test reads."""

import numpy as np

PER_ATOM = {"type", "coord", "force", "aparam", "atom_pref", "atom_ener"}


def of_real_atoms(test_data: dict, frames: slice, real: np.ndarray) -> dict:
    """Return the data of some frames, of what belongs to atoms that of the real ones.

    Parameters
    ----------
    test_data
        Arrays by name, as DeePMD-kit reads them: the first axis is that of frames.
    frames
        Which frames.
    real
        Slots of their real atoms.
    """
    nframes, nslots = test_data["type"].shape
    part = {}
    for key, value in test_data.items():
        if not isinstance(value, np.ndarray) or len(value) != nframes:
            part[key] = value
        elif key in PER_ATOM:
            of_atoms = value[frames].reshape(-1, nslots, value[0].size // nslots)[:, real]
            part[key] = of_atoms.reshape(len(of_atoms), -1)
        else:
            part[key] = value[frames]
    return part
