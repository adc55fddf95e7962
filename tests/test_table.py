# SPDX-License-Identifier: LGPL-3.0-or-later
"""The table that a compressed model has in the place of its embedding nets."""

from itertools import pairwise

import numpy as np
import pytest
import reference
from implementations import implementation, on  # noqa: F401

from deepmd_mask import _kernels as cpu

NEURON = [6, 12, 12]
# Of G, and of forces, relative to the largest.
TOLERANCE = {np.float64: (1e-12, 1e-10), np.float32: (2e-6, 1e-5)}
kernels = None  # those that a test runs on
with_cuda = on("cpu", "cuda", "emulated")


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
    fit = {np.float64: kernels.fit_table64, np.float32: kernels.fit_table32}
    return fit[nets["parameters"][0].dtype.type](
        **nets, lower=lower, upper=upper, narrowest=narrowest
    )


def embedding_of(nets, s, table=None, by=None):
    """Return the embedding of frames of an atom of type 0 and one of type 1, 1/s [nframes] apart.

    By the kernels that a test runs on, or others.
    """
    by, shape = by or kernels, (len(s), 2)
    coord = np.zeros((*shape, 3))
    coord[:, 1, 2] = 1 / s
    atoms = by.RealAtoms(coord, np.tile(np.int32([0, 1]), (len(s), 1)), np.ones(shape), 2)
    dtype = nets["parameters"][0].dtype.type
    Embedding = {np.float64: by.Embedding64, np.float32: by.Embedding32}[dtype]
    embedding = Embedding(atoms, **nets, net=[0, 1, 2, -1], n=1.0)
    if table is not None:
        embedding.use_table(*table)
    return embedding


def first_X(nets, s, table=None):
    """X_0 of a pair at the distance 1/s, divided by R, so that it is G of net 1."""
    embedding = embedding_of(nets, np.array([s]), table)
    return embedding.embed()[0, 0] / s, embedding


def test_panels_of_each_net_cover_the_interval_without_gaps():
    first, panels, C = tabulate(random_nets("tanh"), 0.0, 2.0)
    assert C.shape == (first[-1], 16, NEURON[-1])
    for low, high in pairwise(first):
        middle, half_width = panels[low:high].T
        assert middle[0] - half_width[0] == pytest.approx(0.0, abs=1e-12)
        assert middle[-1] + half_width[-1] == pytest.approx(2.0)
        np.testing.assert_allclose((middle + half_width)[:-1], (middle - half_width)[1:])


@with_cuda
@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_table_is_the_net(activation, dtype):
    """In value and in slope, which the force shows, to rounding error; across kinks, too.

    The nets themselves run on the CPU, pair by pair: for several they would get series.
    """
    nets = random_nets(activation, dtype)
    A = np.random.default_rng(1).normal(size=(2, 4, NEURON[-1])).astype(dtype)
    points = np.linspace(0.02, 1.99, 50)
    with_table = embedding_of(nets, points, tabulate(nets))
    one_by_one = [embedding_of(nets, s[None], by=cpu) for s in points]
    assert not any(max(embedding.npanels()) for embedding in one_by_one)
    # Rows of type 0 come first; X_0 is s times G of net 1.
    G = with_table.embed()[: len(points), 0] / points[:, None]
    forces = with_table.force(np.repeat(A, len(points), axis=0))[0]
    wanted_G = [
        embedding.embed()[0, 0] / s for s, embedding in zip(points, one_by_one, strict=True)
    ]
    wanted_forces = [embedding.force(A)[0][0] for embedding in one_by_one]
    for found, wanted, tolerance in zip(
        (G, forces), (wanted_G, wanted_forces), TOLERANCE[dtype], strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def kinked_net(activation, biases):
    """Return a net of one layer, whose neuron k is phi(s + biases[k])."""
    return {
        "neuron": [len(biases)],
        "resnet_dt": False,
        "activation": activation,
        "parameters": [np.ones((1, len(biases))), np.array(biases)],
    }


@pytest.mark.parametrize(
    ("activation", "biases", "kinks"),
    [
        ("relu", [-0.3, -1.2], [0.3, 1.2]),
        ("relu6", [5.5, -1.2], [0.5, 1.2]),
        ("silut:0.5", [0.2, -0.7], [0.3, 1.2]),
    ],
)
def test_panels_end_at_kinks(activation, biases, kinks):
    _, panels, _ = tabulate(kinked_net(activation, biases), narrowest=10.0)
    np.testing.assert_allclose(panels.sum(axis=1), [*kinks, 2.0], rtol=1e-14)


def test_kinks_that_are_all_but_one_make_one_end():
    _, panels, _ = tabulate(kinked_net("relu", [-1e-13, -0.5, -0.5 - 1e-13, 1e-13 - 2]))
    np.testing.assert_allclose(panels, [[0.25, 0.25], [1.25, 0.75]], rtol=1e-12)


def test_nets_of_straight_lines_have_a_panel_for_each():
    """However steep they are: kinks are all that happens."""
    nets = random_nets("relu", steepness=3.0)
    first, _, C = tabulate(nets, narrowest=1e-6)
    assert np.diff(first).max() < 10 * sum(NEURON)
    assert np.abs(C[:, 2:]).max() < 1e-12 * np.abs(C).max()


def test_narrower_panels_are_more_accurate():
    nets = random_nets("tanh", steepness=1.5)
    points = np.linspace(0.05, 1.95, 60)
    wanted = np.array([first_X(nets, s)[0] for s in points])
    errors = []
    for narrowest in (1.0, 0.3, 0.1, 0.03, 0.001):
        table = tabulate(nets, narrowest=narrowest)
        found = np.array([first_X(nets, s, table)[0] for s in points])
        errors.append(np.abs(found - wanted).max())
    told_apart = np.maximum(errors, 1e-12).tolist()
    assert told_apart == sorted(told_apart, reverse=True)
    assert errors[0] > 1e4 * errors[-1]


@pytest.mark.parametrize("steepness", [0.5, 1.5])
def test_panels_are_as_wide_as_can_be(steepness):
    """Each is right, but no series of as many terms is on two of them."""
    nets = random_nets("tanh", steepness=steepness)
    first, panels, C = tabulate(nets, narrowest=1e-9)
    shape = [nets[name] for name in ("neuron", "resnet_dt", "activation")]
    count = len(nets["parameters"]) // (len(first) - 1)
    x = np.linspace(-1, 1, 101)

    def error(panel, of_panel, parameters):
        wanted = reference.embedding_net(panel[0] + x * panel[1], parameters, *shape)
        return np.abs(np.polynomial.chebyshev.chebval(x, of_panel).T - wanted).max()

    for net, (low, high) in enumerate(pairwise(first)):
        assert high - low > 1
        parameters = nets["parameters"][net * count : (net + 1) * count]
        largest = np.abs(C[low:high, 0]).max()
        for k in range(low, high):
            assert error(panels[k], C[k], parameters) < 3e-13 * largest
        for k in range(low, high - 1):
            begin, end = panels[k, 0] - panels[k, 1], panels[k + 1].sum()
            both = np.array([(begin + end) / 2, (end - begin) / 2])
            (of_both,) = reference.series(both[None], parameters, *shape)
            assert error(both, of_both, parameters) > 1e-13 * largest


def test_panels_that_may_not_be_narrower_remain():
    """What the net does within them is not known. There are six of one width to begin with."""
    first, panels, _ = tabulate(random_nets("tanh", steepness=1.5), narrowest=0.3)
    widths = 2 * panels[:, 1]
    assert np.diff(first).max() <= 6
    assert np.isclose(widths, 1 / 3).sum() > 3
    assert widths.min() > 0.333


@with_cuda
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
