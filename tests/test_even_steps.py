# SPDX-License-Identifier: LGPL-3.0-or-later
"""Training with even_steps: where it begins, how it steps, and that nothing else changes."""

import helpers
import jobs
import numpy as np
import pytest
import reference
from deepmd.tf.env import tf

from deepmd_mask.graph.coordinates import FLOOR, MOST_DIRECTIONS, Coordinates, times
from deepmd_mask.graph.even_steps import EvenAdam, OnGraph
from deepmd_mask.potential.reading import read_model

# Few nets of few layers: what takes time is to build graphs, net by net and layer by layer.
SMALL = {"neuron": [4, 8], "type_one_side": True}


def input_of(system, steps, **options):
    """Return an input with options of the descriptor."""
    descriptor = {**SMALL, **options}
    return helpers.make_input(
        [system], steps=steps, descriptor=descriptor, fitting_net={"neuron": [6]}
    )


def matrix_of(D):
    """Return A of samples from all eigenvectors, those beyond MOST_DIRECTIONS with s = 0."""
    variance, V = np.linalg.eigh(np.cov(D.T, bias=True))
    s = np.sqrt(np.maximum(variance, 0))
    floor = FLOOR * s[-1]
    s[:-MOST_DIRECTIONS] = 0
    return V @ np.diag(1 / (s + floor)) @ V.T


def samples(n, width, seed=0):
    """Return D whose deviations fall by powers from one direction to the next."""
    rng = np.random.default_rng(seed)
    mixing = np.linalg.qr(rng.normal(size=(width, width)))[0]
    return 3 + rng.normal(size=(n, width)) * 0.8 ** np.arange(width) @ mixing


@pytest.mark.parametrize("width", [8, MOST_DIRECTIONS + 30])
def test_coordinates(width):
    D, U = samples(500, width), np.random.default_rng(1).normal(size=(width, 5))
    found = Coordinates.of(D)
    np.testing.assert_allclose(found.mean, D.mean(axis=0))
    np.testing.assert_allclose(times(found, U), matrix_of(D) @ U, rtol=1e-6, atol=1e-6)
    spread = np.sqrt(np.linalg.eigvalsh(np.cov(times(found, D.T), bias=True)))
    assert spread[-1] == pytest.approx(1 / (1 + FLOOR), rel=1e-3)  # was 1, and 0.17 the eighth
    assert spread[-8] > 0.9


def test_coordinates_of_what_does_not_differ():
    """Of no atoms, as of a type that is not in the data, or of one: they are those of D."""
    U = np.random.default_rng(1).normal(size=(6, 5))
    for D in (np.zeros((0, 6)), np.ones((1, 6))):
        np.testing.assert_array_equal(times(Coordinates.of(D), U), U)


def test_steps_are_those_of_adam_in_the_coordinates():
    """By NumPy; rows that are not of D, and another variable, as of Adam itself."""
    width, rng = 7, np.random.default_rng(2)
    D, W0 = samples(100, width), rng.normal(size=(width + 2, 3))
    target, inputs = rng.normal(size=(50, 3)), rng.normal(size=(50, width + 2))
    with tf.Graph().as_default(), tf.Session() as session:
        W, b = (tf.get_variable(name, initializer=start, dtype=tf.float64)
                for name, start in (("W", W0), ("b", np.zeros(3))))  # fmt: skip
        on_graph = OnGraph.of(W, width)
        loss = tf.reduce_sum((inputs @ W + b - target) ** 2)
        step = EvenAdam({"W": on_graph}, 0.01).minimize(loss, var_list=[W, b])
        session.run(tf.global_variables_initializer())
        W.load(np.concatenate([times(Coordinates.of(D), W0[:width]), W0[width:]]), session)
        on_graph.load(W0, Coordinates.of(D), session)
        for _ in range(5):
            session.run(step)
        found = session.run([W, b])
    A = np.eye(width + 2)
    A[:width, :width] = matrix_of(D)
    W, b = A @ W0, np.zeros(3)
    m, v = [0, 0], [0, 0]
    for k in range(1, 6):
        residual = 2 * (inputs @ W + b - target)
        steps = []
        for i, g in enumerate((A @ (inputs.T @ residual), residual.sum(axis=0))):
            m[i], v[i] = 0.9 * m[i] + 0.1 * g, 0.999 * v[i] + 0.001 * g * g
            steps.append(0.01 * m[i] / (1 - 0.9**k) / (np.sqrt(v[i] / (1 - 0.999**k)) + 1e-8))
        W, b = W - A @ steps[0], b - steps[1]
    np.testing.assert_allclose(found[0], W, rtol=1e-5, atol=1e-6)  # 1e-8 is added elsewhere
    np.testing.assert_allclose(found[1], b, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def trained_evenly(tmp_path_factory):
    """Return a folder with models as training begins, without and with, and what came of it."""
    root = tmp_path_factory.mktemp("even")
    frames = helpers.random_frames(nframes=1)  # so that all samples are of it
    system = helpers.write_system(root / "system", frames)
    steps = []
    for name, number, options in (
        ("plain", 0, {}),
        ("begun", 0, {"even_steps": True}),
        ("trained", 3, {"even_steps": True}),
    ):
        helpers.write_input(root / name, input_of(system, number, **options))
        steps += [[root / name, "train", "input.json"], [root / name, "freeze", "-o", "frozen.pb"]]
    jobs.run(steps)
    return root, frames


def test_training_begins_in_the_coordinates(trained_evenly):
    """W = A U for the plain start U, b less what the mean of D brings; all else is drawn alike."""
    root, frames = trained_evenly
    plain, even = (helpers.parameters(root / name / "frozen.pb") for name in ("plain", "begun"))
    model = read_model(root / "plain" / "frozen.pb").arguments
    types = np.tile(frames.types, (len(frames.mask), 1))
    X = reference.embedded_environment(
        frames.coord, types, frames.mask, len(model["bias"]), model["n"], model["net"],
        model["parameters"],
        **{name: model[name] for name in ("neuron", "resnet_dt", "activation")},
    )  # fmt: skip
    D = np.einsum("ica,icb->iab", X, X[:, :, : model["M2"]]).reshape(len(X), -1)
    of_row = types.ravel()[reference.real_atoms(types, frames.mask)]
    for name, start in plain.items():
        layer, part = name.split("/")
        if not layer.startswith("layer_0_type_"):
            np.testing.assert_array_equal(even[name], start, err_msg=name)
        elif part == "matrix":
            of_type = D[of_row == int(layer[-1])]
            W = matrix_of(of_type) @ start
            np.testing.assert_allclose(even[name], W, rtol=1e-6, atol=1e-6 * np.abs(W).max())
            b = plain[f"{layer}/bias"] - of_type.mean(axis=0) @ W
            np.testing.assert_allclose(even[f"{layer}/bias"], b, rtol=1e-5, atol=1e-5)


def test_checkpoints_are_what_they_are_without(trained_evenly):
    """The same variables, of the same shapes; training goes on from them as without."""
    root, _ = trained_evenly
    names = [
        {name: shape for name, shape in tf.train.list_variables(str(root / folder / "model.ckpt"))
         if "beta" not in name and "Adam" not in name}
        for folder in ("plain", "trained")
    ]  # fmt: skip
    assert names[0] == names[1]
    found = {}
    for option in ("--restart", "--init-model"):
        for even in (True, False):
            folder = root / f"{option.strip('-')}-{even}"
            options = {"even_steps": True} if even else {}
            helpers.write_input(folder, input_of(root / "system", 5, **options))
            start = root / "trained" / "model.ckpt"
            arguments = ["train", "input.json", option, str(start)]
            jobs.run([[folder, *arguments], [folder, "freeze", "-o", "frozen.pb"]])
            found[option, even] = helpers.parameters(folder / "frozen.pb")
        for name, without in found[option, False].items():
            np.testing.assert_allclose(found[option, True][name], without, rtol=1e-9, atol=1e-9)
