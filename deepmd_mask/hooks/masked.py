# SPDX-License-Identifier: LGPL-3.0-or-later
"""Masked models among those that DeePMD-kit has loaded, and real atoms among slots.

DeePMD-kit takes each slot for an atom, and so divides errors and deviations by the number of slots,
and has rows for virtual atoms in its files. A model of this package gives the same for the real
atoms alone. Therefore DeePMD-kit is handed these alone, as many frames at a time as have the same,
and its own functions compute all numbers. Models without a mask are left to it as they are.
"""

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from deepmd.tf.env import tf

from ..frozen.model_file import TELLING_OPS
from ..shared.log import log

PER_ATOM = {"type", "coord", "force", "aparam", "atom_pref", "atom_ener"}  # of what dp test reads

_operators: WeakKeyDictionary[tf.Graph, str | None] = WeakKeyDictionary()


def operators_of(model: Any) -> str | None:
    """Return whose operators a loaded model runs on, a key of TELLING_OPS; None for another model.

    Parameters
    ----------
    model
        A DeepPot, or the object of a backend in it.
    """
    graph = getattr(getattr(model, "deep_eval", model), "graph", None)
    return None if graph is None else operators_in(graph)


def operators_in(graph: tf.Graph) -> str | None:
    """Return the same of a graph."""
    if graph not in _operators:
        found = {op.type for op in graph.get_operations()}
        _operators[graph] = next((name for name, op in TELLING_OPS.items() if op in found), None)
    return _operators[graph]


def forget(graph: tf.Graph) -> None:
    """Look at a graph anew: the default one may have had other models before."""
    _operators.pop(graph, None)


def takes_real_atoms(models: list, command: str, instead: str) -> bool:
    """Return whether models can be given real atoms alone; warn if they have a mask but cannot."""
    operators = {operators_of(model) for model in models}
    if operators == {"deepmd-mask"}:
        return True
    if operators & set(TELLING_OPS):
        log.warning(
            "se_a_mask: %s counts virtual atoms as exact, so its errors and deviations depend on "
            "the padding; models of the built-in need all their slots. Take %s",
            command,
            instead,
        )
    return False


def is_mask(values: np.ndarray) -> bool:
    """Return whether all values are 0 or 1."""
    return bool(np.isin(values, (0, 1)).all())


def runs(mask: np.ndarray, types: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield runs of frames that have the same real atoms of the same types, and these atoms."""
    same = (mask[1:] == mask[:-1]).all(axis=1) & (types[1:] == types[:-1]).all(axis=1)
    stops = [*(np.flatnonzero(~same) + 1).tolist(), len(mask)]
    for start, stop in zip([0, *stops[:-1]], stops, strict=True):
        yield slice(start, stop), np.flatnonzero(mask[start])


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
