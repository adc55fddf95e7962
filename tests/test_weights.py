# SPDX-License-Identifier: LGPL-3.0-or-later
"""Atoms that are there in part: weights between 0 and 1, groups, and the derivative by weights."""

import numpy as np
import pytest
import reference
from embedding_case import case_of
from implementations import INSTRUCTION_SETS, implementation, on  # noqa: F401
from test_potential_kernel import Molecules, assert_same, random_model

from deepmd_mask import _kernels

everywhere = on(*INSTRUCTION_SETS, "cuda", "emulated")
kernels = _kernels  # or those that a test runs on
NGROUPS = 5
# Of dE/dw, relative to the largest one.
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
CASES = [
    "one side",  # the nets themselves
    "excluded, two sides",
    "300 slots",
    "float32",
    "no real atom",
    "one real atom",
    "gentle nets, two sides",  # series
    "gentle nets, float32",
    "steeper nets",
    "some too steep",  # both
    "kinks",
    "wide nets",
    "wide nets, float32",
    "activation gelu",
    "activation silut:0.5",
    "activation relu6",
]


class Weighted(Molecules):
    """Random frames, as good as all of whose groups have a weight below 1."""

    def __init__(self, nreal=(7, 4), natoms=9, seed=1):
        super().__init__(nreal, natoms, seed)
        rng = np.random.default_rng(seed + 100)
        numbers = rng.choice([-3, 0, 7, 2**40, -(2**62)], NGROUPS, replace=False)
        which = rng.integers(NGROUPS, size=self.weights.shape)
        self.groups = numbers[which]
        self.whole = self.weights.copy()
        of_groups = rng.uniform(0.05, 1.2, size=(len(nreal), NGROUPS)).clip(0, 1)
        self.weights = self.weights * np.take_along_axis(of_groups, which, axis=1)

    def E(self, model, coord=None, weights=None):
        """Return the atoms' energies by the reference."""
        coord = self.coord if coord is None else coord
        weights = self.weights if weights is None else weights
        return reference.atomic_energies(coord, self.types, weights, model, self.groups)

    @property
    def coord(self):
        return np.where(self.weights[..., None] > 0, self.positions, 0)

    def by_reference(self, model):
        """Return energies, forces, virials and dE/dw, by complex steps."""
        strains = np.eye(9).reshape(9, 3, 3)
        virial = [
            -np.imag(self.E(model, self.coord + 1e-30j * self.coord @ strain.T)).sum(1) / 1e-30
            for strain in strains
        ]
        forces = -reference.gradient(lambda coord: self.E(model, coord).sum(), self.coord)
        by_weight = reference.weight_gradient(
            lambda weights: self.E(model, weights=weights).sum(), self.weights
        )
        return self.E(model), forces, np.array(virial).T, by_weight

    def evaluate(self, potential, virial=False, weights=None):
        weights = self.weights if weights is None else weights
        return potential.evaluate(self.types, self.positions, weights, virial, self.groups)


def potential_of(*models, threads=2):
    return kernels.Potential([kernels.Model(**model) for model in models], threads)


def assert_close(found, wanted, tolerance):
    atol = tolerance * max(np.abs(wanted).max(initial=0), 1e-3)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


# ---- The kernel of forces -----------------------------------------------------------------------


@everywhere
@pytest.mark.parametrize("name", CASES)
def test_pairs_are_the_reference(name):
    """X, forces and what pairs give of dE/dw, with A as it is."""
    case = case_of(name, ngroups=NGROUPS)
    embedding = case.kernels(case.atoms, threads=2)
    case.assert_close(embedding.embed(), case.X_by_reference)
    force, virial, _, weight_gradient = embedding.force(case.A)
    for direction, wanted in case.moves:
        case.assert_project([-force], [direction], wanted)
    for strain, wanted in case.strains:
        case.assert_project([-virial], [strain.reshape(-1, 9)], wanted)
    tolerance = TOLERANCE[np.dtype(case.dtype).name]
    assert_close(weight_gradient, case.weight_gradient, tolerance)


@everywhere
def test_environment_has_groups():
    """The environment matrix, which has no net."""
    case = case_of("all real", ngroups=NGROUPS)
    atoms = case.atoms
    R = kernels.environment(atoms).reshape(2, 12, 12, 4)  # slots of each frame by type, as they are
    w_ij = np.where(case.groups[:, :, None] == case.groups[:, None], 1, case.mask[:, None])
    d = case.coord[:, None] - case.coord[:, :, None]
    r2 = np.sum(d * d, axis=3) + np.eye(12)
    R0 = np.concatenate([r2[..., None] ** -0.5, d / r2[..., None]], axis=3)
    R0 *= 1 - np.eye(12)[..., None]
    case.assert_close(R, w_ij[..., None] * R0)
    dR = case.rng.normal(size=R.shape)
    weight_gradient = kernels.environment_force(atoms, dR.reshape(-1, 4))[3]
    others = case.groups[:, :, None] != case.groups[:, None]
    case.assert_close(weight_gradient, np.einsum("fij,fijc,fijc->fj", others, R0, dR))


# ---- The potential ------------------------------------------------------------------------------


@everywhere
@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize(
    "options",
    [
        {},  # a table of the nets
        {"one_side": False, "excluded": [(0, 1)]},
        {"min_distance": 20.0},  # longer than those here: the nets themselves
        {"min_distance": 20.0, "one_side": False},
        {"activation": "relu"},
        {"activation": "relu", "min_distance": 20.0},
        {"activation": "silut:0.5"},
        {"steepness": 9.0},  # so steep that there is no table
        {"fitting_activation": "relu"},
        {"fitting_neuron": ()},
    ],
    ids=str,
)
def test_is_the_reference(options, precision):
    model, molecules = random_model(**options, precision=precision), Weighted()
    energies, forces, virial, by_weight = molecules.by_reference(model)
    found = molecules.evaluate(potential_of(model), True)
    tolerance = TOLERANCE[precision]
    assert_close(found[1][0], energies, tolerance)
    assert_close(found[2][0], forces, 20 * tolerance)
    assert_close(found[3][0], virial, 20 * tolerance)
    np.testing.assert_allclose(found[3], found[4].sum(2), rtol=1e-12, atol=1e-12)
    assert_close(found[5][0], by_weight, tolerance)
    is_virtual = molecules.weights == 0
    assert not any(array[0, is_virtual].any() for array in (found[1], found[2], found[5]))


@everywhere
def test_many_atoms_in_several_frames():
    """So many that work is cut, and more than one model."""
    models = [random_model(), random_model(1, one_side=False)]
    molecules = Weighted((60, 0, 45), 70)
    found = molecules.evaluate(potential_of(*models))
    for k, model in enumerate(models):
        assert_close(found[1][k], molecules.E(model), 1e-11)
        wanted = reference.weight_gradient(
            lambda weights, model=model: molecules.E(model, weights=weights).sum(),
            molecules.weights,
        )
        assert_close(found[5][k], wanted, 1e-12)


@on("cpu", "cuda", "emulated")
def test_pairs_sum_up():
    """No force or torque on a frame: weights stay as they are."""
    molecules = Weighted((60, 45), 70)
    forces = molecules.evaluate(potential_of(random_model()))[2][0]
    scale = np.abs(forces).max()
    torque = np.cross(molecules.coord, forces).sum(axis=1)
    assert np.abs(forces.sum(axis=1)).max() < 1e-12 * scale
    assert np.abs(torque).max() < 1e-11 * scale


@everywhere
@pytest.mark.parametrize("precision", TOLERANCE)
def test_masks_of_0_and_1_change_no_bit(precision):
    for options in ({}, {"min_distance": 20.0}):
        potential = potential_of(random_model(precision=precision, **options))
        molecules = Weighted((60, 45), 70)
        wanted = potential.evaluate(molecules.types, molecules.positions, molecules.whole, True)
        assert len(wanted) == 5
        found = molecules.evaluate(potential, True, weights=molecules.whole)
        assert_same(found[:5], wanted)


@on("cpu", "cuda", "emulated")
@pytest.mark.parametrize("options", [{}, {"min_distance": 20.0}, {"precision": "float32"}])
def test_an_atom_of_no_weight_is_as_good_as_removed(options):
    potential, molecules = potential_of(random_model(**options)), Weighted((9, 9))
    group = molecules.groups == molecules.groups[0, 0]
    found = {}
    for weight in (0, 1e-300, 1e-12):
        weights = np.where(group, weight, molecules.weights)
        energy, _, forces, *_ = molecules.evaluate(potential, weights=weights)
        found[weight] = energy, np.where(group[..., None], 0, forces[0])
    for weight in (1e-300, 1e-12):
        for one, other in zip(found[weight], found[0], strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)


def test_within_a_group_all_count_whole():
    """A group by itself has w times its energy, and the weight gradient sums up to that."""
    model, molecules = random_model(), Weighted((5,), 5)
    molecules.groups[:] = 4
    whole = molecules.evaluate(potential_of(model), weights=np.ones((1, 5)))
    part = molecules.evaluate(potential_of(model), weights=np.full((1, 5), 0.3))
    np.testing.assert_allclose(part[0], 0.3 * whole[0], rtol=1e-14)
    np.testing.assert_allclose(part[2], 0.3 * whole[2], rtol=0, atol=1e-14)
    for found in (whole, part):
        np.testing.assert_allclose(found[5].sum(2), whole[0], rtol=1e-14)


@on("cpu", "cuda", "emulated")
def test_threads_change_no_bit():
    molecules, model = Weighted((60, 50), 70), random_model()
    for options in ({}, {"min_distance": 20.0}):
        alone = molecules.evaluate(potential_of(model | options, threads=1), True)
        for threads in (2, 5):
            many = potential_of(model | options, threads=threads)
            assert_same(molecules.evaluate(many, True), alone)


def test_mixed_precision():
    model, molecules = random_model(), Weighted()
    wanted = molecules.evaluate(potential_of(model))
    found = molecules.evaluate(potential_of(model | {"precision": "mixed"}))
    for one, other in zip(found, wanted, strict=True):
        if other is not None:
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    assert np.abs(found[5] - wanted[5]).max() > 0


# ---- Bad input ----------------------------------------------------------------------------------


@on("cpu", "cuda", "emulated")
@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, 1 + 1e-15, 2.0])
def test_weights_are_between_0_and_1(value):
    potential, molecules = potential_of(random_model()), Weighted((9, 9))
    molecules.weights[1, 2] = value
    with pytest.raises(kernels.AtomError, match=r"frame 1, atom 2: weight .* not between 0 and 1"):
        molecules.evaluate(potential)


@on("cpu", "cuda", "emulated")
def test_fractions_need_groups():
    potential, molecules = potential_of(random_model()), Weighted((9, 9))
    molecules.weights[:] = 1
    molecules.weights[1, 2] = 0.9
    with pytest.raises(kernels.AtomError, match=r"frame 1, atom 2: mask value 0.9 is neither"):
        potential.evaluate(molecules.types, molecules.positions, molecules.weights)


@on("cpu", "cuda", "emulated")
def test_a_group_has_one_weight():
    potential, molecules = potential_of(random_model()), Weighted((9, 9))
    molecules.weights[:] = 1
    molecules.groups[:] = np.arange(9)
    molecules.groups[1, [2, 5, 7]] = 2
    molecules.weights[1, [2, 5, 7]] = [0.25, 0.25, 0.5]
    message = "frame 1, atom 2: weight 0.25, but atom 7 of the same group has 0.5; .* one weight"
    with pytest.raises(kernels.AtomError, match=message) as caught:
        molecules.evaluate(potential)
    fault = caught.value.fault
    assert (fault.code, fault.atom, fault.other, fault.value) == ("group", 2, 7, 0.25)
    assert "atom 20: weight 0.25, but atom 70" in fault.renumbered({2: 20, 7: 70}).message()
    assert type(fault).read(fault.written).text == fault.text
    molecules.weights[1, 7] = 0  # a virtual one is of no group
    molecules.evaluate(potential)
    molecules.weights[1, 7] = 0.5
    molecules.groups[1, 7] = 11  # nor is it of one of another frame
    molecules.groups[0, :] = 2
    molecules.evaluate(potential)


def test_groups_have_the_shape_of_types():
    potential, molecules = potential_of(random_model()), Weighted()
    with pytest.raises(ValueError, match="groups must have the shape"):
        potential.evaluate(
            molecules.types, molecules.positions, molecules.weights, groups=molecules.groups[:1]
        )
