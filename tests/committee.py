# SPDX-License-Identifier: LGPL-3.0-or-later
"""Three models that differ, frames, and the deviations of the ones on the others by definition."""

import frozen_models
import helpers
import numpy as np
import pytest

NREAL = [[3, 2, 1], [3, 2, 1], [4, 2, 1], [0, 0, 0], [5, 1, 2], [0, 1, 0], [1, 1, 1]]


def widened(frames, slots):
    """Return the frames in more slots of each type."""
    types = np.repeat(np.arange(len(slots)), slots)
    where = np.concatenate(
        [np.flatnonzero(types == t)[-np.sum(frames.types == t) :] for t in range(len(slots))]
    )

    def put(array, fill=0.0):
        wide = np.full((len(array), len(types), *array.shape[2:]), fill)
        wide[:, where] = array
        return wide

    return helpers.Frames(
        types, put(frames.coord, 1e3), put(frames.mask), frames.energy, put(frames.force),
        put(frames.preference),
    )  # fmt: skip


@pytest.fixture(scope="module")
def frames():
    """Return frames whose preferences differ; two with the same atoms follow each other."""
    frames = helpers.random_frames(seed=5, nreal=NREAL)
    rng = np.random.default_rng(6)
    frames.mask[1] = frames.mask[0]
    frames = frames._replace(
        force=frames.force * frames.mask[..., None],
        preference=frames.mask * rng.integers(0, 3, size=frames.mask.shape),
    )
    frames.preference[4] = 0
    return frames


@pytest.fixture(scope="module")
def home(frames, tmp_path_factory):
    """Write the frames to a system of few slots and one of more; return their folder."""
    home = tmp_path_factory.mktemp("devi ü")
    helpers.write_system(home / "narrow", frames, nsets=2)
    helpers.write_system(home / "wide", widened(frames, (20, 16, 8)))
    return home


@pytest.fixture(scope="module")
def models(trained, home):
    """Return paths of three models that differ in their last layers."""
    rng = np.random.default_rng(1)
    first = {k: v for k, v in helpers.parameters(trained.model).items() if "final_layer" in k}
    assert first
    found = [trained.model]
    for k in range(2):
        other = {name: x * (1 + 0.1 * rng.normal(size=x.shape)) for name, x in first.items()}
        found.append(frozen_models.edited(trained.model, home / f"{k}.pb", **other))
    return found


@pytest.fixture(scope="module")
def wanted(models, frames):
    """Return the deviations straight from their definition, frame by frame, as dictionaries."""
    found = [frozen_models.evaluate(model, frames) for model in models]
    rows = []
    for f, mask in enumerate(frames.mask):
        force = np.stack([of_model["force"][f, mask == 1] for of_model in found])
        energy = np.array([of_model["energy"][f, 0] for of_model in found])
        square = ((force - force.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0)
        weights = frames.preference[f, mask == 1]
        row = {"real_atoms": mask.sum(), "preference": weights.sum()}
        if mask.any():
            row["devi_e"] = np.sqrt(((energy - energy.mean()) ** 2).mean()) / mask.sum()
        for kind, w in (("", np.ones(len(weights))), ("preferred_", weights)):
            if w.any():
                devi = np.sqrt(square)
                row[f"{kind}max_devi_f"] = devi[w > 0].max()
                row[f"{kind}min_devi_f"] = devi[w > 0].min()
                row[f"{kind}avg_devi_f"] = np.average(devi, weights=w)
        rows.append(row)
    return rows


def assert_rows(found, wanted, tolerance=1e-9):
    assert len(found) == len(wanted)
    for index, row in enumerate(wanted):
        for column in {*wanted[0], *row}:
            value = row.get(column, np.nan)
            np.testing.assert_allclose(
                found[column][index], value, tolerance, 1e-13, err_msg=f"{column}, {index}"
            )
    assert found["max_devi_f"][0] > 1e-4
