# SPDX-License-Identifier: LGPL-3.0-or-later
"""Atoms that are there in part, for users: Potential and the library for C, on frozen models."""

from pathlib import Path

import numpy as np
import pytest
from c_library import LIBRARIES, CError, CPotential
from partitioning import permuted
from plain_models import ZINC, random_nets, write_model

from deepmd_mask import Potential

EXAMPLE = Path(__file__).parent.parent / "examples" / "dpmm_openmm"
SEEDS = sorted((Path(__file__).parent / "fuzz" / "seeds").glob("*.pb"))  # of an earlier time
TYPES = np.array([1, 0, 1, 0, 0])
POSITIONS = np.array(
    [[0, 0, 0], [1.6, 0.2, 0], [0.1, 1.8, 0.4], [-0.3, 0.2, 1.7], [1.5, 1.5, 1.5]], float
)
WEIGHTS = np.array([1, 0.3, 0.3, 0.8, 0])
GROUPS = np.array([-1, 5, 5, 2**40, 5])  # of the virtual atom not read
ARGUMENTS = {"weights": WEIGHTS, "groups": GROUPS}


@pytest.fixture(scope="module", params=SEEDS, ids=lambda path: path.stem)
def model(request):
    return request.param


@pytest.fixture(scope="module")
def potential(model):
    return Potential(model, device="cpu")


def test_a_molecule(potential):
    found = potential.evaluate(TYPES, POSITIONS, **ARGUMENTS, virial=True)
    assert found.weight_gradient.shape == (5,)
    assert found.weight_gradient[-1] == found.energies[-1] == 0
    assert found.energy == pytest.approx(found.energies.sum(), rel=1e-14)
    assert potential.evaluate(TYPES, POSITIONS).weight_gradient is None
    numbered = potential.evaluate(TYPES.tolist(), POSITIONS, WEIGHTS, groups=[9, -2, -2, 0, 0])
    np.testing.assert_array_equal(numbered.weight_gradient, found.weight_gradient)
    np.testing.assert_array_equal(numbered.forces, found.forces)


def test_weight_gradient_is_that_of_the_energy(potential):
    """By differences, of a group, and so of the sum over its atoms."""
    h = 1e-3

    def energy(group, change):
        weights = WEIGHTS + change * (group == GROUPS) * (WEIGHTS > 0)
        return potential.evaluate(TYPES, POSITIONS, weights, groups=GROUPS).energy

    found = potential.evaluate(TYPES, POSITIONS, **ARGUMENTS).weight_gradient
    for group in GROUPS[[1, 3]]:
        first, second = (energy(group, k * h) - energy(group, -k * h) for k in (1, 2))
        wanted = (8 * first - second) / (12 * h)
        scale = max(np.abs(found).max(), 1)
        # A float32 net's differences say no more.
        limit = 2e-3 if "options" in potential.paths[0] else 1e-8
        assert found[group == GROUPS].sum() == pytest.approx(wanted, abs=limit * scale)


def test_forces_are_those_at_fixed_weights(potential):
    h, rng = 1e-3, np.random.default_rng(0)
    direction = rng.normal(size=POSITIONS.shape)

    def energy(t):
        return potential.evaluate(TYPES, POSITIONS + t * direction, **ARGUMENTS).energy

    forces = potential.evaluate(TYPES, POSITIONS, **ARGUMENTS).forces
    wanted = (8 * (energy(h) - energy(-h)) - (energy(2 * h) - energy(-2 * h))) / (12 * h)
    limit = 5e-3 if "options" in potential.paths[0] else 1e-7
    scale = max(np.abs(forces).max(), 1)
    assert -np.sum(forces * direction) == pytest.approx(wanted, abs=limit * scale)


def test_frames_and_committees(model):
    """Groups of all frames, or of each; each frame as if it were alone, and models on average."""
    one = Potential(model, device="cpu")
    committee = Potential([model, model], device="cpu")
    frames = np.stack([POSITIONS, 1.1 * POSITIONS])
    weights = np.stack([WEIGHTS, [1, 0.5, 0.5, 0.5, 0.5]])
    groups = np.stack([GROUPS, [0, 1, 1, 2, 3]])
    found = committee.evaluate(TYPES, frames, weights, groups=groups)
    assert found.weight_gradient.shape == (2, 5)
    for k in range(2):
        alone = one.evaluate(TYPES, frames[k], weights[k], groups=groups[k])
        np.testing.assert_array_equal(found.weight_gradient[k], alone.weight_gradient)
    same = one.evaluate(TYPES, frames, WEIGHTS, groups=GROUPS)
    np.testing.assert_array_equal(same.weight_gradient[0], found.weight_gradient[0])


def test_bad_input(potential):
    for change, message in (
        ({"groups": None}, "atom 1: mask value 0.3 is neither 0 nor 1"),
        ({"weights": [1, -0.1, 1, 1, 1]}, "atom 1: weight -0.1 is not between 0 and 1"),
        ({"weights": [1, 1, 1, 1.5, 1]}, "atom 3: weight 1.5 is not between 0 and 1"),
        ({"weights": [1, 1, 1, 1, np.nan]}, "atom 4: weight nan is not between 0 and 1"),
        (
            {"weights": [1, 1, 0.5, 1, 0.5]},
            "atom 1: weight 1, but atom 2 of the same group has 0.5; give all atoms of a group",
        ),
        ({"groups": GROUPS[:4]}, r"groups have the shape \(4,\), not \(5,\)"),
        ({"groups": GROUPS / 2}, "groups are of the type float64, not integers"),
    ):
        with pytest.raises(ValueError, match=message):
            potential.evaluate(TYPES, POSITIONS, **ARGUMENTS | change)
    numbers = [11, 12, 13, 14, 15]
    with pytest.raises(ValueError, match=r"^atom 12: weight 1, but atom 13 of the same group"):
        potential.evaluate(TYPES, POSITIONS, [1, 1, 0.5, 1, 0], numbers=numbers, groups=GROUPS)
    with pytest.raises(ValueError, match=r"^frame 1, atom 1: weight 2"):
        potential.evaluate(TYPES, [POSITIONS] * 2, [WEIGHTS, [1, 2, 1, 1, 1]], groups=np.arange(5))


def test_models_of_the_built_in_are_refused(tmp_path, model):
    nets = random_nets(2, **ZINC | {"fitting_neuron": [8]})
    builtin = write_model(tmp_path / "plain.pb", nets, ["O", "H"])
    potential = Potential(builtin, device="cpu")
    potential.evaluate(TYPES, POSITIONS, [1, 1, 1, 1, 0])
    with pytest.raises(ValueError, match=r"plain.pb .*built-in.* dp-mask convert"):
        potential.evaluate(TYPES, POSITIONS, **ARGUMENTS)


def test_mixed_precision(model):
    try:
        mixed = Potential(model, device="cpu", precision="mixed")
    except ValueError:
        pytest.skip("a model in float32")
    found = mixed.evaluate(TYPES, POSITIONS, **ARGUMENTS)
    wanted = Potential(model, device="cpu").evaluate(TYPES, POSITIONS, **ARGUMENTS)
    np.testing.assert_allclose(found.weight_gradient, wanted.weight_gradient, rtol=0, atol=1e-5)


@pytest.mark.skipif(not LIBRARIES, reason="built with -DDPMASK_C=OFF")
def test_c_gives_the_numbers_of_python(model, potential):
    """Bit for bit."""
    c = CPotential(model)
    everything = "energy energies forces virial weight_gradient"
    found = c.evaluate(TYPES[None], POSITIONS[None], **ARGUMENTS, wanted=everything)
    wanted = potential.evaluate(TYPES, POSITIONS, **ARGUMENTS, virial=True)
    for name in found:
        np.testing.assert_array_equal(found[name][0], getattr(wanted, name), err_msg=name)
    for names in ("", "weight_gradient", "forces", "energy weight_gradient"):
        some = c.evaluate(TYPES[None], POSITIONS[None], **ARGUMENTS, wanted=names)
        for name, values in some.items():
            np.testing.assert_array_equal(values, found[name])
    with pytest.raises(CError, match=r"^atom 1: mask value 0.3"):
        c.evaluate(TYPES[None], POSITIONS[None], WEIGHTS)
    with pytest.raises(CError, match="weight_gradient needs groups"):
        c.evaluate(TYPES[None], POSITIONS[None], wanted="weight_gradient")
    with pytest.raises(CError, match=r"^atom 1: weight 1, but atom 2 of the same group has 0.5"):
        c.evaluate(TYPES[None], POSITIONS[None], [1, 1, 0.5, 1, 1], groups=GROUPS)
    empty = c.evaluate(np.zeros((2, 0)), np.zeros((2, 0, 3)), wanted="weight_gradient")
    assert empty["weight_gradient"].shape == (2, 0)
    c.close()


# ---- Trained models -----------------------------------------------------------------------------


def waters_of(names, positions):
    """Return the atoms of each water, the oxygen first, from the nearest to the ion on."""
    distances = np.linalg.norm(positions[:, None] - positions, axis=2)
    found = []
    for oxygen in np.flatnonzero(names == "O"):
        near = np.flatnonzero((distances[oxygen] < 1.25) & (distances[oxygen] > 0))
        if len(near) == 2 and all(names[near] == "H"):
            found.append([oxygen, *near])
    ion = int(np.flatnonzero(names == "ZN")[0])
    return sorted(found, key=lambda atoms: distances[atoms[0], ion])


def test_fractions_are_between_whole_waters():
    """Of the example's committee: near the multilinear sum over all masks of four waters.

    Farther where bonds are weakened, too, each atom a group by itself.
    """
    potential = Potential(sorted((EXAMPLE / "models").glob("*.pb")), device="cpu")
    rng = np.random.default_rng(0)
    folder = EXAMPLE / "data" / "validation"
    (coord,) = folder.glob("set.*/coord.npy")
    types = np.loadtxt(folder / "type.raw", int)
    frames = np.load(coord).reshape(-1, len(types), 3)
    found = {"E": [], "F": [], "E without groups": [], "F without groups": []}
    masks = np.load(coord.with_name("aparam.npy"))
    for frame, mask in zip(frames[::6], masks[::6], strict=True):
        real = np.flatnonzero(mask)
        positions, of_real = frame[real], types[real]
        waters = waters_of(np.array(potential.type_map)[of_real], positions)[-4:]
        if len(waters) < 4:
            continue
        alone = np.arange(len(real))
        groups, weights, w = alone.copy(), np.ones(len(real)), rng.uniform(size=4)
        for atoms, weight in zip(waters, w, strict=True):
            groups[atoms], weights[atoms] = atoms[0], weight
        E, F = permuted(potential, of_real, positions, waters, w)
        for those, without in ((groups, ""), (alone, " without groups")):
            one = potential.evaluate(of_real, positions, weights, groups=those)
            found["E" + without].append(one.energy - E)
            found["F" + without].append(np.abs(one.forces - F).max())
    rms = {name: np.sqrt(np.mean(np.square(values))) for name, values in found.items()}
    assert len(found["E"]) > 10
    assert rms["E"] < 0.15 and rms["F"] < 0.05, rms
    assert all(rms[name + " without groups"] > 3 * rms[name] for name in "EF"), rms
