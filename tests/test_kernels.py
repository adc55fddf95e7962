# SPDX-License-Identifier: LGPL-3.0-or-later
"""The kernels against the NumPy reference and finite differences, each by one test body."""

from itertools import pairwise

import cuda_kernels
import numpy as np
import pytest
import reference

from deepmd_mask import _kernels

SLOTS = 12
NTYPES = 3
N = 17.0
TOLERANCE = {np.float64: 1e-11, np.float32: 2e-5}


@pytest.fixture(params=["avx512", "avx2", "baseline"])
def isa(request, monkeypatch):
    """Run the test with each instruction set that this machine has."""
    monkeypatch.setenv("DP_MASK_ISA", request.param)
    try:
        assert _kernels.instruction_set() == request.param
    except ValueError as error:
        pytest.skip(str(error))
    return request.param


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
        dtype=np.float64,
    ):
        rng = np.random.default_rng(seed)
        self.dtype = dtype
        self.nframes = len(nreal)
        self.coord = rng.normal(scale=2.0, size=(self.nframes, nslots, 3))
        self.types = np.sort(rng.integers(NTYPES, size=nslots))[None].repeat(self.nframes, 0)
        self.mask = np.zeros((self.nframes, nslots))
        for frame, count in enumerate(nreal):
            self.mask[frame, rng.permutation(nslots)[:count]] = 1
        self.coord[self.mask == 0] = np.nan  # never read
        nnets = NTYPES if one_side else NTYPES**2
        self.net = [
            -1 if (i, j) in excluded or (j, i) in excluded else (j if one_side else i * NTYPES + j)
            for i in range(NTYPES)
            for j in range(NTYPES)
        ]
        self.shape = {"neuron": list(neuron), "resnet_dt": resnet_dt, "activation": activation}
        shapes = reference.parameters_per_net(neuron, resnet_dt) * nnets
        self.parameters = [rng.normal(scale=0.7, size=s).astype(dtype) for s in shapes]
        self.rng = rng

    @property
    def atoms(self):
        return _kernels.RealAtoms(self.coord, self.types, self.mask, NTYPES)

    def kernels(self, atoms, parameters=None, threads=1):
        Embedding = {np.float64: _kernels.Embedding64, np.float32: _kernels.Embedding32}[self.dtype]
        return Embedding(
            atoms,
            net=self.net,
            parameters=parameters or self.parameters,
            n=N,
            threads=threads,
            **self.shape,
        )

    def X(self, coord=None, parameters=None):
        """X by the reference, in float64."""
        coord = self.coord if coord is None else coord
        parameters = parameters or [p.astype(np.float64) for p in self.parameters]
        return reference.embedded_environment(
            np.where(self.mask[..., None] > 0, coord, 0),
            self.types,
            self.mask,
            NTYPES,
            N,
            self.net,
            parameters,
            **self.shape,
        )

    def random_X(self):
        return self.rng.normal(size=self.X().shape).astype(self.dtype)

    def random_cotangents(self):
        nslots = self.mask.shape[1]
        return {
            "force": self.rng.normal(size=(self.nframes, nslots, 3)),
            "virial": self.rng.normal(size=(self.nframes, 9)),
            "atom_virial": self.rng.normal(size=(self.nframes, nslots, 9)),
        }

    def assert_close(self, found, wanted, scale=None):
        """Within the tolerance of the precision times the largest number wanted, or scale."""
        scale = max(np.abs(wanted).max(initial=0) if scale is None else scale, 1e-3)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE[self.dtype] * scale)

    def assert_projects(self, array, direction, wanted):
        """Check sum(array * direction), to the rounding of the terms of that sum."""
        scale = np.linalg.norm(array) * np.linalg.norm(direction)
        self.assert_close(np.sum(array.astype(np.float64) * direction), wanted, scale)


CASES = {
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


@pytest.fixture(params=CASES, ids=lambda name: name.replace(" ", "-"))
def case(request):
    return Case(**CASES[request.param])


def test_real_atoms_are_sorted_by_type_frame_and_slot(case):
    np.testing.assert_array_equal(case.atoms.slot, reference.real_atoms(case.types, case.mask))


def test_embed(case, isa):
    case.assert_close(case.kernels(case.atoms).embed(), case.X())


def test_embed_grad(case, isa):
    """Parameters' gradient of sum(dX * X), along a random direction for each parameter."""
    dX = case.random_X()
    grads = case.kernels(case.atoms).embed_grad(dX)
    parameters = [p.astype(np.float64) for p in case.parameters]
    for k, grad in enumerate(grads):
        direction = case.rng.normal(size=grad.shape)
        wanted = reference.derivative(
            lambda p, k=k: np.sum(
                dX * case.X(parameters=[*parameters[:k], p, *parameters[k + 1 :]])
            ),
            parameters[k],
            direction,
        )
        case.assert_projects(grad, direction, wanted)


def test_force_is_minus_the_gradient(case, isa):
    A = case.random_X()
    force, _, _ = case.kernels(case.atoms).force(A)
    rows = case.atoms.slot
    assert not force.reshape(-1, 3)[np.setdiff1d(np.arange(case.mask.size), rows)].any()
    for _ in range(3):
        direction = case.rng.normal(size=case.coord.shape)
        wanted = reference.derivative(lambda r: np.sum(A * case.X(r)), case.coord, direction)
        case.assert_projects(-force, direction, wanted)


def test_virial_is_minus_the_strain_derivative(case, isa):
    A = case.random_X()
    _, virial, atom_virial = case.kernels(case.atoms).force(A)
    case.assert_close(atom_virial.sum(axis=1), virial)
    for frame in range(case.nframes):
        for a, b in np.ndindex(3, 3):
            stretch = np.zeros_like(case.coord)  # dr_a = strain_ab r_b
            stretch[frame, :, a] = np.nan_to_num(case.coord[frame, :, b])
            wanted = -reference.derivative(lambda r: np.sum(A * case.X(r)), case.coord, stretch)
            case.assert_close(virial[frame, 3 * a + b], wanted, np.abs(virial).max())


def test_force_grad_is_the_gradient_of_force(case, isa):
    """A force is linear in A, so dA is exact; parameters by central differences."""
    A, cotangents, atoms = case.random_X(), case.random_cotangents(), case.atoms

    def loss(A, parameters=None):
        outputs = case.kernels(atoms, parameters).force(A)
        return sum(np.sum(c * o) for c, o in zip(cotangents.values(), outputs, strict=True))

    dA, grads = case.kernels(atoms).force_grad(A, **cotangents)
    direction = case.random_X()
    case.assert_projects(dA, direction, loss(direction))
    if case.dtype is np.float32 or "relu" in case.shape["activation"]:
        return  # no finite difference is exact enough
    for k, grad in enumerate(grads):
        direction = case.rng.normal(size=grad.shape)
        step = 1e-5
        shifted = [
            loss(
                A,
                [
                    *case.parameters[:k],
                    case.parameters[k] + sign * step * direction,
                    *case.parameters[k + 1 :],
                ],
            )
            for sign in (1, -1)
        ]
        wanted = (shifted[0] - shifted[1]) / (2 * step)
        assert np.sum(grad * direction) == pytest.approx(wanted, rel=2e-6, abs=1e-7)


def test_force_grad_of_relu_and_float32(isa):
    """What finite differences are too coarse for, against float64 and a mixed derivative."""
    for activation in ("relu", "relu6", "tanh"):
        exact = Case(activation=activation)
        A, cotangents = exact.random_X(), exact.random_cotangents()
        _, wanted = exact.kernels(exact.atoms).force_grad(A, **cotangents)
        rough = Case(activation=activation, dtype=np.float32)
        _, found = rough.kernels(rough.atoms).force_grad(A.astype("f4"), **cotangents)
        for f, w in zip(found, wanted, strict=True):
            np.testing.assert_allclose(f, w, rtol=0, atol=1e-4 * max(np.abs(w).max(), 1e-3))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_threads_change_no_bit(dtype):
    case = Case(nreal=(90, 61), nslots=100, dtype=dtype, one_side=False)
    A, cotangents, atoms = case.random_X(), case.random_cotangents(), case.atoms

    def all_results(threads):
        kernels = case.kernels(atoms, threads=threads)
        dA, grads = kernels.force_grad(A, **cotangents)
        return [kernels.embed(), *kernels.embed_grad(A), *kernels.force(A), dA, *grads]

    alone = all_results(1)
    for threads in (2, 4):
        for one, many in zip(alone, all_results(threads), strict=True):
            np.testing.assert_array_equal(one, many)


def test_weights_scale_the_environment(isa):
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
    case.assert_projects(-force, direction, wanted)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("counts", [(3, 0, 5), (0, 0, 0), (1, 1, 1), (70, 130, 2)])
def test_products_by_type(dtype, counts, isa):
    """The layers of the fitting nets: x W_t, x W_t^T and x_t^T y_t."""
    rng = np.random.default_rng(0)
    bits = np.dtype(dtype).itemsize * 8
    product = getattr(_kernels, f"product_by_type{bits}")
    outer = getattr(_kernels, f"outer_by_type{bits}")
    first = np.cumsum([0, *counts])
    of_type = [slice(a, b) for a, b in pairwise(first)]
    x, y = (rng.normal(size=(first[-1], width)).astype(dtype) for width in (150, 67))
    W = [rng.normal(size=(150, 67)).astype(dtype) for _ in counts]
    tolerance = {"rtol": 0, "atol": 1000 * np.finfo(dtype).eps}
    for threads in (1, 3):
        found = product(first, x, W, transposed=False, threads=threads)
        wanted = [x[rows] @ matrix for rows, matrix in zip(of_type, W, strict=True)]
        np.testing.assert_allclose(found, np.concatenate(wanted), **tolerance)
        found = product(first, y, W, transposed=True, threads=threads)
        wanted = [y[rows] @ matrix.T for rows, matrix in zip(of_type, W, strict=True)]
        np.testing.assert_allclose(found, np.concatenate(wanted), **tolerance)
        for rows, dW in zip(of_type, outer(first, x, y, threads=threads), strict=True):
            np.testing.assert_allclose(dW, x[rows].T @ y[rows], **tolerance)


@pytest.fixture(params=["cpu", "cuda"])
def environment_kernels(request):
    """Return the kernels of the environment matrix, of each implementation."""
    return _kernels if request.param == "cpu" else cuda_kernels.load()


def test_environment_matrix(case, environment_kernels):
    """R and its reverse, which have no net: dense pairs, frame after frame."""
    atoms = case.atoms
    R = environment_kernels.environment(atoms)

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
    force, virial, atom_virial = environment_kernels.environment_force(atoms, dR)
    direction = case.rng.normal(size=case.coord.shape)
    along = reference.derivative(wanted, case.coord, direction)
    case.assert_projects(-force, direction, np.sum(dR * along))
    cotangents = case.random_cotangents()
    ddR = environment_kernels.environment_force_grad(atoms, **cotangents)
    outputs = (force, virial, atom_virial)
    loss = sum(np.sum(c * o) for c, o in zip(cotangents.values(), outputs, strict=True))
    case.assert_projects(ddR, dR, loss)
