# SPDX-License-Identifier: LGPL-3.0-or-later
"""Atoms that are there in part, in the graphs of models that dp-mask convert has made so."""

import shutil

import numpy as np
import pytest
from c_library import LIBRARIES, CPotential
from click.testing import CliRunner
from frozen_models import assert_same_potential, evaluate

from deepmd_mask import Potential
from deepmd_mask.cli import main
from deepmd_mask.conversion import convert
from deepmd_mask.frozen import info

RESULTS = {  # of nodes and of Prediction, and sizes for each frame, or for each slot
    "o_weighted_energy": ("energy", ()),
    "o_weighted_atom_energy": ("energies", (-1,)),
    "o_weighted_force": ("forces", (-1, 3)),
    "o_weighted_virial": ("virial", (9,)),
    "o_weighted_atom_virial": ("atom_virial", (-1, 9)),
    "o_weight_gradient": ("weight_gradient", (-1,)),
}


@pytest.fixture(scope="module")
def weighted(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("weighted") / "weighted.pb"
    arguments = [str(trained.model), "-o", str(path), "--compress", "--weights"]
    result = CliRunner().invoke(main, ["convert", *arguments])
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture
def session(weighted):
    import tensorflow as tf

    from deepmd_mask.graph import ops  # noqa: F401  loads the operators

    tf = tf.compat.v1
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(tf.GraphDef.FromString(weighted.read_bytes()), name="")
    session = tf.Session(graph=graph)
    yield session
    session.close()


def run(session, frames, weights, groups, names=RESULTS):
    nslots = len(frames.types)
    sizes = [nslots, nslots, *np.bincount(frames.types)]
    feed = {
        "t_coord:0": frames.coord.ravel(),
        "t_type:0": np.tile(frames.types, len(weights)),
        "t_natoms:0": sizes,
        "t_box:0": np.zeros(9 * len(weights)),
        "t_mesh:0": np.zeros(0),
        "t_aparam:0": weights.ravel(),
    }
    if groups is not None:
        feed["t_groups:0"] = groups.ravel()
    found = session.run([f"{name}:0" for name in names], feed)
    return dict(zip(names, found, strict=True))


def fractions(frames, ngroups=4):
    rng = np.random.default_rng(0)
    groups = rng.integers(ngroups, size=frames.mask.shape)
    weights = rng.uniform(0.1, 1.2, size=(len(groups), ngroups)).clip(0, 1)
    return frames.mask * np.take_along_axis(weights, groups, axis=1), groups


def test_graph_gives_what_potential_does(session, weighted, trained):
    """Whose model may be the one before."""
    frames = trained.frames
    weights, groups = fractions(frames)
    found = run(session, frames, weights, groups)
    for model in (weighted, trained.model):
        wanted = Potential(model, device="cpu").evaluate(
            frames.types, frames.coord, weights, virial=True, groups=groups
        )
        for node, (name, shape) in RESULTS.items():
            values = found[node].reshape(len(weights), *shape)
            of_potential = getattr(wanted, name)
            limit = 1e-9 * np.abs(of_potential).max()
            np.testing.assert_allclose(values, of_potential, rtol=0, atol=limit, err_msg=node)


def test_other_results_stay_those_of_masks(session, weighted, trained):
    """Whoever feeds no groups runs the graph as before, and a fraction is an error."""
    frames = trained.frames
    assert_same_potential(
        evaluate(weighted, frames), evaluate(trained.compressed, frames), frames.mask
    )
    weights, groups = fractions(frames)
    with pytest.raises(Exception, match=r"mask value .* is neither 0 nor 1"):
        run(session, frames, weights, groups, ["o_energy"])
    with pytest.raises(Exception, match="t_groups"):
        run(session, frames, weights, None)


def test_dp_test_takes_masks_alone(weighted, trained, tmp_path):
    """As ever, and with a graph that has an input for groups."""
    import jobs

    system = shutil.copytree(trained.directory / "system", tmp_path / "system")
    mask = np.load(system / "set.000" / "aparam.npy")
    mask[1] *= 0.5
    np.save(system / "set.000" / "aparam.npy", mask)
    for model in (weighted, trained.model):
        with pytest.raises(Exception, match=r"mask value 0.5 is neither 0 nor 1"):
            jobs.run([[tmp_path, "test", "-m", str(model), "-s", "system", "-n", "0"]])


def test_bad_groups(session, trained):
    frames = trained.frames
    atoms = np.flatnonzero(frames.mask[1])[:2]
    groups = np.tile(np.arange(len(frames.types)), (len(frames.mask), 1))
    groups[1, atoms] = -5
    for change, message in (
        ([0.5, 0.25], "frame 1, atom .*: weight 0.5, but atom .* of the same group has 0.25"),
        ([1.5, 1.5], r"frame 1, atom .*: weight 1.5 is not between 0 and 1"),
    ):
        weights = frames.mask.copy()
        weights[1, atoms] = change
        with pytest.raises(Exception, match=message):
            run(session, frames, weights, groups)


def test_it_is_a_model_as_others_are(weighted, trained):
    old, new = info(trained.compressed), info(weighted)
    assert (new["ops_version"], new["compressed"]) == (old["ops_version"], True)
    if LIBRARIES:
        frames = trained.frames
        types = np.broadcast_to(frames.types, frames.mask.shape)
        found = CPotential(weighted).evaluate(types, frames.coord, frames.mask)
        wanted = CPotential(trained.compressed).evaluate(types, frames.coord, frames.mask)
        np.testing.assert_allclose(found["forces"], wanted["forces"], rtol=0, atol=1e-12)


def test_graphs_of_compressed_models_take_weights(trained, tmp_path):
    with pytest.raises(ValueError, match="ask for `compress`, too"):
        convert(trained.model, tmp_path / "none.pb", precision="float32", weights=True)
    assert not any(tmp_path.iterdir())
