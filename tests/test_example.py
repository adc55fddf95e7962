# SPDX-License-Identifier: LGPL-3.0-or-later
"""The data set of examples/zinc_protein is what its page says."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from deepmd_mask.data import check, open_system

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "zinc_protein"
SUBSETS = ("train", "validation", "test")


def chunks(subset):
    """Return the frames of a subset, in parts."""
    return open_system(str(EXAMPLE / "data" / subset)).chunks()


def compositions(subset):
    """Return the number of real atoms of each type, as a set of all that occur."""
    return {
        tuple(np.bincount(types[mask == 1], minlength=6))
        for chunk in chunks(subset)
        for types, mask in zip(chunk.types, chunk.mask, strict=True)
    }


def test_check_finds_no_error(monkeypatch):
    monkeypatch.chdir(EXAMPLE)
    checked = check(["data/test"], "input.json")
    assert checked.errors == 0, checked.as_text()


def test_size_and_numbers_of_frames():
    total = sum(file.stat().st_size for file in EXAMPLE.rglob("data/**/*") if file.is_file())
    assert total < 20e6
    frames = {subset: sum(map(len, chunks(subset))) for subset in SUBSETS}
    assert sum(frames.values()) >= 4000
    assert frames["validation"] >= 100
    assert frames["test"] >= 100
    for chunk in (chunk for subset in SUBSETS for chunk in chunks(subset)):
        assert 30 <= chunk.mask.sum(axis=1).min() <= chunk.mask.sum(axis=1).max() <= 140
        assert (chunk.preference.sum(axis=1) >= 3).all()


def test_compositions_of_the_test_set_are_new():
    assert not compositions("test") & (compositions("train") | compositions("validation"))


def test_validation_batches_of_a_row_are_the_whole_set():
    """Only then is the error that run.py displays that on all of it."""
    data = json.loads((EXAMPLE / "input.json").read_text())["training"]["validation_data"]
    nframes = sum(map(len, chunks("validation")))
    assert data["batch_size"] * data["numb_btch"] == nframes


def test_slots_are_those_of_the_input():
    """The built-in, with which the page compares, wants them so."""
    descriptor = json.loads((EXAMPLE / "input.json").read_text())["model"]["descriptor"]
    for subset in SUBSETS:
        types = np.loadtxt(EXAMPLE / "data" / subset / "type.raw", dtype=int)
        assert np.bincount(types).tolist() == descriptor["sel"]


@pytest.fixture
def sample(monkeypatch):
    """Return the module sample.py, which needs the extra "example"."""
    pytest.importorskip("rdkit")
    pytest.importorskip("tblite")
    monkeypatch.syspath_prepend(EXAMPLE)
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    spec = importlib.util.spec_from_file_location("sample", EXAMPLE / "sample.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in ("sites", "steps"):
        sys.modules.pop(name)


def test_sites_are_built_as_planned(sample):
    sites = sample.plan(1)
    assert [site.name for site in sites if site.name.startswith("test")][-1] == "test_026"
    assert {site.name for site in sites} == {site.name for site in sample.plan(1)}
    for site in sites[:: len(sites) // 8]:
        atoms = sample.build(site.ligands, site.waters, np.random.default_rng(site.seed))
        assert len(atoms) in sample.ATOMS
        assert len(atoms) == len(sample.symbols(site.ligands, site.waters))
        assert sample.has_room(atoms)
        for donors in sample.donors(site.ligands):
            assert 1.9 < atoms.get_distances(0, donors).min() < 2.4
