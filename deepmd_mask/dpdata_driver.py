# SPDX-License-Identifier: LGPL-3.0-or-later
"""The driver deepmd-mask of dpdata, which labels its systems with a frozen model."""

import numpy as np
from dpdata.driver import Driver

from .potential import Potential, Prediction
from .shared.boxes import require_no_box
from .shared.elements import types_of_names
from .shared.paths import Paths


@Driver.register("deepmd-mask")
class MaskDriver(Driver):
    """A frozen model of se_a_mask, or a committee; all atoms of a system are real ones.

    Parameters
    ----------
    model
        The frozen model, a file that ``dp freeze`` or ``dp compress`` wrote; or a list of several,
        whose means are the labels.
    ignore_pbc
        Whether to take periodic systems for isolated molecules, as they are, not wrapped. Without
        it they are refused, unless DP_MASK_IGNORE_BOX is 1 in the environment.

    Examples
    --------
    >>> dpdata.System("molecule.xyz", fmt="xyz").predict("model.pb", driver="deepmd-mask")
    """

    def __init__(self, model: Paths, *, ignore_pbc: bool = False) -> None:
        self.potential = Potential(model)
        self.ignore_pbc = ignore_pbc

    def label(self, data: dict) -> dict:
        """Return the data of a system with energies and forces.

        Parameters
        ----------
        data
            Of a system.

        Raises
        ------
        ValueError
            If the system is periodic, the model does not know an element, or a frame cannot be
            evaluated.
        """
        if not data.get("nopbc", False) and not self.ignore_pbc:
            require_no_box("ignore_pbc=True")
        types = self._types(data["atom_names"])[data["atom_types"]]
        found = [self._evaluate(types, *frame) for frame in enumerate(data["coords"])]
        return {
            **data,
            "energies": np.array([one.energy for one in found]),
            "forces": np.array([one.forces for one in found]).reshape(data["coords"].shape),
        }

    def _types(self, names: list[str]) -> np.ndarray:
        """Return the model's type of each name; capital letters do not matter."""
        types = types_of_names(names, self.potential.type_map)
        for name, found in zip(names, types, strict=True):
            if found < 0:
                raise ValueError(f"the model does not know {name}, only {self.potential.type_map}")
        return types

    def _evaluate(self, types: np.ndarray, frame: int, positions: np.ndarray) -> Prediction:
        try:
            return self.potential.evaluate(types, positions)
        except ValueError as error:
            raise ValueError(f"frame {frame}: {error}") from error
