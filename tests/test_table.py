# SPDX-License-Identifier: LGPL-3.0-or-later
"""The table that a compressed model has in the place of its embedding nets."""

from itertools import pairwise

import cuda_kernels
import numpy as np
import pytest
import reference

from deepmd_mask import _kernels

NEURON = [6, 12, 12]
kernels = _kernels  # or what a test is given in its place


@pytest.fixture(params=["cpu", "cuda", "emulated"])
def implementation(request, monkeypatch):
    """Evaluate tables on the CPU and by the CUDA kernels."""
    if request.param != "cpu":
        monkeypatch.setattr(request.module, "kernels", cuda_kernels.load(request.param))
    return request.param


def random_nets(activation, dtype=np.float64, nnets=3, steepness=0.5):
    rng = np.random.default_rng(0)
    shapes = reference.parameters_per_net(NEURON, True) * nnets
    parameters = [rng.normal(scale=steepness, size=shape).astype(dtype) for shape in shapes]
    return {
        "neuron": NEURON,
        "resnet_dt": True,
        "activation": activation,
        "parameters": parameters,
    }


def tabulate(nets, lower=0.0, upper=2.0, narrowest=0.01):
    fit = {np.float64: _kernels.fit_table64, np.float32: _kernels.fit_table32}
    return fit[nets["parameters"][0].dtype.type](
        **nets, lower=lower, upper=upper, narrowest=narrowest
    )


def two_atoms(distance):
    """Atoms of type 0 and of type 1."""
    coord = np.array([[[0.0, 0, 0], [0, 0, distance]]])
    return _kernels.RealAtoms(coord, np.array([[0, 1]], np.int32), np.ones((1, 2)), 2)


def first_X(nets, s, table=None):
    """X_0 of a pair at the distance 1/s, divided by R, so that it is G of net 1."""
    atoms = two_atoms(1 / s)
    dtype = nets["parameters"][0].dtype.type
    Embedding = {np.float64: kernels.Embedding64, np.float32: kernels.Embedding32}[dtype]
    embedding = Embedding(atoms, **nets, net=[0, 1, 2, -1], n=1.0)
    if table is not None:
        embedding.use_table(*table)
    return embedding.embed()[0, 0] / s, embedding


def test_panels_of_each_net_cover_the_interval_without_gaps():
    first, panels, C = tabulate(random_nets("tanh"), 0.0, 2.0)
    assert C.shape == (first[-1], 16, NEURON[-1])
    for low, high in pairwise(first):
        middle, half_width = panels[low:high].T
        assert middle[0] - half_width[0] == pytest.approx(0.0, abs=1e-12)
        assert middle[-1] + half_width[-1] == pytest.approx(2.0)
        np.testing.assert_allclose((middle + half_width)[:-1], (middle - half_width)[1:])


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_table_is_the_net(activation, dtype):
    """To rounding error where the net is smooth, and nearly so in a narrow panel with a kink."""
    nets = random_nets(activation, dtype)
    table = tabulate(nets)
    kinks = activation.startswith(("relu", "silut"))
    tolerance = 2e-3 if kinks else {np.float64: 1e-12, np.float32: 2e-6}[dtype]
    for s in np.linspace(0.02, 1.99, 150):
        wanted, _ = first_X(nets, s)
        found, _ = first_X(nets, s, table)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def test_narrower_panels_are_more_accurate():
    nets = random_nets("tanh", steepness=1.5)
    points = np.linspace(0.05, 1.95, 60)
    wanted = np.array([first_X(nets, s)[0] for s in points])
    errors = []
    for narrowest in (1.0, 0.3, 0.1, 0.03, 0.001):
        table = tabulate(nets, narrowest=narrowest)
        found = np.array([first_X(nets, s, table)[0] for s in points])
        errors.append(np.abs(found - wanted).max())
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 1e4 * errors[-1]


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize(("end", "direction"), [(0.4, -1), (1.6, 1)])
def test_beyond_its_ends_a_table_goes_on_as_a_straight_line(end, direction):
    """In value and slope: the force is that of the energy there, too."""
    nets = random_nets("tanh")
    table = tabulate(nets, 0.4, 1.6)
    step = 1e-5
    inside = [first_X(nets, end - direction * k * step, table)[0] for k in (0, 1)]
    slope = direction * (inside[0] - inside[1]) / step
    for beyond in (1e-9, 0.1, 0.2):
        found, _ = first_X(nets, end + direction * beyond, table)
        np.testing.assert_allclose(found, inside[0] + slope * direction * beyond, atol=1e-4)

    s = end + 0.15 * direction
    A = np.random.default_rng(1).normal(size=(2, 4, NEURON[-1]))

    def energy(distance):
        _, embedding = first_X(nets, 1 / distance, table)
        return np.sum(A * embedding.embed()), embedding

    force = energy(1 / s)[1].force(A)[0]
    wanted = -(energy(1 / s + 1e-6)[0] - energy(1 / s - 1e-6)[0]) / 2e-6
    assert force[0, 1, 2] == pytest.approx(wanted, rel=1e-6)


def test_a_table_that_does_not_fit_is_refused():
    nets = random_nets("tanh")
    first, panels, C = tabulate(nets)
    _, embedding = first_X(nets, 1.0)
    with pytest.raises(ValueError, match="an entry for each net"):
        embedding.use_table(first[:-1], panels, C)
    with pytest.raises(ValueError, match="C must have the shape"):
        embedding.use_table(first, panels, C[:, :-1])
    with pytest.raises(ValueError, match="lower < upper"):
        tabulate(nets, 2.0, 1.0)
