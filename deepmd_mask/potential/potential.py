# SPDX-License-Identifier: LGPL-3.0-or-later
"""The potential for Python: energies and forces of molecules from frozen models."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import _kernels
from .._kernels import SelBound
from ..shared.log import log
from ..shared.paths import Paths, paths_of_models
from ..shared.reason import reason_of
from .deviation import deviation_of
from .device import kernels_on
from .molecules import molecules_of
from .reading import ReadModel, RefusedModelError, read_model

MIXED = "mixed"


class Prediction(NamedTuple):
    """What a model gives, or what the models of a committee give on average, in their units.

    With several frames all arrays have an axis of frames first, and energy is an array.

    Attributes
    ----------
    energy
        E.
    forces
        [natoms, 3]
    energies
        [natoms], e_i; their sum is E.
    virial
        [9], with DeePMD-kit's sign; None unless asked for.
    atom_virial
        [natoms, 9], whose sum is the virial; None unless asked for.
    weight_gradient
        [natoms], dE/dw of each atom, in the unit of energy; its sum over a group is the derivative
        by the weight of the group. 0 for virtual atoms; None without groups.
    deviation
        [natoms], of a committee: the root of the mean over its models of |F_k - F|², which is how
        far they differ about the force on each atom; 0 for virtual atoms. `ForceDeviation.of` has
        the largest and the mean. None of one model.
    energy_deviation
        The same of E; None of one model.
    """

    energy: Any
    forces: np.ndarray
    energies: np.ndarray
    virial: np.ndarray | None = None
    atom_virial: np.ndarray | None = None
    weight_gradient: np.ndarray | None = None
    deviation: np.ndarray | None = None
    energy_deviation: Any = None


class Potential:
    """A frozen model of se_a_mask, of this package or of the built-in, or a committee of several.

    Neither TensorFlow nor DeePMD-kit is needed, and any number of threads and of forked processes
    may evaluate. Copied or pickled, it has the paths of the models, from which the copy loads them
    anew.

    Parameters
    ----------
    model
        The frozen model, a file that ``dp freeze`` or ``dp compress`` wrote. A list of several, of
        one type map and one sum of sel, is a committee, trained from several seeds, say: results
        are means over the models, and tell how far they differ.
    device
        "cpu"; "cuda", a GPU; or "auto", a GPU where there is one that works.
    threads
        Of an evaluation on the CPU; by default as many as this process may use. Results do not
        depend on it.
    precision
        "mixed" holds the matrices of the fitting nets in float32, and computes in the model's
        float64 as before: faster where the nets exceed the cache, see docs/python.md. None is the
        model's own.

    Attributes
    ----------
    type_map : list of str
        Names of the types.
    sel : list of int
        Largest number of real atoms of each type that it was trained for. More are allowed, and
        one warning.
    paths : list of str
        The files.
    device : str
        Where it computes, "cpu" or "cuda".
    threads : int
        Of an evaluation, on the CPU.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no path, or not that of a frozen model of se_a_mask; if the model is damaged, of a
        later version, or takes other parameters than a mask; if models of a committee differ in
        type map or sum of sel.
    RuntimeError
        If there is no GPU that was asked for.

    Examples
    --------
    >>> potential = Potential("model.pb")
    >>> types = [potential.type_map.index(name) for name in ("O", "H", "H")]
    >>> potential.evaluate(types, [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]).forces
    """

    def __init__(
        self,
        model: Paths,
        device: str = "auto",
        threads: int | None = None,
        precision: str | None = None,
    ) -> None:
        if threads is not None and not (isinstance(threads, int | np.integer) and threads >= 1):
            raise ValueError(f"threads is {threads!r}; give a number from 1 on, or None for all")
        if precision not in (None, MIXED):
            raise ValueError(f"precision is {precision!r}; give {MIXED!r}, or None for the model's")
        kernels = kernels_on(device)
        if precision == MIXED and kernels is not _kernels:
            msg = f"precision={MIXED!r} is for the CPU; add device='cpu', or leave it out on a GPU"
            raise ValueError(msg)
        models = [read_model(path) for path in paths_of_models(model)]
        if precision == MIXED:
            models = [_mixed(one) for one in models]
        _require_alike(models)
        self.paths = [os.path.realpath(one.path) for one in models]
        self.type_map = models[0].type_map
        self.sel = np.min([one.sel for one in models], axis=0).tolist()
        self._builtin = [one.path for one in models if one.is_builtin]
        self.device = "cpu" if kernels is _kernels else "cuda"
        self._device, self._threads, self._precision = device, threads, precision
        loaded = []
        while models:  # one after the other, so that no array is there longer than needed
            one = models.pop(0)
            try:
                loaded.append(kernels.Model(**one.arguments))
            except (ValueError, TypeError) as error:
                msg = f"model {one.path} is damaged: {reason_of(error)}"
                raise ValueError(msg) from error
        self._kernels = kernels.Potential(loaded, threads or 0)
        self.threads: int = self._kernels.threads
        self._sel_bound = SelBound(self.sel, self.type_map)

    def __reduce__(self) -> tuple:
        """Return how a copy is made."""
        return Potential, (self.paths, self._device, self._threads, self._precision)

    def evaluate(
        self,
        types: Sequence[int] | np.ndarray,
        positions: Sequence | np.ndarray,
        weights: Sequence | np.ndarray | None = None,
        virial: bool = False,
        numbers: Sequence[int] | np.ndarray | None = None,
        groups: Sequence[int] | np.ndarray | None = None,
    ) -> Prediction:
        """Evaluate a molecule, or frames of several.

        Parameters
        ----------
        types
            [natoms] or [nframes, natoms] int, the type of each atom, an index into type_map, in any
            order; [natoms] is for all frames.
        positions
            [natoms, 3] or [nframes, natoms, 3], in the model's unit of length.
        weights
            [natoms] or [nframes, natoms], the mask: 1 for a real atom, 0 for a virtual one, which
            has no energy and feels no force. All are real by default. With groups also between, for
            atoms that are there in part: E = Σ w_i e_i, and an atom of weight w counts w times for
            atoms of other groups. Forces and virials are those at fixed weights.
        virial
            Whether to compute virials, too.
        numbers
            [natoms] int, what messages call the atoms; by default 0, 1, …
        groups
            [natoms] or [nframes, natoms] int, any numbers: atoms of a frame with the same one are a
            group, a residue mostly, in which all count whole for each other. The real atoms of a
            group have one weight; of virtual ones it is not read.

        Raises
        ------
        ValueError
            Naming the atom, and the frame if there are several, if a type is outside the type map,
            a weight neither 0 nor 1 or, with groups, not between, a position of a real atom not
            finite, if two real atoms coincide or two of a group differ in weight; or naming the
            shape that is wrong.
        """
        if groups is not None and self._builtin:
            raise RefusedModelError(
                self._builtin[0],
                "it is on the operators of the built-in, which know weights of 0 and 1 alone, no "
                "groups; dp-mask convert puts it on those of this package",
            )
        molecules = molecules_of(types, positions, weights, groups, numbers)
        try:
            found = self._kernels.evaluate(
                molecules.types, molecules.positions, molecules.weights, virial, molecules.groups
            )
        except ValueError as error:
            fault = getattr(error, "fault", None)
            if fault is None:
                raise
            raise ValueError(molecules.words_for(fault)) from error
        warning = self._sel_bound.warning(molecules.types, molecules.weights)
        if warning:
            log.warning(warning)
        # Which axes the caller wants; the first one is of models.
        of_frames = (slice(None), 0) if molecules.is_one else (slice(None),)
        arrays: list[Any] = [None if array is None else array[of_frames] for array in found]
        return _prediction(*arrays)


def _prediction(
    energy: np.ndarray,
    energies: np.ndarray,
    forces: np.ndarray,
    virial: np.ndarray | None,
    atom_virial: np.ndarray | None,
    weight_gradient: np.ndarray | None = None,
) -> Prediction:
    """Return what the models give, arrays with an axis of models first."""
    is_one = len(energy) == 1

    def mean(array: np.ndarray) -> np.ndarray:
        return array[0] if is_one else array.mean(axis=0)

    return Prediction(
        mean(energy),
        mean(forces),
        mean(energies),
        None if virial is None else mean(virial),
        None if atom_virial is None else mean(atom_virial),
        None if weight_gradient is None else mean(weight_gradient),
        None if is_one else deviation_of(forces, axis=-1),
        None if is_one else deviation_of(energy),
    )


def _mixed(model: ReadModel) -> ReadModel:
    if model.arguments["precision"] != "float64":
        reason = f"it is in float32 as a whole, and precision={MIXED!r} is for float64"
        raise RefusedModelError(model.path, reason)
    return model._replace(arguments={**model.arguments, "precision": MIXED})


def _require_alike(models: list[ReadModel]) -> None:
    """Refuse a committee of no model, or whose models take types or sel in different ways."""
    if not models:
        raise ValueError("there is no model; give the path of one, or of several")
    first = models[0]
    for other in models[1:]:
        for what, one, its in (
            ("type maps", " ".join(first.type_map), " ".join(other.type_map)),
            ("sums of sel", f"{first.arguments['n']:g}", f"{other.arguments['n']:g}"),
        ):
            if one != its:
                msg = (
                    f"models {first.path} and {other.path} have different {what}, {one} and "
                    f"{its}; give models of one"
                )
                raise ValueError(msg)
