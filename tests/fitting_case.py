# SPDX-License-Identifier: LGPL-3.0-or-later
"""Rows of descriptors and random fitting nets, for the kernels and for the reference."""

from functools import cache, cached_property
from itertools import pairwise

import implementations
import numpy as np
import reference
from embedding_case import TOLERANCE
from keeping import kept


class FittingCase:
    """Random rows of each type and random nets, for the kernels and for the reference."""

    def __init__(
        self,
        counts=(3, 0, 5),
        ninputs=37,
        neuron=(21, 21, 18),
        resnet_dt=True,
        activation="tanh",
        dtype=np.float64,
    ):
        rng = np.random.default_rng(0)
        self.dtype = dtype
        self.first = np.cumsum([0, *counts])
        self.shape = {"neuron": list(neuron), "resnet_dt": resnet_dt, "activation": activation}
        shapes = reference.parameters_per_fitting_net(ninputs, neuron, resnet_dt)
        self.D = rng.normal(size=(self.first[-1], ninputs)).astype(dtype)
        self.parameters = [
            (rng.normal(size=s) / np.sqrt(s[0])).astype(dtype) for _ in counts for s in shapes
        ]
        self.rng = rng

    def kernels(self, **options):
        Fitting = {
            np.float64: implementations.kernels.Fitting64,
            np.float32: implementations.kernels.Fitting32,
        }[self.dtype]
        return Fitting(self.first, self.D, parameters=self.parameters, **self.shape, **options)

    def e(self, D=None, parameters=None):
        """Return e by the reference, in float64."""
        D = self.D.astype(np.float64) if D is None else D
        if parameters is None:
            parameters = [p.astype(np.float64) for p in self.parameters]
        count = len(parameters) // (len(self.first) - 1)
        return np.concatenate(
            [
                reference.fitting_net(D[a:b], parameters[t * count : (t + 1) * count], **self.shape)
                for t, (a, b) in enumerate(pairwise(self.first))
            ]
        )

    # What the reference makes of the input, once for all kernels that are compared.

    @kept
    def move(self):
        """Return a direction of D with the derivative of e along it."""
        direction = self.rng.normal(size=self.D.shape)
        return direction, reference.derivative(self.e, self.D.astype(np.float64), direction)

    @cached_property
    def cotangents(self):
        """Those of e and of its derivative A."""
        shapes = self.D.shape[:1], self.D.shape
        return [self.rng.normal(size=shape).astype(self.dtype) for shape in shapes]

    @kept
    def gradient(self):
        """For D and each parameter a direction, the derivative of L along it, and L.

        L = sum (de e + dA A), by a stencil of five points.
        """
        arrays = [a.astype(np.float64) for a in (self.D, *self.parameters)]
        de, dA = self.cotangents

        def L(D, *parameters):
            derivative = reference.derivative(lambda x: self.e(x, parameters), D, dA)
            return np.sum(de * self.e(D, parameters)) + np.sum(derivative)

        step, found = (1e-6 if self.has_kinks else 1e-3), []
        for k, array in enumerate(arrays):
            direction = self.rng.normal(size=array.shape)
            direction /= max(np.linalg.norm(direction), 1)

            def L_at(t, k=k, array=array, direction=direction):
                return L(*arrays[:k], array + t * step * direction, *arrays[k + 1 :])

            wanted = (8 * (L_at(1) - L_at(-1)) - (L_at(2) - L_at(-2))) / (12 * step)
            found.append((direction, wanted, L_at(0)))
        return found

    @property
    def has_kinks(self):
        return self.shape["activation"].startswith(("relu", "silut"))

    def assert_close(self, found, wanted, scale=None):
        scale = max(np.abs(wanted).max(initial=0) if scale is None else scale, 1e-3)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE[self.dtype] * scale)


FITTING_CASES = {
    "plain": {},
    "float32": {"dtype": np.float32},
    "no rows": {"counts": (0, 0)},
    "one row each": {"counts": (1, 1, 1)},
    "more rows than a part": {"counts": (300, 2)},
    "many rows": {
        "counts": (48, 47),
        "ninputs": 200,
        "neuron": (130, 130),
        "dtype": np.float32,
    },
    "no timestep": {"resnet_dt": False},
    "no hidden layer": {"neuron": ()},
    "one hidden layer": {"neuron": (7,)},
    "whole packets": {"ninputs": 128, "neuron": (96, 96), "counts": (24, 9)},
    "wider than a part": {"ninputs": 200, "neuron": (130, 130), "dtype": np.float32},
    **{f"activation {a}": {"activation": a} for a in reference.ACTIVATIONS},
}


@cache
def fitting_case_of(name):
    case = FittingCase(**FITTING_CASES[name])
    case.name = name
    return case
