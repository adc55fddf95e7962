# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a graph on this package's operators makes of F(D): of each type, a F(D) + b.

The graph is what DeePMD-kit runs, so that it tells, and not the training input that a file may lack
or carry of another model. op/model_file/formula.cc does the same for C.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..frozen.description import PLUGIN
from ..frozen.model_file import FrozenModel
from .own_operators import BIAS_OF_POTENTIAL

DEEPEST = 64  # a model of this package is a dozen operators deep
SUMS = {"Identity", "Cast", "Reshape", "UnsortedSegmentSum"}  # from e_i to what DeePMD-kit reads
DTYPES = {1: np.float32, 2: np.float64}


class Affine(NamedTuple):
    """a F(D) + b.

    Attributes
    ----------
    a
        Of each type, [ntypes]; None if there is no F in it.
    b
        [ntypes], or a constant of any shape.
    """

    a: np.ndarray | None
    b: np.ndarray


class EnergyFormula:
    """The formula of one model.

    Parameters
    ----------
    model
        On the operators of this package.
    ntypes
        Number of types.
    of_vacuum
        Gives F(0) of each type, [ntypes], in the precision of the nets.
    """

    def __init__(
        self, model: FrozenModel, ntypes: int, of_vacuum: Callable[[], np.ndarray]
    ) -> None:
        self.model, self.ntypes, self.of_vacuum = model, ntypes, of_vacuum
        self._known: dict[str, Affine] = {}

    def evaluate(self) -> Affine:
        """Return the energies of atoms; of a compressed model, whose nets are scaled, only b.

        Raises
        ------
        ValueError
            If the graph computes something else.
        """
        whole = self.model.with_op(f"{PLUGIN}Potential")
        if whole:
            found = self._of(whole[0].input[BIAS_OF_POTENTIAL])
        else:
            energies, total = self._behind_sums("o_atom_energy"), self._behind_sums("o_energy")
            if energies != total:
                raise ValueError("its energy is not the sum of its atomic energies")
            found = self._of(energies)
        if found.b.shape != (self.ntypes,) or (found.a is None) != bool(whole):
            msg = "its energies are not those of its fitting nets and a bias of each type"
            raise ValueError(msg)
        return found

    def _node(self, name: str) -> Any:
        return self.model.nodes[name.split(":", maxsplit=1)[0]]

    def _behind_sums(self, name: str) -> str:
        for _ in range(DEEPEST):
            node = self._node(name)
            if node.op not in SUMS:
                break
            name = node.input[0]
        return name

    def _of(self, name: str, depth: int = 0) -> Affine:
        """Return what an input of an operator is."""
        if name not in self._known:
            if depth > DEEPEST:
                raise self._unknown(self._node(name))
            self._known[name] = self._computed(self._node(name), name, depth + 1)
        return self._known[name]

    def _computed(self, node: Any, name: str, depth: int) -> Affine:
        if node.op == f"{PLUGIN}RealAtoms" and name.endswith(":1"):  # the mask of real atoms
            return Affine(None, np.ones(self.ntypes))
        if ":" in name and not name.endswith(":0"):
            raise self._unknown(node)
        if node.op == "Const":
            found = self.model.constant(node.name)
            if found is None or found.dtype.name not in ("float32", "float64"):
                raise ValueError(f"its constant {node.name} has other numbers than a net")
            return Affine(None, found)
        if node.op == f"{PLUGIN}Energies":
            return self._of_energies(node)
        if node.op in ("Mul", "Add", "AddV2", "Sub"):
            return self._combined(node, *(self._of(name, depth) for name in node.input[:2]))
        if node.op not in ("Identity", "Cast", "GatherV2", "StridedSlice"):
            raise self._unknown(node)
        x = self._of(node.input[0], depth)
        if node.op == "Cast":
            dtype = DTYPES.get(node.attr["DstT"].type)
            if dtype is None:
                raise self._unknown(node)
            return Affine(None if x.a is None else x.a.astype(dtype), x.b.astype(dtype))
        if node.op == "GatherV2" and x.b.shape != (self.ntypes,):  # each atom's of each type's
            what = node.input[0].removesuffix("/read")
            raise ValueError(f"{what} is of size {x.b.size}, but there are {self.ntypes} types")
        return Affine(None, self._sliced(node, x)) if node.op == "StridedSlice" else x

    def _of_energies(self, node: Any) -> Affine:
        """Return F(D) or F(0); a mask beside D or 0 is 1, as energy_terms.py has it."""
        taken = node
        while taken.op in ("Cast", "ConcatV2", f"{PLUGIN}Energies"):
            taken = self._node(taken.input[1 if taken.op == f"{PLUGIN}Energies" else 0])
        if taken.op == f"{PLUGIN}Contract":
            return Affine(np.ones(self.ntypes), np.zeros(self.ntypes))
        is_zero = taken.op == "ZerosLike"
        if taken.op in ("Const", "Fill"):
            filling = self._of(taken.name if taken.op == "Const" else taken.input[1])
            is_zero = not filling.b.any()
        if not is_zero:
            msg = "its energies have those of its fitting nets for something else than D and 0"
            raise ValueError(msg)
        return Affine(None, self.of_vacuum())

    def _combined(self, node: Any, x: Affine, y: Affine) -> Affine:
        """Return a sum, a difference or a product, element by element."""
        if 1 not in (x.b.size, y.b.size) and x.b.shape != y.b.shape:
            raise ValueError(f"the inputs of its node {node.name} have different shapes")
        if node.op == "Mul":
            if x.a is not None and y.a is not None:
                raise self._unknown(node)
            a = x.a * y.b if x.a is not None else None if y.a is None else x.b * y.a
            return Affine(a, x.b * y.b)
        sign = -1 if node.op == "Sub" else 1
        zero = np.zeros_like
        a = None
        if x.a is not None or y.a is not None:
            a = (zero(y.a) if x.a is None else x.a) + sign * (zero(x.a) if y.a is None else y.a)
        return Affine(a, x.b + sign * y.b)

    def _sliced(self, node: Any, x: Affine) -> np.ndarray:
        """Return some elements of a constant."""
        begins, ends, strides = (self._integers(name) for name in node.input[1:4])
        masks = [node.attr[name].i for name in ("begin_mask", "end_mask", "shrink_axis_mask")]
        others = node.attr["ellipsis_mask"].i or node.attr["new_axis_mask"].i
        if x.a is not None or others or {*strides} - {1} or not len(begins) == len(ends):
            raise self._unknown(node)
        index: list[int | slice] = []
        for k, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            at_begin, at_end, shrinks = (mask >> k & 1 for mask in masks)
            bounds = slice(None if at_begin else begin, None if at_end else end)
            index.append(begin if shrinks else bounds)
        return np.asarray(x.b[tuple(index)])

    def _integers(self, name: str) -> list[int]:
        found = self.model.constant(self._node(name).name)
        if found is None or found.dtype.kind != "i":
            raise ValueError(f"{name} is not a constant of integers")
        return found.ravel().tolist()

    def _unknown(self, node: Any) -> ValueError:
        return ValueError(
            f"it computes its energies by {node.name}, an operator {node.op}, which models of "
            "deepmd-mask do not have there"
        )
