# SPDX-License-Identifier: LGPL-3.0-or-later
"""A frozen model for one molecule at a time, with little around each evaluation.

DeepPot sorts and checks its input on each call and computes virials. A molecular dynamics run calls
with the same types again and again, so here that is done once for each list of types.
"""

import json
from os import PathLike
from typing import NamedTuple

import numpy as np
from deepmd.infer import DeepPot
from deepmd.tf.env import tf

from .ops import PREFIX

INPUTS = ("coord", "type", "natoms", "box", "mesh", "aparam")
OUTPUTS = ("energy_derv_r", "energy")  # DeePMD-kit's names of forces and atomic energies


class Evaluation(NamedTuple):
    """What a model gives for one molecule, in the model's units.

    Attributes
    ----------
    energy
        E.
    forces
        [natoms, 3]
    energies
        [natoms], e_i; their sum is E.
    """

    energy: float
    forces: np.ndarray
    energies: np.ndarray


class Evaluator:
    """A frozen model of se_a_mask, of this package or of the built-in.

    Parameters
    ----------
    model
        The frozen model, a file that ``dp freeze`` or ``dp compress`` wrote.

    Attributes
    ----------
    type_map : list of str
        Names of the model's types.

    Raises
    ------
    ValueError
        If the model has no mask.
    """

    def __init__(self, model: str | PathLike) -> None:
        self._potential = DeepPot(str(model))
        backend = self._potential.deep_eval
        tensors = getattr(backend, "tensors", {})
        if tensors.get("aparam") is None:
            msg = (
                f"{model} is not a model of se_a_mask: it takes no mask. "
                "deepmd.calculator.DP and DeepPot evaluate models without one"
            )
            raise ValueError(msg)
        self.type_map = list(self._potential.get_type_map())
        self._slots_of_type = _slots_of_type(backend.sess)
        self._inputs = [tensors[name] for name in INPUTS]
        self._run = backend.sess.make_callable(
            [backend.output_tensors[name] for name in OUTPUTS], feed_list=self._inputs
        )
        self._types = np.empty(0, int)  # for which nothing is laid out, or evaluated

    def evaluate(self, types: np.ndarray, positions: np.ndarray) -> Evaluation:
        """Evaluate a molecule whose atoms are all real.

        Parameters
        ----------
        types
            [natoms] int, the type of each atom, an index into type_map.
        positions
            [natoms, 3], in the model's unit of length.

        Raises
        ------
        ValueError
            If a type is outside the type map, or a model of the built-in, whose number of slots is
            fixed, has too few.
        tensorflow.errors.InvalidArgumentError
            If a position is not finite, or two atoms coincide.
        """
        if len(types) == 0:
            return Evaluation(0.0, np.zeros((0, 3)), np.zeros(0))
        if not np.array_equal(types, self._types):
            self._place(np.array(types, dtype=int))
        coord, *rest = self._feed
        coord.reshape(-1, 3)[self._slot] = positions
        forces, energies = self._run(coord, *rest)
        energies = energies.reshape(-1)[self._slot]
        return Evaluation(energies.sum(), forces.reshape(-1, 3)[self._slot], energies)

    def _place(self, types: np.ndarray) -> None:
        """Find a slot for each atom, sorted by type, and lay out what the graph is fed with."""
        outside = np.flatnonzero((types < 0) | (types >= len(self.type_map)))
        if len(outside):
            atom = outside[0]
            msg = f"atom {atom}: type {types[atom]} is outside the type map, {self.type_map}"
            raise ValueError(msg)
        count = np.bincount(types, minlength=len(self.type_map))
        slots = count if self._slots_of_type is None else self._slots_of_type
        if np.any(count > slots):
            t = int(np.argmax(count > slots))
            msg = (
                f"{count[t]} atoms of type {t} ({self.type_map[t]}), but the model, frozen by the "
                f"built-in se_a_mask, has {slots[t]} slots for it; freeze it anew with deepmd-mask"
            )
            raise ValueError(msg)
        nslots = int(slots.sum())
        first = np.cumsum(slots) - slots
        order = np.argsort(types, kind="stable")
        self._slot = np.empty(len(types), int)
        self._slot[order] = np.arange(len(types)) + np.repeat(
            first - (np.cumsum(count) - count), count
        )
        mask = np.zeros(nslots)
        mask[self._slot] = 1
        values = (
            np.zeros(3 * nslots),
            np.repeat(np.arange(len(slots)), slots),
            [nslots, nslots, *slots],
            np.eye(3),  # not periodic, but the placeholder wants a box
            [],
            mask,
        )
        self._feed = [
            np.asarray(value, tensor.dtype.as_numpy_dtype).reshape(
                (1, 9) if name == "box" and len(tensor.shape) == 2 else -1
            )
            for name, tensor, value in zip(INPUTS, self._inputs, values, strict=True)
        ]
        self._types = types


def _slots_of_type(session: tf.Session) -> np.ndarray | None:
    """Return how many slots of each type the graph must be given; None if any number will do."""
    if any(operation.type.startswith(PREFIX) for operation in session.graph.get_operations()):
        return None
    script = json.loads(session.run("load/train_attr/training_script:0"))
    return np.array(script["model"]["descriptor"]["sel"])
