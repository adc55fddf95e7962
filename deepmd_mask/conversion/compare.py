# SPDX-License-Identifier: LGPL-3.0-or-later
"""Compares two frozen models of one potential on a frame, by TensorFlow and by Potential."""

from dataclasses import dataclass

import deepmd.tf  # noqa: F401  first, since it loads this package as its plugin, and the operators
import numpy as np
from deepmd.tf.env import tf

from ..frozen.model_file import FrozenModel
from ..potential import Potential
from ..potential.reading import RefusedModelError
from ..shared.reason import reason_of

ATOMS = 4  # of each type, in the frame


@dataclass(frozen=True)
class Difference:
    """How far two models are apart.

    Attributes
    ----------
    force
        Largest difference of forces, relative to the largest force.
    atom_energy
        Largest difference of atomic energies of real atoms, relative to the largest.
    refusal
        Why `Potential` does not evaluate the second model; empty if it does.
    """

    force: float
    atom_energy: float
    refusal: str = ""

    def exceeds(self, tolerance: float) -> bool:
        """Return whether either is larger, or no number."""
        return not max(self.force, self.atom_energy) <= tolerance


def compare(first: FrozenModel, second: FrozenModel, sel: list[int]) -> Difference:
    """Evaluate two models on a frame of a few real atoms in as many slots as sel has.

    Parameters
    ----------
    first, second
        The models, on whatever operators.
    sel
        Largest number of real atoms of each type.

    Returns
    -------
    Difference
        Relative to the first model.

    Raises
    ------
    ValueError
        If a model cannot be evaluated.
    """
    frame = _frame(sel)
    return _difference(_evaluate(second, frame), _evaluate(first, frame), frame)


def compare_by_potential(first: FrozenModel, second: FrozenModel, sel: list[int]) -> Difference:
    """Compare what TensorFlow makes of a model with what `Potential` makes of another one.

    Parameters
    ----------
    first, second, sel
        As those of `compare`.

    Returns
    -------
    Difference
        Relative to the first model; 0, with a reason, if Potential refuses the second.

    Raises
    ------
    ValueError
        If the first model cannot be evaluated, or the second is damaged.
    """
    frame = _frame(sel)
    try:
        potential = Potential(second.path, device="cpu")
    except RefusedModelError as error:
        return Difference(0.0, 0.0, error.reason)
    positions = frame["t_coord"].reshape(-1, 3)
    found = potential.evaluate(frame["t_type"], positions, frame["t_aparam"])
    return _difference([found.forces, found.energies], _evaluate(first, frame), frame)


def _difference(
    found: list[np.ndarray], wanted: list[np.ndarray], frame: dict[str, np.ndarray]
) -> Difference:
    """Compare forces and atomic energies."""
    real = frame["t_aparam"] != 0
    force = _relative(found[0].reshape(-1, 3), wanted[0].reshape(-1, 3))
    return Difference(force, _relative(found[1].ravel()[real], wanted[1].ravel()[real]))


def _frame(sel: list[int]) -> dict[str, np.ndarray]:
    """Return what to feed to the placeholders of that name.

    Real atoms lie on a shaken lattice, at distances from 1 on; virtual ones in a line far away.
    """
    rng = np.random.default_rng(1)
    counts = np.minimum(sel, ATOMS)
    real = np.concatenate(
        [np.arange(slots) < count for slots, count in zip(sel, counts, strict=True)]
    )
    side = int(np.ceil(counts.sum() ** (1 / 3)))
    lattice = 2.0 * np.stack(np.unravel_index(np.arange(side**3), (side,) * 3), axis=1)
    coord = np.zeros((sum(sel), 3))
    coord[:, 0] = 1000 + 10 * np.arange(sum(sel))
    coord[real] = rng.permutation(lattice)[: counts.sum()]
    coord[real] += rng.uniform(-0.25, 0.25, size=(counts.sum(), 3))
    return {
        "t_coord": coord.ravel(),
        "t_type": np.repeat(np.arange(len(sel)), sel),
        "t_natoms": np.array([sum(sel), sum(sel), *sel]),
        "t_box": np.zeros(9),
        "t_mesh": np.zeros(0),
        "t_aparam": real.astype(float),
    }


def _evaluate(model: FrozenModel, frame: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return forces and atomic energies."""
    try:
        return _run(model, frame)
    except Exception as error:  # TensorFlow's own, and whatever it meets on its way
        msg = f"model {model.path} cannot be evaluated ({reason_of(error)})"
        raise ValueError(msg) from error


def _run(model: FrozenModel, frame: dict[str, np.ndarray]) -> list[np.ndarray]:
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        graph_def = tf.GraphDef.FromString(model.path.read_bytes())
        tf.import_graph_def(graph_def, name="")
        feed = {graph.get_tensor_by_name(f"{name}:0"): value for name, value in frame.items()}
        if "t_fparam" in model.nodes:
            feed[graph.get_tensor_by_name("t_fparam:0")] = np.linspace(
                -1, 1, model.number("fitting_attr/dfparam")
            )
        return session.run(["o_force:0", "o_atom_energy:0"], feed)


def _relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return the largest difference by the largest number; NaN if a number is not finite."""
    largest = np.abs(wanted).max(initial=np.finfo(float).tiny)
    return float(np.abs(found - wanted).max(initial=0.0) / largest)
