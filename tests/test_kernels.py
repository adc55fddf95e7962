# SPDX-License-Identifier: LGPL-3.0-or-later
"""The kernels against the NumPy reference and finite differences, each by one test body."""

import numpy as np
import pytest
import reference
from embedding_case import CASES, SERIES, TOLERANCE, Case, case_of
from fitting_case import FITTING_CASES, FittingCase, fitting_case_of
from implementations import INSTRUCTION_SETS, implementation, on  # noqa: F401

everywhere = on(*INSTRUCTION_SETS, "cuda", "emulated")
kernels = None  # those that a test runs on


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
def test_embed_and_force_in_one(case):
    """As evaluations have them, which sort their pairs once."""
    kernels = case.kernels(case.atoms)
    X, *forces = kernels.embed_and_force(case.A)
    case.assert_close(X, kernels.embed())
    for found, wanted in zip(forces, kernels.force(case.A), strict=True):
        case.assert_close(found, wanted)


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
        forces = [*run.force(A), *run.embed_and_force(A)]
        return [run.embed(), *run.embed_grad(A), *forces, dA, *grads]

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
