# SPDX-License-Identifier: LGPL-3.0-or-later
"""Random frames and nets, for the kernels and for the reference."""

from functools import cache, cached_property
from itertools import pairwise

import implementations
import numpy as np
import pytest
import reference
from keeping import kept

SLOTS = 12
NTYPES = 3
N = 17.0
TOLERANCE = {np.float64: 1e-11, np.float32: 2e-5}


class Case:
    """Random frames and nets, for the kernels and for the reference."""

    def __init__(
        self,
        seed=0,
        nreal=(7, 4),
        nslots=SLOTS,
        one_side=True,
        resnet_dt=True,
        activation="tanh",
        neuron=(5, 10, 10, 7),
        excluded=(),
        steepness=0.7,
        dtype=np.float64,
        ntypes=NTYPES,
        ngroups=None,
    ):
        rng = np.random.default_rng(seed)
        self.ntypes = ntypes
        self.dtype = dtype
        self.nframes = len(nreal)
        self.coord = rng.normal(scale=2.0, size=(self.nframes, nslots, 3))
        self.types = np.sort(rng.integers(ntypes, size=nslots))[None].repeat(self.nframes, 0)
        self.mask = np.zeros((self.nframes, nslots))
        for frame, count in enumerate(nreal):
            self.mask[frame, rng.permutation(nslots)[:count]] = 1
        self.coord[self.mask == 0] = np.nan  # never read
        nnets = ntypes if one_side else ntypes**2
        self.net = [
            -1 if (i, j) in excluded or (j, i) in excluded else (j if one_side else i * ntypes + j)
            for i in range(ntypes)
            for j in range(ntypes)
        ]
        self.shape = {"neuron": list(neuron), "resnet_dt": resnet_dt, "activation": activation}
        shapes = reference.parameters_per_net(neuron, resnet_dt) * nnets
        self.parameters = [rng.normal(scale=steepness, size=s).astype(dtype) for s in shapes]
        self.rng = rng
        self.groups = None
        if ngroups:  # each with a weight of its own, but for some that are there as a whole
            self.groups = rng.integers(ngroups, size=self.mask.shape)
            weights = rng.uniform(0.01, 1.3, size=(self.nframes, ngroups)).clip(0, 1)
            self.mask *= np.take_along_axis(weights, self.groups, axis=1)

    @property
    def atoms(self):
        arguments = self.coord, self.types, self.mask, self.ntypes, self.groups
        return implementations.kernels.RealAtoms(*arguments)

    def kernels(self, atoms, parameters=None, threads=1):
        Embedding = {
            np.float64: implementations.kernels.Embedding64,
            np.float32: implementations.kernels.Embedding32,
        }[self.dtype]
        return Embedding(
            atoms,
            net=self.net,
            parameters=parameters or self.parameters,
            n=N,
            threads=threads,
            **self.shape,
        )

    def environment(self, parameters=None):
        """Return what the reference takes besides coordinates, in float64."""
        parameters = parameters or [p.astype(np.float64) for p in self.parameters]
        names = {"types": self.types, "mask": self.mask, "ntypes": self.ntypes, "n": N}
        names["groups"] = self.groups
        return {**names, "net": self.net, "parameters": parameters, **self.shape}

    def X(self, coord=None, parameters=None, **changes):
        """X by the reference, in float64."""
        coord = np.where(self.mask[..., None] > 0, self.coord if coord is None else coord, 0)
        environment = {**self.environment(parameters), **changes}
        return reference.embedded_environment(coord, **environment)

    def random_X(self):
        shape = (np.count_nonzero(self.mask), 4, self.shape["neuron"][-1])  # that of X
        return self.rng.normal(size=shape).astype(self.dtype)

    def random_cotangents(self):
        nslots = self.mask.shape[1]
        return {
            "force": self.rng.normal(size=(self.nframes, nslots, 3)),
            "virial": self.rng.normal(size=(self.nframes, 9)),
            "atom_virial": self.rng.normal(size=(self.nframes, nslots, 9)),
        }

    # Input for the kernels and what the reference makes of it, once for all that are compared.

    @cached_property
    def X_by_reference(self):
        return self.X()

    @cached_property
    def A(self):
        return self.random_X()

    @cached_property
    def cotangents(self):
        return self.random_cotangents()

    @kept
    def moves(self):
        """Directions of all coordinates, with the derivatives of sum(A * X) along them."""
        directions = self.rng.normal(size=(3, *self.coord.shape))
        return [(d, reference.derivative(self.energy_at, self.coord, d)) for d in directions]

    @cached_property
    def weight_gradient(self):
        """Derivative of sum(A * X) by the weight of each atom, A as it is."""
        return reference.weight_gradient(lambda w: np.sum(self.A * self.X(mask=w)), self.mask)

    @kept
    def strains(self):
        """Strains [nframes, 3, 3] with the derivatives of sum(A * X) along them."""
        directions = self.rng.normal(size=(3, self.nframes, 3, 3))
        return [
            (d, reference.derivative(self.energy_at, self.coord, self.coord @ d.mT))
            for d in directions
        ]

    def along(self, parameters, arrays, directions, t):
        """Return the parameters with those arrays moved by t along directions."""
        moved = [*parameters]
        for k, direction in zip(arrays, directions, strict=True):
            moved[k] = parameters[k] + t * direction
        return moved

    @cached_property
    def directions(self):
        """For each array of a net, the places where the nets' are, and directions for these."""
        count = len(reference.parameters_per_net(self.shape["neuron"], self.shape["resnet_dt"]))
        places = [range(k, len(self.parameters), count) for k in range(count)]
        return [
            (arrays, [self.rng.normal(size=self.parameters[k].shape) for k in arrays])
            for arrays in places
        ]

    @kept
    def embed_grad(self):
        """Places, directions and derivatives of sum(A * X) along these."""
        parameters, found = self.environment()["parameters"], []
        for arrays, directions in self.directions:

            def E(t, arrays=arrays, directions=directions):
                moved = self.along(parameters, arrays, directions, t)
                return np.sum(self.A * self.X(parameters=moved))

            found.append((arrays, directions, reference.derivative(E, 0.0, 1.0)))
        return found

    @kept
    def force_grad(self):
        """Places, directions and derivatives of L along these, and tolerances.

        The derivative by parameters takes a stencil of five points; where there are kinks with
        steps so small that none is met.
        """
        environment = self.environment()
        parameters = environment.pop("parameters")
        coord = np.where(self.mask[..., None] > 0, self.coord, 0)

        def L(A, parameters):
            arguments = {**self.cotangents, **environment, "parameters": parameters}
            return reference.loss_of_forces(A, coord, **arguments)

        # L is linear in A.
        found = [
            ((None, [A], L(A, parameters)), 0.0)
            for A in (self.A, self.rng.normal(size=self.A.shape))
        ]
        size_of_L = max(abs(found[0][0][2]), 1)
        kinks = self.shape["activation"].startswith(("relu", "silut"))
        step, tolerance = (1e-6, 1e-7) if kinks else (1e-4, 1e-9)
        for arrays, directions in self.directions:
            size = np.linalg.norm([np.linalg.norm(d) for d in directions])
            units = [d / size for d in directions]

            def L_at(t, arrays=arrays, units=units):
                return L(self.A, self.along(parameters, arrays, units, t * step))

            wanted = (8 * (L_at(1) - L_at(-1)) - (L_at(2) - L_at(-2))) / (12 * step)
            found.append(((arrays, units, wanted), tolerance * size_of_L))
        return found

    def energy_at(self, coord):
        return np.sum(self.A * self.X(coord))

    def assert_close(self, found, wanted, scale=None):
        """Within the tolerance of the precision times the largest number wanted, or scale."""
        scale = max(np.abs(wanted).max(initial=0) if scale is None else scale, 1e-3)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE[self.dtype] * scale)

    def assert_project(self, arrays, directions, wanted, tolerance=0.0):
        """Check sum(arrays * directions), to the rounding of its terms or a tolerance."""
        pairs = [(a.astype(np.float64), d) for a, d in zip(arrays, directions, strict=True)]
        sizes = np.array([[np.linalg.norm(a), np.linalg.norm(d)] for a, d in pairs])
        scale = np.prod(np.linalg.norm(sizes, axis=0))
        tolerance = max(tolerance, TOLERANCE[self.dtype] * max(scale, 1e-3))
        assert sum(np.sum(a * d) for a, d in pairs) == pytest.approx(wanted, rel=0, abs=tolerance)


MANY_PAIRS = {"nreal": (40, 25), "nslots": 70}  # so many that nets get series
SERIES = {  # whose nets have so many panels, at least and at most
    "gentle nets": ({**MANY_PAIRS, "steepness": 0.1}, (1, 1)),
    "gentle nets, two sides": ({**MANY_PAIRS, "steepness": 0.4, "one_side": False}, (1, 4)),
    "gentle nets, float32": (
        {**MANY_PAIRS, "steepness": 0.5, "one_side": False, "dtype": np.float32},
        (1, 3),
    ),
    "steeper nets": ({**MANY_PAIRS, "steepness": 0.7}, (3, 4)),
    "steeper nets, float32": ({**MANY_PAIRS, "steepness": 0.7, "dtype": np.float32}, (2, 3)),
    "some too steep": ({**MANY_PAIRS, "steepness": 1.0, "one_side": False}, (0, 14)),
    "too steep nets": ({"nreal": (24, 14), "nslots": 50, "steepness": 1.5}, (0, 0)),
    "kinks": ({**MANY_PAIRS, "steepness": 0.1, "activation": "relu"}, (0, 0)),
    **{
        f"gentle {a}": ({**MANY_PAIRS, "steepness": 0.3, "activation": a}, (1, 1))
        for a in ("gelu", "silu", "sigmoid", "softplus", "linear")
    },
    # Parts of all sizes of packets, in all instruction sets.
    "wide nets": ({**MANY_PAIRS, "steepness": 0.3, "neuron": (5, 107)}, (1, 2)),
    "wide nets, float32": (
        {**MANY_PAIRS, "steepness": 0.3, "neuron": (5, 107), "dtype": np.float32},
        (1, 1),
    ),
    "few pairs": ({"nreal": (4,)}, (0, 0)),
    "frames of one atom": ({"nreal": (1,) * 40}, (0, 0)),
}
CASES = {
    **{name: options for name, (options, _) in SERIES.items()},
    "one side": {},
    "two sides": {"one_side": False},
    "float32": {"dtype": np.float32},
    "no timestep": {"resnet_dt": False},
    "one layer": {"neuron": (6,)},
    "first layer skips": {"neuron": (1, 2, 4)},
    "excluded": {"excluded": [(0, 1), (2, 2)]},
    "excluded, two sides": {"excluded": [(0, 1)], "one_side": False},
    "no real atom": {"nreal": (0, 0)},
    "one real atom": {"nreal": (1, 0)},
    "two real atoms": {"nreal": (2, 1)},
    "all real": {"nreal": (SLOTS, SLOTS)},
    "300 slots": {"nreal": (40, 3, 25), "nslots": 300},
    **{f"activation {a}": {"activation": a} for a in reference.ACTIVATIONS},
}


def split(first, panels, parts, nets):
    """Cut each panel into equal parts, and interpolate the nets there."""
    middle, half_width = np.repeat(panels, parts, axis=0).T
    offset = np.tile((2 * np.arange(parts) + 1) / parts - 1, len(panels))
    panels = np.column_stack([middle + offset * half_width, half_width / parts])
    first = first * parts
    count = len(nets["parameters"]) // (len(first) - 1)
    shape = [nets[name] for name in ("neuron", "resnet_dt", "activation")]
    C = [
        reference.series(panels[low:high], nets["parameters"][k * count : (k + 1) * count], *shape)
        for k, (low, high) in enumerate(pairwise(first))
    ]
    return first, panels, np.concatenate(C)


@cache
def case_of(name, ngroups=None):
    case = Case(**CASES[name], ngroups=ngroups)
    case.name = name, ngroups
    return case
