# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a machine needs at least for the work of a model, in the letters of docs/theory.md.

Work is counted in FLOP, in transcendental functions, and in bytes that have to come from where a
model's parameters lie. The limit is the time of the first two at the rates of a large product and
of tanh, or that of the third at the rate of a copy as large as the parameters, whichever is longer;
limits of parts that follow each other add up. Rates are measured on the same threads.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

ENVIRONMENT = 30  # FLOP of one row R of a pair, root and division counted as one each
ADAM = 12  # FLOP for each parameter
ADAM_NUMBERS = 7  # read: gradient, two moments, parameter; written: all but the gradient


@dataclass
class Rates:
    """What the machine does in a second.

    Attributes
    ----------
    flop
        In a large product.
    values
        Of tanh or exp, whichever is faster.
    nbytes
        Read and written by a copy.
    """

    flop: float
    values: float
    nbytes: float


@dataclass
class Work:
    """What has to be done."""

    flop: float = 0
    values: float = 0
    nbytes: float = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.flop + other.flop, self.values + other.values, self.nbytes + other.nbytes)

    def __mul__(self, count: float) -> "Work":
        return Work(self.flop * count, self.values * count, self.nbytes * count)

    def seconds(self, rates: Rates) -> float:
        """Return the limit."""
        computing = self.flop / rates.flop + self.values / rates.values
        return max(computing, self.nbytes / rates.nbytes)


class Model:
    """The sizes of a model, and its nets' series.

    Parameters
    ----------
    arguments
        Of `_kernels.Model`.
    table
        first, panels, C: the series of the embedding nets.
    """

    def __init__(self, arguments: dict[str, Any], table: tuple[np.ndarray, ...]) -> None:
        self.first, panels, C = table
        self.ends = panels.sum(axis=1)
        self.terms = C.shape[1]
        self.neuron = arguments["neuron"]
        self.M1, self.M2 = self.neuron[-1], arguments["M2"]
        self.ntypes = len(arguments["bias"])
        self.net = np.reshape(arguments["net"], (self.ntypes, self.ntypes))
        self.itemsize = C.itemsize
        widths = [self.M1 * self.M2, *arguments["fitting_neuron"], 1]
        self.layers = list(pairwise(widths))  # of a fitting net: inputs, outputs
        self.neurons = sum(arguments["fitting_neuron"])
        self.matrices = sum(rows * columns for rows, columns in self.layers)

    def npanels(self) -> list[int]:
        """Return how many panels each net has."""
        return np.diff(self.first).tolist()

    def pairs_in_panels(self, types: np.ndarray, positions: np.ndarray) -> "Panels":
        """Return how the pairs of a frame lie in panels."""
        i, j = np.nonzero(self.net[types[:, None], types] >= 0)
        i, j = i[i != j], j[i != j]
        net = self.net[types[i], types[j]]
        s = 1 / np.linalg.norm(positions[j] - positions[i], axis=1)
        panel = np.full(len(s), -1)
        for k, (low, high) in enumerate(pairwise(self.first)):
            of_net = net == k
            if high > low:
                place = np.searchsorted(self.ends[low : high - 1], s[of_net])
                panel[of_net] = low + place
        in_series = panel >= 0
        (used, _), pairs = np.unique(
            np.stack([panel[in_series], i[in_series]]), axis=1, return_counts=True
        )
        return Panels(pairs, np.unique(used), int(np.sum(~in_series)))


@dataclass
class Panels:
    """Pairs of each centre in each panel, panels that have pairs, and pairs without a series."""

    pairs: np.ndarray
    used: np.ndarray
    direct: int

    def npairs(self) -> int:
        """Return the number of all pairs."""
        return int(self.pairs.sum()) + self.direct

    def cheaper(self, of_pair: float, of_pair_in_moments: float, of_centre: float) -> float:
        """Return the FLOP of centres in panels, with rows of pairs or moments, as costs less."""
        moments = self.pairs * of_pair_in_moments + of_centre
        return float(np.minimum(self.pairs * of_pair, moments).sum())


# ---- Pairs, by the series -----------------------------------------------------------------------


def of_direct_pairs(model: Model, panels: Panels) -> Work:
    """Return the work of pairs without a series: G and G' through all layers."""
    layers = sum(a * b for a, b in pairwise([1, *model.neuron]))
    return Work(4 * layers, sum(model.neuron)) * panels.direct


def of_rows(model: Model, panels: Panels, derivative: bool, tangents: int = 1) -> Work:
    """Return the work on environment rows, T and, for each pair, T'; and on reading C."""
    polynomials = 2 * model.terms * tangents + (3 * model.terms if derivative else 0)
    nbytes = len(panels.used) * model.terms * model.M1 * model.itemsize
    return Work(panels.npairs() * (ENVIRONMENT + polynomials), 0, nbytes)


def embed(model: Model, panels: Panels) -> Work:
    """Return the work of X: of pairs T C and R^T G; or R^T T, and of centres M^T C."""
    terms, M1 = model.terms, model.M1
    products = panels.cheaper(2 * terms * M1 + 8 * M1, 8 * terms, 8 * terms * M1)
    direct = of_direct_pairs(model, panels) + Work(8 * M1 * panels.direct)
    return of_rows(model, panels, derivative=False) + Work(products) + direct


def force(model: Model, panels: Panels) -> Work:
    """Return the work of forces from A.

    Of pairs R A, its product with C, G = T C and A G, and a dot product with T'; or of centres
    C A^T, and of pairs its products with T and T', and a dot product of the latter with R. Each has
    the reverse of R besides.
    """
    terms, M1 = model.terms, model.M1
    products = panels.cheaper(4 * terms * M1 + 16 * M1 + 2 * terms, 16 * terms + 8, 8 * terms * M1)
    direct = of_direct_pairs(model, panels) + Work(16 * M1 * panels.direct)
    reverse = Work(panels.npairs() * ENVIRONMENT)
    return of_rows(model, panels, derivative=True) + Work(products) + direct + reverse


# ---- Descriptor and fitting nets ----------------------------------------------------------------


def descriptor(model: Model, natoms: int, products: int = 3) -> Work:
    """Return the work on D = X^T X[:, :M2], one product, and on its reverse, two."""
    return Work(8 * model.M1 * model.M2 * products * natoms)


def fitting(model: Model, counts: np.ndarray, mixed: bool = False) -> Work:
    """Return the work of e and de/dD, given atoms of each type.

    Forwards and backwards two FLOP for each parameter and atom; the parameters of the types that
    there are, read in each direction; if mixed, in float32.
    """
    natoms = int(counts.sum())
    read = 2 * model.matrices * np.count_nonzero(counts) * (4 if mixed else model.itemsize)
    return Work(4 * model.matrices * natoms, model.neurons * natoms, read)


def read_out(model: Model, counts: np.ndarray, mixed: bool = False) -> Work:
    """Return the work from X to energies and A."""
    return descriptor(model, int(counts.sum())) + fitting(model, counts, mixed)


# ---- Training -----------------------------------------------------------------------------------


def fit_series(model: Model, npanels: int) -> Work:
    """Return the work of the nets at the nodes of some panels, and of the gradient there."""
    layers = sum(a * b for a, b in pairwise([1, *model.neuron]))
    nodes = npanels * model.terms
    to_series = 2 * model.terms * model.M1
    return Work(nodes * (6 * layers + 2 * to_series), nodes * sum(model.neuron))


def embedding_gradients(model: Model, panels: Panels) -> Work:
    """Return the work of dC of X and of forces, and of dA of forces.

    Rows are those of embed, and for forces two for each pair, T with the tangent of R and T' with
    R times that of s.
    """
    terms, M1 = model.terms, model.M1
    of_X = panels.cheaper(2 * terms * M1 + 8 * M1, 8 * terms, 8 * terms * M1)
    of_forces = panels.cheaper(2 * (2 * terms * M1 + 8 * M1), 16 * terms, 8 * terms * M1)
    rows = of_rows(model, panels, derivative=True) + Work(panels.npairs() * ENVIRONMENT)
    # Rows of pairs of the direct way: forwards once more, and backwards through G and G'.
    direct = of_direct_pairs(model, panels) * 4
    return rows + rows + Work(of_X + 2 * of_forces) + direct


def fitting_gradient(model: Model, counts: np.ndarray) -> Work:
    """Return the work of the gradient of a loss on e and de/dD.

    Tangents forwards, derivatives by inputs and two products for each matrix; below the first
    layer, derivatives by tangents are not wanted. Parameters read twice, gradients of all written.
    """
    natoms = int(counts.sum())
    first = model.layers[0][0] * model.layers[0][1]
    flop = 2 * (5 * model.matrices - first) * natoms
    nbytes = (2 * np.count_nonzero(counts) + model.ntypes) * model.matrices * model.itemsize
    return Work(flop, 0, nbytes)


def optimizer(model: Model) -> Work:
    """Return the work of Adam on all parameters."""
    layers = sum(a * b for a, b in pairwise([1, *model.neuron]))
    nparameters = model.ntypes * model.matrices + (len(model.first) - 1) * layers
    return Work(ADAM * nparameters, 0, ADAM_NUMBERS * nparameters * model.itemsize)


# ---- Together -----------------------------------------------------------------------------------


def parts_of_evaluation(model: Model, types: np.ndarray, positions: np.ndarray) -> dict[str, Work]:
    """Return the work of each kernel of an evaluation of a frame."""
    panels = model.pairs_in_panels(types, positions)
    counts = np.bincount(types, minlength=model.ntypes)
    return {
        "embed": embed(model, panels),
        "read_out": read_out(model, counts),
        "force": force(model, panels),
    }


def parts_of_training(model: Model, frames: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Work]:
    """Return the work of each part of a training step on a batch of frames.

    The series of a batch are fitted for its interval alone: for the panels that have pairs.
    """
    all_panels = [model.pairs_in_panels(*frame) for frame in frames]
    counts = sum(np.bincount(types, minlength=model.ntypes) for types, _ in frames)
    natoms = int(counts.sum())
    pairs = sum(
        (embed(model, p) + force(model, p) + embedding_gradients(model, p) for p in all_panels),
        Work(),
    )
    used = np.unique(np.concatenate([panels.used for panels in all_panels]))
    return {
        "series": fit_series(model, len(used)),
        "pairs": pairs,
        "descriptor": descriptor(model, natoms, products=9),
        "fitting": fitting(model, counts),
        "its gradient": fitting_gradient(model, counts),
        "optimizer": optimizer(model),
    }


def nbytes_of_fitting(model: Model) -> int:
    """Return how large the parameters are."""
    return model.ntypes * model.matrices * model.itemsize


def limit(parts: dict[str, Work], rates: Rates) -> float:
    """Return the seconds that parts need, one after the other."""
    return sum(part.seconds(rates) for part in parts.values())
