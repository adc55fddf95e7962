# SPDX-License-Identifier: LGPL-3.0-or-later
"""The library for C: its reader on the models of fuzz/seeds/, whole, cut and spoilt.

Needs no TensorFlow, so that it runs under sanitizers, too; fuzz/README.md tells of more.
"""

from pathlib import Path

import numpy as np
import pytest
from c_library import LIBRARIES, CError, CPotential

from deepmd_mask import Potential
from deepmd_mask.frozen.messages import Graph

FUZZ = Path(__file__).parent / "fuzz"
SEEDS = sorted((FUZZ / "seeds").glob("*.pb"))
TYPES = np.array([[0, 1, 0]])
POSITIONS = np.array([[[0, 0, 0], [1.6, 0.2, 0], [0.1, 1.8, 0.4]]])

pytestmark = pytest.mark.skipif(not LIBRARIES, reason="built with -DDPMASK_C=OFF")


def outcome(file):
    """Open and evaluate a file; return what its error says, "" if there was none."""
    try:
        c = CPotential(file, threads=1)
    except CError as error:
        assert str(file) in str(error)
        return str(error)
    ntypes = c.c["ntypes"](c.handle)
    found = c.evaluate(TYPES % ntypes, POSITIONS)
    assert found["forces"].shape == POSITIONS.shape
    c.close()
    return ""


def test_there_are_seeds():
    assert len(SEEDS) >= 4
    assert all(path.stat().st_size < 16 << 10 for path in SEEDS)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: path.name)
def test_seeds_are_models(seed):
    """They are shortened, so that TensorFlow does not take them; Python's reader does."""
    c = CPotential(seed)
    found = c.evaluate(TYPES, POSITIONS)
    assert all(np.isfinite(values).all() for values in found.values())
    assert np.abs(found["forces"]).max() > 0
    c.close()
    pytest.importorskip("deepmd_mask._kernels")
    wanted = Potential(seed, device="cpu").evaluate(TYPES, POSITIONS)
    np.testing.assert_array_equal(found["energies"], wanted.energies)
    np.testing.assert_allclose(found["forces"], wanted.forces, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", ["options-frozen", "options-compressed"])
def test_energies_by_what_no_model_has(name, tmp_path):
    """As tot_ener_zero has it, of a model that lacks its training input."""
    pytest.importorskip("deepmd_mask._kernels")
    graph = Graph.FromString((FUZZ / "seeds" / f"{name}.pb").read_bytes())
    (node,) = (node for node in graph.node if node.name == "sub")
    node.op = "RealDiv"
    file = tmp_path / "model.pb"
    file.write_bytes(graph.SerializeToString())
    message = r"model\.pb cannot be evaluated: it computes its energies by sub, an operator RealDiv"
    for reader, error in ((CPotential, CError), (Potential, ValueError)):
        with pytest.raises(error, match=message):
            reader(file)


def test_energies_of_compressed_models_are_those_of_their_graphs():
    """With given energies in vacuum, taken off in the graph; float32, tables that are exact."""
    folder = SEEDS[0].parent
    frozen, compressed = (
        CPotential(folder / f"options-{kind}.pb").evaluate(TYPES, POSITIONS)
        for kind in ("frozen", "compressed")
    )
    for name, values in frozen.items():
        limit = 1e-5 * np.abs(values).max()
        np.testing.assert_allclose(compressed[name], values, rtol=0, atol=limit, err_msg=name)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: path.name)
def test_seeds_that_are_cut(seed, tmp_path):
    whole, file = seed.read_bytes(), tmp_path / "cut.pb"
    for size in range(0, len(whole) - 1, 23):
        file.write_bytes(whole[:size])
        assert outcome(file), f"{size} bytes are a model"


def test_seeds_that_are_spoilt(tmp_path, monkeypatch):
    """As fuzz/ spoils models; some are models still."""
    monkeypatch.syspath_prepend(FUZZ)
    import spoilt_models

    models = {seed.name: seed.read_bytes() for seed in SEEDS}
    monkeypatch.setattr(spoilt_models, "bases", lambda: models)
    file, said = tmp_path / "spoilt.pb", []
    for k in range(1000):
        data, _ = spoilt_models.spoilt(np.random.default_rng(k))
        file.write_bytes(data)
        said.append(outcome(file))
    reasons = {text.split(str(file))[1][:20] for text in said if text}
    assert len(reasons) >= 3, reasons
    assert 100 < said.count("") < 900
