# SPDX-License-Identifier: LGPL-3.0-or-later
"""The smooth edge of a region: residues in the buffer, inside the radius, are there in part.

With S the quintic that falls from 1 at 0 to 0 at 1, and d_ac the distance of atom a from centre c,
residue R has the weight

    w_R = 1 - prod_a prod_c [1 - S((d_ac - radius + buffer) / buffer)].

The energy of a region is E = E_M - sum_kinds Phi(W), where E_M is the model's at these weights, W
the sum of w_R over the residues of a kind, and Phi'(W) = alpha + beta W what a residue of the kind
gives on entering, so that it costs nothing on average. Beside the forces at fixed w there are

    F_a = -(dE_M/dw_R - Phi'(W)) dw_R/dr_a,

and the centre feels the reaction.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Reference(NamedTuple):
    """What a residue of a kind gives on entering: Phi'(W) = alpha + beta W.

    Attributes
    ----------
    alpha, beta
        In kJ/mol.
    least, most
        The range of W that they were fitted in; NaN if not known.
    """

    alpha: float
    beta: float
    least: float = np.nan
    most: float = np.nan


class Weights(NamedTuple):
    """How far residues are in a region, in one configuration.

    Attributes
    ----------
    w
        [nresidues], w_R.
    atom, centre, residue
        [m] int, pairs that change weights, and the residue of the atom.
    slope
        [m, 3], dw_R/dr_a by each pair; that by the centre is the negative.
    """

    w: np.ndarray
    atom: np.ndarray
    centre: np.ndarray
    residue: np.ndarray
    slope: np.ndarray

    def forces(self, entering: "Entering") -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield atoms [m] int, some more than once, and what they feel of it [m, 3]: two times."""
        costs = np.zeros(len(self.w))
        costs[entering.residues] = entering.costs
        on_atoms = -costs[self.residue][:, None] * self.slope
        yield self.atom, on_atoms
        yield self.centre, -on_atoms


class Entering(NamedTuple):
    """What it costs to enter a region, in one configuration.

    Attributes
    ----------
    W
        [nkinds], the sum of w_R over residues of each kind.
    Phi
        The sum over kinds.
    residues
        [k] int, those with 0 < w_R < 1.
    gradients
        [k], dE_M/dw_R of these.
    costs
        [k], dE_M/dw_R - Phi'(W).
    """

    W: np.ndarray
    Phi: float
    residues: np.ndarray
    gradients: np.ndarray
    costs: np.ndarray


class Edge(NamedTuple):
    """The smooth edge of a region of one system. Energies are in kJ/mol, lengths in nm.

    Attributes
    ----------
    buffer
        How wide it is.
    kinds
        The names of all kinds of residues.
    kind
        [nresidues] int, which of them each residue is.
    references
        [nkinds, 4], a Reference for each kind, 0 if it has none.
    known
        [nkinds] bool, the kinds that have one.
    """

    buffer: float
    kinds: list[str]
    kind: np.ndarray
    references: np.ndarray
    known: np.ndarray

    def weigh(
        self, d: np.ndarray, residue: np.ndarray, always: np.ndarray, radius: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the weights of residues [nresidues], and their slopes [m, 3].

        Parameters
        ----------
        d
            [m, 3], from centres to atoms that tell, below the radius.
        residue
            [m] int, the residue of each of these atoms.
        always
            [nresidues] bool, those of weight 1 wherever they are, of which d has no atom.
        radius
            Of the region.
        """
        distance = np.linalg.norm(d, axis=1)
        x = np.clip((distance - radius + self.buffer) / self.buffer, 0, 1)
        # The logarithm of 1 - S, as exact where that is near 0 as where S is; they add up.
        with np.errstate(divide="ignore", invalid="ignore"):  # -inf at x = 0: a weight of 1
            absent = np.where(x < 0.5, np.log(_rise(x)), np.log1p(-_rise(1 - x)))
        product = np.bincount(residue, absent, minlength=len(always))
        w = np.where(always, 1.0, -np.expm1(product))
        slope = np.zeros_like(d)
        moves = (x > 0) & (product[residue] > -np.inf)  # elsewhere S' is 0, or the other factors
        x, distance = x[moves], distance[moves]
        others = np.exp(product[residue[moves]] - absent[moves])
        S1 = -30 * x**2 * (1 - x) ** 2 / self.buffer
        slope[moves] = (others * S1 / distance)[:, None] * d[moves]
        return w, slope

    def enter(self, w: np.ndarray, gradient: np.ndarray, always: np.ndarray) -> Entering:
        """Return what entering costs.

        Parameters
        ----------
        w
            [nresidues], w_R.
        gradient
            [nresidues], dE_M/dw_R.
        always
            [nresidues] bool, as of `weigh`.
        """
        inside = np.flatnonzero(w)
        W = np.bincount(self.kind[inside], w[inside], minlength=len(self.kinds))
        alpha, beta, *_ = self.references.T
        Phi = np.sum(alpha * W + beta * W**2 / 2)
        residues = inside[(w[inside] < 1) & ~always[inside]]
        found, given = gradient[residues], (alpha + beta * W)[self.kind[residues]]
        return Entering(W, float(Phi), residues, found, found - given)

    def unknown(self, w: np.ndarray, always: np.ndarray) -> np.ndarray:
        """Return the residues [n] int that are in a region, not always, without a reference."""
        inside = np.flatnonzero((w > 0) & ~always)
        return inside[~self.known[self.kind[inside]]]


def _rise(x: np.ndarray) -> np.ndarray:
    """Return 1 - S(x), the quintic that rises from 0 at 0 to 1 at 1; S(x) is that of 1 - x."""
    return x**3 * (10 + x * (6 * x - 15))
