# SPDX-License-Identifier: LGPL-3.0-or-later
"""The kernels against the NumPy reference and finite differences, each by one test body."""

from functools import cache, cached_property
from itertools import pairwise

import numpy as np
import pytest
import reference
from implementations import INSTRUCTION_SETS, implementation, on  # noqa: F401

SLOTS = 12
NTYPES = 3
N = 17.0
TOLERANCE = {np.float64: 1e-11, np.float32: 2e-5}

everywhere = on(*INSTRUCTION_SETS, "cuda", "emulated")
kernels = None  # those that a test runs on


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

    @property
    def atoms(self):
        return kernels.RealAtoms(self.coord, self.types, self.mask, self.ntypes)

    def kernels(self, atoms, parameters=None, threads=1):
        Embedding = {np.float64: kernels.Embedding64, np.float32: kernels.Embedding32}[self.dtype]
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
        return {**names, "net": self.net, "parameters": parameters, **self.shape}

    def X(self, coord=None, parameters=None):
        """X by the reference, in float64."""
        coord = np.where(self.mask[..., None] > 0, self.coord if coord is None else coord, 0)
        return reference.embedded_environment(coord, **self.environment(parameters))

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

    @cached_property
    def moves(self):
        """Directions of all coordinates, with the derivatives of sum(A * X) along them."""
        directions = self.rng.normal(size=(3, *self.coord.shape))
        return [(d, reference.derivative(self.energy_at, self.coord, d)) for d in directions]

    @cached_property
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

    @cached_property
    def embed_grad(self):
        """Places, directions and derivatives of sum(A * X) along these."""
        parameters, found = self.environment()["parameters"], []
        for arrays, directions in self.directions:

            def E(t, arrays=arrays, directions=directions):
                moved = self.along(parameters, arrays, directions, t)
                return np.sum(self.A * self.X(parameters=moved))

            found.append((arrays, directions, reference.derivative(E, 0.0, 1.0)))
        return found

    @cached_property
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
        kinks = self.shape["activation"].startswith(("relu", "silut"))
        step, tolerance = (1e-6, 1e-7) if kinks else (1e-4, 1e-9)
        for arrays, directions in self.directions:
            size = np.linalg.norm([np.linalg.norm(d) for d in directions])
            units = [d / size for d in directions]

            def L_at(t, arrays=arrays, units=units):
                return L(self.A, self.along(parameters, arrays, units, t * step))

            wanted = (8 * (L_at(1) - L_at(-1)) - (L_at(2) - L_at(-2))) / (12 * step)
            found.append(((arrays, units, wanted), tolerance * max(abs(L_at(0)), 1)))
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
    "gentle nets, two sides": ({**MANY_PAIRS, "steepness": 0.4, "one_side": False}, (2, 5)),
    "gentle nets, float32": (
        {**MANY_PAIRS, "steepness": 0.5, "one_side": False, "dtype": np.float32},
        (1, 3),
    ),
    "steeper nets": ({**MANY_PAIRS, "steepness": 0.7}, (3, 6)),
    "steeper nets, float32": ({**MANY_PAIRS, "steepness": 0.7, "dtype": np.float32}, (2, 3)),
    "some too steep": ({**MANY_PAIRS, "steepness": 1.0, "one_side": False}, (0, 14)),
    "too steep nets": ({"nreal": (24, 14), "nslots": 50, "steepness": 1.5}, (0, 0)),
    "kinks": ({**MANY_PAIRS, "steepness": 0.1, "activation": "relu"}, (0, 0)),
    **{
        f"gentle {a}": ({**MANY_PAIRS, "steepness": 0.3, "activation": a}, (1, 1))
        for a in ("gelu", "silu", "sigmoid", "softplus", "linear")
    },
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


@cache
def case_of(name):
    return Case(**CASES[name])


@pytest.fixture(params=CASES, ids=lambda name: name.replace(" ", "-"))
def case(request):
    return case_of(request.param)


def test_real_atoms_are_sorted_by_type_frame_and_slot(case):
    np.testing.assert_array_equal(case.atoms.slot, reference.real_atoms(case.types, case.mask))


@pytest.mark.parametrize("name", SERIES)
def test_nets_get_series_where_these_are_good(name):
    _, (least, most) = SERIES[name]
    case = case_of(name)
    npanels = case.kernels(case.atoms).npanels()
    assert (min(npanels), max(npanels)) == (least, most)


@everywhere
def test_embed(case):
    case.assert_close(case.kernels(case.atoms).embed(), case.X_by_reference)


@everywhere
def test_embed_grad(case):
    """Parameters' gradient of sum(A * X)."""
    grads = case.kernels(case.atoms).embed_grad(case.A)
    for arrays, directions, wanted in case.embed_grad:
        case.assert_project([grads[k] for k in arrays], directions, wanted)


@everywhere
def test_force_is_minus_the_gradient(case):
    force, _, _ = case.kernels(case.atoms).force(case.A)
    virtual = np.setdiff1d(np.arange(case.mask.size), case.atoms.slot)
    assert not force.reshape(-1, 3)[virtual].any()
    for direction, wanted in case.moves:
        case.assert_project([-force], [direction], wanted)


@everywhere
def test_virial_is_minus_the_strain_derivative(case):
    _, virial, atom_virial = case.kernels(case.atoms).force(case.A)
    case.assert_close(atom_virial.sum(axis=1), virial)
    for strain, wanted in case.strains:  # dr_a = strain_ab r_b
        case.assert_project([-virial], [strain.reshape(-1, 9)], wanted)


@everywhere
def test_atomic_virial_is_that_of_pairs(case):
    """Together with the other outputs, by a random linear function of all."""
    outputs = case.kernels(case.atoms).force(case.A)
    (_, _, wanted), _ = case.force_grad[0]
    case.assert_project(outputs, case.cotangents.values(), wanted)


@everywhere
def test_force_grad_is_the_gradient_of_force(case):
    """Of L = the sum of cotangents times forces and virials, by A and by the parameters."""
    dA, grads = case.kernels(case.atoms).force_grad(case.A, **case.cotangents)
    for (arrays, directions, wanted), tolerance in case.force_grad:
        found = [dA] if arrays is None else [grads[k] for k in arrays]
        case.assert_project(found, directions, wanted, tolerance)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_threads_change_no_bit(dtype):
    case = Case(nreal=(90, 61), nslots=100, dtype=dtype, one_side=False)
    A, cotangents, atoms = case.random_X(), case.random_cotangents(), case.atoms

    def all_results(threads):
        run = case.kernels(atoms, threads=threads)
        dA, grads = run.force_grad(A, **cotangents)
        return [run.embed(), *run.embed_grad(A), *run.force(A), dA, *grads]

    alone = all_results(1)
    for threads in (2, 4):
        for one, many in zip(alone, all_results(threads), strict=True):
            np.testing.assert_array_equal(one, many)


@everywhere
def test_weights_scale_the_environment():
    """The interface holds a weight between 0 and 1, R_ij scaled by w_j."""
    case = Case(nreal=(6, 5))
    atoms = case.atoms
    weight = case.rng.uniform(0.2, 1, size=len(atoms.slot))
    atoms.set_weight(weight)
    case.mask.ravel()[atoms.slot] = weight
    case.assert_close(case.kernels(atoms).embed(), case.X())
    A = case.random_X()
    force, _, _ = case.kernels(atoms).force(A)
    direction = case.rng.normal(size=case.coord.shape)
    wanted = reference.derivative(lambda r: np.sum(A * case.X(r)), case.coord, direction)
    case.assert_project([-force], [direction], wanted)


@everywhere
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("size", "M1", "M2"), [(0, 5, 2), (3, 5, 5), (40, 100, 16), (17, 7, 1)])
def test_contraction(dtype, size, M1, M2):
    """D = X^T X[:, :M2], the form of which it is the diagonal, and the gradient of that."""
    rng = np.random.default_rng(0)
    bits = np.dtype(dtype).itemsize * 8
    contract = getattr(kernels, f"contract{bits}")
    X, Y = rng.normal(size=(2, size, 4, M1)).astype(dtype)
    gB = rng.normal(size=(size, M1, M2)).astype(dtype)
    tolerance = {"rtol": 0, "atol": 200 * np.finfo(dtype).eps}
    D = np.einsum("ica,icb->iab", X, X[:, :, :M2])
    np.testing.assert_allclose(contract(X, X, M2, threads=2), D, **tolerance)
    B = np.einsum("ica,icb->iab", X, Y[:, :, :M2]) + np.einsum("ica,icb->iab", Y, X[:, :, :M2])
    np.testing.assert_allclose(contract(X, Y, M2, threads=2), B / 2, **tolerance)
    gX = getattr(kernels, f"contract_reverse{bits}")(Y, gB, M2, threads=2)
    direction = rng.normal(size=X.shape).astype(dtype)
    wanted = np.sum(contract(direction, Y, M2) * gB, dtype=np.float64)
    scale = np.linalg.norm(gX) * np.linalg.norm(direction)
    found = np.sum(gX * direction, dtype=np.float64)
    assert found == pytest.approx(
        wanted, rel=0, abs=float(20 * np.finfo(dtype).eps * max(scale, 1))
    )


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
        Fitting = {np.float64: kernels.Fitting64, np.float32: kernels.Fitting32}[self.dtype]
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

    @cached_property
    def move(self):
        """A direction of D with the derivative of e along it."""
        direction = self.rng.normal(size=self.D.shape)
        return direction, reference.derivative(self.e, self.D.astype(np.float64), direction)

    @cached_property
    def cotangents(self):
        """Those of e and of its derivative A."""
        shapes = self.D.shape[:1], self.D.shape
        return [self.rng.normal(size=shape).astype(self.dtype) for shape in shapes]

    @cached_property
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
    "no timestep": {"resnet_dt": False},
    "no hidden layer": {"neuron": ()},
    "one hidden layer": {"neuron": (7,)},
    "whole packets": {"ninputs": 128, "neuron": (96, 96), "counts": (24, 9)},
    "wider than a part": {"ninputs": 200, "neuron": (130, 130), "dtype": np.float32},
    **{f"activation {a}": {"activation": a} for a in reference.ACTIVATIONS},
}


@cache
def fitting_case_of(name):
    return FittingCase(**FITTING_CASES[name])


@pytest.fixture(params=FITTING_CASES, ids=lambda name: name.replace(" ", "-"))
def fitting(request):
    return fitting_case_of(request.param)


@everywhere
def test_energies_and_their_derivative(fitting):
    e, A, _ = fitting.kernels(threads=2).energies()
    fitting.assert_close(e, fitting.e())
    direction, wanted = fitting.move
    fitting.assert_close(
        np.sum(A * direction, axis=1),
        wanted,
        scale=np.linalg.norm(A) + np.abs(wanted).max(initial=0),
    )


@everywhere
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("nreal", [(7, 4), (0, 0)])
def test_energies_of_atoms_and_their_derivative_by_X(dtype, nreal):
    """With weights between 0 and 1, E = sum w_i (F(D_i) + b)."""
    case = Case(nreal=nreal, dtype=dtype)
    atoms, M2 = case.atoms, 3
    weight = case.rng.uniform(0.2, 1, size=len(atoms.slot))
    atoms.set_weight(weight)
    X = case.random_X().astype(dtype)
    counts = np.diff(atoms.first[:: case.nframes])
    fitting = FittingCase(counts, ninputs=X.shape[2] * M2, dtype=dtype)
    bias = np.array([-100.0, 200.0, 300.0])
    energy, atom_energy, A = fitting.kernels(threads=2).read_out(atoms, X, M2, bias)

    def energies(X):
        D = np.einsum("ica,icb->iab", X, X[:, :, :M2])
        return weight * (fitting.e(D.reshape(fitting.D.shape)) + np.repeat(bias, counts))

    wanted = np.zeros(case.mask.size)
    wanted[atoms.slot] = energies(X.astype(np.float64))
    fitting.assert_close(atom_energy.ravel(), wanted)
    fitting.assert_close(energy, wanted.reshape(case.mask.shape).sum(axis=1))
    direction = case.rng.normal(size=X.shape)
    by_direction = reference.derivative(lambda X: energies(X).sum(), X.astype(float), direction)
    scale = np.linalg.norm(A) * np.linalg.norm(direction)
    fitting.assert_close(np.sum(A * direction), by_direction, scale=scale)


@everywhere
def test_gradient_of_energies_and_of_their_derivative(fitting):
    """Of D and of the parameters."""
    run = fitting.kernels()
    _, _, z = run.energies()
    dD, dparameters = run.energies_grad(z, *fitting.cotangents)
    tolerance = max(1e-7 if fitting.has_kinks else 1e-10, 10 * TOLERANCE[fitting.dtype])
    for found, (direction, wanted, L) in zip([dD, *dparameters], fitting.gradient, strict=True):
        scale = np.linalg.norm(found) * np.linalg.norm(direction) + abs(L)
        assert np.sum(found * direction) == pytest.approx(wanted, rel=0, abs=tolerance * scale)


def test_threads_change_no_bit_of_energies():
    case = FittingCase(counts=(70, 600, 3), ninputs=150, neuron=(100, 100))
    de, dA = case.rng.normal(size=len(case.D)), case.rng.normal(size=case.D.shape)

    def all_results(threads):
        run = case.kernels(threads=threads)
        e, A, z = run.energies()
        dD, dparameters = run.energies_grad(z, de, dA)
        return [e, A, dD, *dparameters]

    for one, more in zip(all_results(1), all_results(4), strict=True):
        np.testing.assert_array_equal(one, more)


@on("cpu", "cuda", "emulated")
def test_environment_matrix(case):
    """R and its reverse, which have no net: dense pairs, frame after frame."""
    atoms = case.atoms
    R = kernels.environment(atoms)

    def wanted(coord):
        blocks = [np.zeros((0, 4))]
        for frame in range(case.nframes):
            slots = [s for s in atoms.slot if s // case.mask.shape[1] == frame]
            r = coord.reshape(-1, 3)[slots]
            d = r[None] - r[:, None]
            r2 = np.sum(d * d, axis=2) + np.eye(len(slots))
            block = np.concatenate([1 / np.sqrt(r2)[..., None], d / r2[..., None]], axis=2)
            block *= 1 - np.eye(len(slots))[..., None]
            blocks.append(block.reshape(-1, 4))
        return np.concatenate(blocks)

    case.assert_close(R, wanted(case.coord))
    dR = case.rng.normal(size=R.shape)
    force, virial, atom_virial = kernels.environment_force(atoms, dR)
    direction = case.rng.normal(size=case.coord.shape)
    along = reference.derivative(wanted, case.coord, direction)
    case.assert_project([-force], [direction], np.sum(dR * along))
    cotangents = case.random_cotangents()
    ddR = kernels.environment_force_grad(atoms, **cotangents)
    outputs = (force, virial, atom_virial)
    loss = sum(np.sum(c * o) for c, o in zip(cotangents.values(), outputs, strict=True))
    case.assert_project([ddR], [dR], loss)


def clouds():
    """Return points among which the closest two are not easily found."""
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(200, 3))
    grid = np.stack(np.meshgrid(*[np.arange(6.0)] * 3), axis=-1).reshape(-1, 3)
    return {
        "cloud": cloud,
        "plane": cloud * [1, 1, 0],
        "line": cloud * [0, 0, 1],
        "grid": rng.permutation(grid),
        "far apart": np.concatenate([cloud, cloud + 1e5]) * [1, 1e-3, 1],
        "one": cloud[:1],
    }


def distances2(points):
    """Return the squares of all distances, 0 added to 0 on the diagonal."""
    x, y, z = np.moveaxis(points[:, None] - points, -1, 0)
    return x * x + y * y + z * z


@pytest.mark.parametrize("name", clouds())
def test_shortest_distance(name):
    points = clouds()[name]
    shape = (1, len(points))
    r2 = distances2(points)
    r2[np.diag_indices_from(r2)] = np.inf
    atoms = kernels.RealAtoms(points, np.zeros(shape, np.int32), np.ones(shape), 1)
    assert atoms.min_distance == np.sqrt(r2.min())  # to the last bit


@pytest.mark.parametrize("name", ["cloud", "plane", "line", "grid", "far apart"])
def test_of_several_coincidences_the_first_is_named(name):
    points = clouds()[name].copy()
    pairs = [(170, 12), (40, 169), (12, 55), (90, 91)]
    for atom, other in pairs:
        points[atom] = points[other] + [0, 3e-7, 0]
    shape = (1, len(points))
    close = np.argwhere(np.triu(distances2(points) < 1e-12, 1))
    one, other = close[0]
    assert len(close) >= len(pairs) - 1
    message = f"^frame 0, atom {one}: at the same point as atom {other} "
    with pytest.raises(ValueError, match=message):
        kernels.RealAtoms(points, np.zeros(shape, np.int32), np.ones(shape), 1)
