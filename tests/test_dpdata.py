# SPDX-License-Identifier: LGPL-3.0-or-later
"""The format deepmd/mask of dpdata, found through its entry point."""

import dpdata
import helpers
import numpy as np
import pytest
from plain_models import random_nets, write_model

from deepmd_mask import Potential
from deepmd_mask.data import check, open_system, pack

pytestmark = pytest.mark.filterwarnings("ignore::deepmd_mask.data.balance.NetForceWarning")
FRAMES = helpers.random_frames(nframes=9)


@pytest.fixture
def system(tmp_path):
    return helpers.write_system(tmp_path / "a b", FRAMES)


@pytest.fixture
def many(system):
    return dpdata.MultiSystems().load_systems_from_file(str(system), fmt="deepmd/mask")


def frames_of(system):
    """Return a system's frames as sorted tuples, however the atoms are ordered."""
    found = []
    for chunk in open_system(system).chunks():
        names = np.array(open_system(system).names)[chunk.types]
        for f, mask in enumerate(chunk.mask == 1):
            columns = (names[f], chunk.coord[f], chunk.force[f], chunk.preference[f])
            columns = [column[mask].tolist() for column in columns]
            found.append((chunk.energy[f], sorted(zip(*columns, strict=True))))
    return sorted(found)


def test_loads_each_composition(many):
    assert many.get_nframes() == 9
    compositions = {tuple(c) for c in FRAMES.counts().astype(int).tolist()}
    assert {tuple(s["atom_numbs"]) for s in many} == compositions
    for system in many:
        assert isinstance(system, dpdata.LabeledSystem)
        assert system["nopbc"]
        assert system["forces"].shape == system["coords"].shape
        assert system["atom_pref"].shape == system["coords"].shape[:2]


def test_there_and_back(system, many, tmp_path):
    many.to("deepmd/mask", tmp_path / "again", sel=[9, 9, 9], set_size=4)
    assert check(tmp_path / "again", external_field=True).findings == []
    assert open_system(tmp_path / "again").nslots == 27
    assert frames_of(tmp_path / "again") == frames_of(system)
    pack(many, tmp_path / "by function", preference="array:atom_pref", type_map=["O", "C", "ZN"])
    assert frames_of(tmp_path / "by function") == frames_of(system)


def test_options_are_those_of_pack(many, tmp_path):
    many.to_deepmd_mask(tmp_path / "zinc", preference="element:ZN", type_map=["ZN", "C", "O"])
    opened = open_system(tmp_path / "zinc")
    assert opened.names == ("ZN", "C", "O")
    for chunk in opened.chunks():
        np.testing.assert_array_equal(chunk.preference, chunk.mask * (chunk.types == 0))
    with pytest.raises(FileExistsError):
        many.to("deepmd/mask", tmp_path / "zinc")


def test_weights_of_some_systems_only(many, tmp_path):
    del many[0].data["atom_pref"]
    with pytest.raises(ValueError, match=r"it has weights, atom_pref, and dpdata system .* none"):
        many.to("deepmd/mask", tmp_path / "some")
    many.to("deepmd/mask", tmp_path / "all", preference="all")
    assert all(
        (chunk.preference == chunk.mask).all() for chunk in open_system(tmp_path / "all").chunks()
    )


def test_one_composition(many, tmp_path, system):
    first = many[0]
    first.to("deepmd/mask", tmp_path / "one")
    loaded = dpdata.LabeledSystem(tmp_path / "one", fmt="deepmd/mask")
    for key in ("coords", "forces", "energies", "atom_pref"):
        np.testing.assert_array_equal(loaded[key], first[key])
    with pytest.raises(ValueError, match=r"load it with dpdata\.MultiSystems"):
        dpdata.LabeledSystem(system, fmt="deepmd/mask")


def test_labels_of_a_committee_are_means(many, tmp_path):
    shape = {"neuron": [4], "M2": 2, "fitting_neuron": [4]}
    models = [
        str(write_model(tmp_path / f"{k}.pb", random_nets(3, seed=k, **shape), helpers.TYPE_MAP))
        for k in range(2)
    ]
    both, *alone = (many[0].predict(given, driver="deepmd-mask") for given in (models, *models))
    wanted = np.mean([one["forces"] for one in alone], axis=0)
    np.testing.assert_allclose(both["forces"], wanted, rtol=1e-12, atol=1e-15)


def test_nothing_to_write(tmp_path):
    with pytest.raises(ValueError, match="no system to pack"):
        dpdata.MultiSystems().to("deepmd/mask", tmp_path / "none")
    assert not list(tmp_path.iterdir())


def test_driver_labels_systems(many, trained):
    system = many[0]
    found = system.predict(trained.model, driver="deepmd-mask")
    assert isinstance(found, dpdata.LabeledSystem)
    types = np.array([helpers.TYPE_MAP.index(name) for name in system["atom_names"]])
    wanted = [
        Potential(trained.model).evaluate(types[system["atom_types"]], coord)
        for coord in system["coords"]
    ]
    np.testing.assert_array_equal(found["energies"], [one.energy for one in wanted])
    np.testing.assert_array_equal(found["forces"], [one.forces for one in wanted])
    assert np.abs(found["forces"]).max() > 1e-3


def test_driver_refuses_what_the_model_does_not_know(many, trained):
    system = many[0].copy()
    periodic = system.copy()
    periodic.data["nopbc"] = False
    with pytest.raises(ValueError, match="the input is periodic"):
        periodic.predict(trained.model, driver="deepmd-mask")
    same = periodic.predict(trained.model, driver="deepmd-mask", ignore_pbc=True)
    assert np.isfinite(same["energies"]).all()
    system.data["atom_names"][0] = "Fe"
    with pytest.raises(ValueError, match="the model does not know Fe, only"):
        system.predict(trained.model, driver="deepmd-mask")


def test_driver_of_dpdata_names_the_right_one(many, trained):
    message = 'its mask is missing.* in dpdata, the driver "deepmd-mask"'
    with pytest.raises(ValueError, match=message):
        many[0].predict(str(trained.model), driver="dp")
