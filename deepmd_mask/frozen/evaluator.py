# SPDX-License-Identifier: LGPL-3.0-or-later
"""A frozen model for one molecule at a time, with little around each evaluation.

DeepPot sorts and checks its input on each call and computes virials. A molecular dynamics run calls
with the same types again and again, so here that is done once for each list of types.
"""

import os
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from deepmd.tf.env import tf

from ..shared.process import claim_process
from ..shared.reason import atom_fault_of, reason_of
from .description import describe
from .potential import open_model

INPUTS = ("coord", "type", "natoms", "box", "mesh", "aparam")
OUTPUTS = ("energy_derv_r", "energy")  # DeePMD-kit's names of forces and atomic energies


class Prediction(NamedTuple):
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

    Copied or pickled, it has the path of the model, from which the copy loads it anew.

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
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a frozen model of se_a_mask, cannot be loaded, or takes other parameters than
        a mask.
    RuntimeError
        If this process was forked from one that had loaded a model.
    """

    def __init__(self, model: str | PathLike) -> None:
        self._path = Path(os.path.realpath(model))
        frozen, operators, self._potential = open_model(model)
        backend = self._potential.deep_eval
        self.type_map = list(self._potential.get_type_map())
        self._slots_of_type = None  # any number will do
        if operators == "built-in":
            sel = describe(frozen).sel
            if sel is None:
                raise ValueError(f"model {model}: it does not tell its sel; run dp-mask convert")
            self._slots_of_type = np.array(sel)
        self._inputs = [backend.tensors[name] for name in INPUTS]
        self._run = backend.sess.make_callable(
            [backend.output_tensors[name] for name in OUTPUTS], feed_list=self._inputs
        )
        self._types = np.empty(0, int)  # for which nothing is laid out, or evaluated

    def __reduce__(self) -> tuple:
        """Return how a copy is made; a session of TensorFlow cannot be copied."""
        return Evaluator, (self._path,)

    def evaluate(
        self, types: np.ndarray, positions: np.ndarray, numbers: np.ndarray | None = None
    ) -> Prediction:
        """Evaluate a molecule whose atoms are all real.

        Parameters
        ----------
        types
            [natoms] int, the type of each atom, an index into type_map.
        positions
            [natoms, 3], in the model's unit of length.
        numbers
            [natoms] int, what messages call the atoms; by default 0, 1, …

        Raises
        ------
        ValueError
            If a type is outside the type map, a position is not finite, two atoms coincide (models
            of this package only), or a model of the built-in, whose number of slots is fixed, has
            too few.
        RuntimeError
            If this process was forked from the one that loaded the model.
        """
        claim_process()
        if len(types) == 0:
            return Prediction(0.0, np.zeros((0, 3)), np.zeros(0))
        if numbers is None:
            numbers = np.arange(len(types))
        if not np.array_equal(types, self._types):
            self._place(np.array(types, dtype=int), numbers)
        if not np.isfinite(positions).all():  # the built-in would give nan
            atom, axis = np.argwhere(~np.isfinite(positions))[0]
            value = positions[atom, axis]
            msg = f"atom {numbers[atom]}: coordinate {'xyz'[axis]} is {value}, not a finite number"
            raise ValueError(msg)
        coord, *rest = self._feed
        coord.reshape(-1, 3)[self._slot] = positions
        try:
            forces, energies = self._run(coord, *rest)
        except tf.errors.OpError as error:
            raise ValueError(self._words_for(error, numbers)) from error
        energies = energies.reshape(-1)[self._slot]
        return Prediction(energies.sum(), forces.reshape(-1, 3)[self._slot], energies)

    def _words_for(self, error: tf.errors.OpError, numbers: np.ndarray) -> str:
        """Say what an operator refuses, with the caller's number of each atom."""
        fault = atom_fault_of(error)
        if fault is None:  # the model contradicts itself
            return f"model {self._path}: {reason_of(error)}"
        fault = fault.renumbered(dict(zip(self._slot.tolist(), numbers, strict=True)))
        return f"atom {fault.atom}: {fault.text}"

    def _place(self, types: np.ndarray, numbers: np.ndarray) -> None:
        """Find a slot for each atom, sorted by type, and lay out what the graph is fed with."""
        outside = np.flatnonzero((types < 0) | (types >= len(self.type_map)))
        if len(outside):
            atom = outside[0]
            msg = (
                f"atom {numbers[atom]}: type {types[atom]} is outside the type map, {self.type_map}"
            )
            raise ValueError(msg)
        count = np.bincount(types, minlength=len(self.type_map))
        slots = count if self._slots_of_type is None else self._slots_of_type
        if np.any(count > slots):
            t = int(np.argmax(count > slots))
            msg = (
                f"{count[t]} atoms of type {t} ({self.type_map[t]}), but the model, frozen by the "
                f"built-in se_a_mask, has {slots[t]} slots for it; dp-mask convert makes one of it "
                "that takes any number"
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
        values: tuple[Any, ...] = (
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
