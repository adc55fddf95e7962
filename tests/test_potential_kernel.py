# SPDX-License-Identifier: LGPL-3.0-or-later
"""The potential on the kernels' own arrays, against the NumPy reference."""

import numpy as np
import pytest
import reference
from implementations import implementation, on  # noqa: F401

from deepmd_mask import _kernels

pytestmark = on("cpu", "cuda", "emulated")
kernels = _kernels  # or those that a test runs on
NTYPES = 3
# Relative to the largest number of a kind.
TOLERANCE = {"float64": 1e-11, "float32": 5e-5}


def random_model(
    seed=0,
    precision="float64",
    one_side=True,
    excluded=(),
    activation="tanh",
    neuron=(4, 8, 8),
    M2=3,
    fitting_neuron=(7, 7),
    steepness=0.7,
    **others,
):
    """Return arguments of Model; parameters are numbers of the precision, in float64."""
    rng = np.random.default_rng(seed)
    nnets = NTYPES if one_side else NTYPES**2

    def arrays(shapes, scale):
        found = [rng.normal(scale=scale, size=shape) for shape in shapes]
        return [array.astype(precision).astype(float) for array in found]

    of_net = reference.parameters_per_net(neuron, True)
    of_type = reference.parameters_per_fitting_net(neuron[-1] * M2, fitting_neuron, True)
    return {
        "precision": precision,
        "n": 17.0,
        "M2": M2,
        "net": [
            -1 if (i, j) in excluded or (j, i) in excluded else (j if one_side else i * NTYPES + j)
            for i in range(NTYPES)
            for j in range(NTYPES)
        ],
        "neuron": list(neuron),
        "resnet_dt": True,
        "activation": activation,
        "parameters": arrays(of_net * nnets, steepness),
        "table": None,
        "min_distance": None,
        "fitting_neuron": list(fitting_neuron),
        "fitting_resnet_dt": True,
        "fitting_activation": "tanh",
        "fitting_parameters": arrays(of_type * NTYPES, 0.4),
        "bias": rng.normal(size=NTYPES),
        **others,
    }


class Molecules:
    """Random frames of atoms in any order, some of them virtual."""

    def __init__(self, nreal=(7, 4), natoms=9, seed=1):
        rng = np.random.default_rng(seed)
        nframes = len(nreal)
        self.types = rng.integers(NTYPES, size=(nframes, natoms)).astype(np.int32)
        self.positions = rng.normal(scale=2.0, size=(nframes, natoms, 3))
        self.weights = np.zeros((nframes, natoms))
        for frame, count in enumerate(nreal):
            self.weights[frame, rng.permutation(natoms)[:count]] = 1
        self.types[self.weights == 0] = -1
        self.positions[self.weights == 0] = np.nan  # never read

    def by_reference(self, model):
        """Return energies, forces, virials and atomic virials' sum, by complex steps."""
        coord = np.where(self.weights[..., None] > 0, self.positions, 0)

        def E(coord):
            return reference.atomic_energies(coord, self.types, self.weights, model)

        strains = np.eye(9).reshape(9, 3, 3)
        virial = [
            -np.imag(E(coord + 1e-30j * coord @ strain.T)).sum(1) / 1e-30 for strain in strains
        ]
        forces = -reference.gradient(lambda coord: E(coord).sum(), coord)
        return E(coord), forces, np.array(virial).T

    def evaluate(self, potential, virial=False):
        return potential.evaluate(self.types, self.positions, self.weights, virial)


def potential_of(*models, threads=2):
    return kernels.Potential([kernels.Model(**model) for model in models], threads)


def assert_close(found, wanted, precision="float64"):
    atol = TOLERANCE[precision] * max(np.abs(wanted).max(initial=0), 1e-3)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"one_side": False},
        {"excluded": [(0, 1), (2, 2)]},
        {"excluded": [(0, 1)], "one_side": False},
        {"activation": "relu"},
        {"activation": "silut:0.5"},
        {"fitting_neuron": ()},
        {"min_distance": 20.0},  # longer than those here: the nets themselves
        {"steepness": 9.0},  # so steep that there is no table
    ],
    ids=str,
)
def test_is_the_reference(options, precision):
    model = random_model(**options, precision=precision)
    molecules = Molecules()
    wanted = molecules.by_reference(model)
    energy, energies, forces, virial, atom_virial = molecules.evaluate(potential_of(model), True)
    assert_close(energies[0], wanted[0], precision)
    np.testing.assert_allclose(energy, energies.sum(2), rtol=1e-14, atol=1e-14)
    assert_close(forces[0], wanted[1], precision)
    assert_close(virial[0], wanted[2], precision)
    np.testing.assert_allclose(virial, atom_virial.sum(2), rtol=1e-12, atol=1e-12)
    is_virtual = molecules.weights == 0
    assert not energies[0, is_virtual].any() and not forces[0, is_virtual].any()


def test_virials_are_given_if_asked_for():
    molecules, potential = Molecules(), potential_of(random_model())
    *without, virial, atom_virial = molecules.evaluate(potential)
    assert virial is None and atom_virial is None
    assert_same(without, molecules.evaluate(potential, True)[:3])


@pytest.mark.parametrize("nreal", [(), (0,), (1,), (0, 1), (9, 9)])
def test_few_atoms(nreal):
    model, molecules = random_model(), Molecules(nreal)
    energy, energies, forces, virial, _ = molecules.evaluate(potential_of(model), True)
    assert energy.shape == (1, len(nreal))
    wanted = molecules.by_reference(model)
    for found, of_reference in zip((energies, forces, virial), wanted, strict=True):
        assert_close(found[0], of_reference)


def test_without_weights_all_atoms_are_real():
    molecules, potential = Molecules((9, 9)), potential_of(random_model())
    with_weights = molecules.evaluate(potential)
    without = potential.evaluate(molecules.types, molecules.positions)
    assert_same(without[:3], with_weights[:3])


def test_the_order_of_atoms_does_not_matter():
    molecules, potential = Molecules((9, 9)), potential_of(random_model())
    _, energies, forces, *_ = molecules.evaluate(potential)
    order = np.random.default_rng(2).permutation(9)
    _, of_ordered, forces_of_ordered, *_ = potential.evaluate(
        molecules.types[:, order], molecules.positions[:, order]
    )
    assert_close(of_ordered[0], energies[0][:, order])
    assert_close(forces_of_ordered[0], forces[0][:, order])


def test_a_committee_is_its_models():
    """Bit for bit: side by side, as many as there are threads, and those left over.

    On a GPU models are evaluated one after the other.
    """
    models = [
        random_model(0),
        random_model(1, precision="float32", one_side=False),
        random_model(2, one_side=False),
        random_model(3),
    ]
    molecules = Molecules()
    alone = [molecules.evaluate(potential_of(model), True) for model in models]
    for threads in (1, 2, 3, 5) if kernels is _kernels else (2,):
        committee = molecules.evaluate(potential_of(*models, threads=threads), True)
        for k in range(len(models)):
            assert_same([array[k] for array in committee], [array[0] for array in alone[k]])


def assert_same(found, wanted):
    """Bit for bit."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def table_of(model, **options):
    fit_table = {"float64": kernels.fit_table64, "float32": kernels.fit_table32}[model["precision"]]
    names = ("neuron", "resnet_dt", "activation", "parameters")
    return fit_table(**{name: model[name] for name in names}, **options)


@pytest.mark.parametrize("precision", TOLERANCE)
def test_a_table_is_used_as_it_is(precision):
    """Also beyond its end, and without the nets that it was made of."""
    model = random_model(precision=precision)
    table = table_of(model, lower=0.0, upper=0.4, narrowest=0.05)
    molecules = Molecules()
    found = molecules.evaluate(potential_of({**model, "table": table}))
    bare = {**model, "table": table, "parameters": []}
    alone = molecules.evaluate(potential_of(bare))
    np.testing.assert_array_equal(found[2], alone[2])
    other = molecules.evaluate(potential_of(model))
    assert np.abs(other[2] - found[2]).max() > 1e-3 * np.abs(found[2]).max()


def test_beyond_the_end_of_a_table_made_here_the_nets_are_asked():
    """Whatever came before: what is given depends on the input alone."""
    model = random_model(min_distance=5.0)  # its table ends at s = 1
    potential, rng = potential_of(model), np.random.default_rng(3)
    types = np.zeros((1, 2), np.int32)
    for distance in (1.2, 1.0001, 0.9999, 0.3, 0.01, 1e-5, 1.2):
        molecules = Molecules((2,), 2)
        molecules.types[:], molecules.positions[0] = types, rng.normal(size=3)
        molecules.positions[0, 1] += [0, 0, distance]
        _, energies, forces, *_ = molecules.evaluate(potential)
        wanted = molecules.by_reference(model)
        assert_close(energies[0], wanted[0])
        np.testing.assert_allclose(forces[0], wanted[1], rtol=1e-9, atol=1e-11)


def test_threads():
    molecules = Molecules((60, 50), 70)
    model = random_model()
    alone = molecules.evaluate(potential_of(model, threads=1), True)
    for threads in (2, 5):
        potential = potential_of(model, threads=threads)
        assert potential.threads == (threads if kernels is _kernels else 1)
        assert_same(molecules.evaluate(potential, True), alone)
    assert potential_of(model, threads=0).threads >= 1


def test_bad_atoms():
    potential = potential_of(random_model())
    molecules = Molecules((9, 9))

    def change(array, place, value):
        changed = Molecules((9, 9))
        getattr(changed, array)[place] = value
        return changed

    for changed, message in [
        (change("weights", (1, 2), 0.9), "frame 1, atom 2: mask value 0.9"),
        (change("types", (0, 3), 3), "frame 0, atom 3: type 3"),
        (
            change("positions", (1, 4, 1), np.inf),
            "frame 1, atom 4: coordinate y of a real atom is inf",
        ),
        (change("positions", (1, 4), molecules.positions[1, 7]), "frame 1, atom 4: .*atom 7"),
    ]:
        with pytest.raises(kernels.AtomError, match=message) as caught:
            changed.evaluate(potential)
        assert caught.value.fault.frame in {0, 1}
    with pytest.raises(kernels.AtomError, match="type"):
        potential.evaluate(molecules.types + 3, molecules.positions)
    with pytest.raises(kernels.AtomError, match="frame 0"):
        potential.evaluate(-molecules.types - 1, molecules.positions)


def test_shapes_that_do_not_fit_are_refused():
    potential, molecules = potential_of(random_model()), Molecules()
    for arguments in [
        (molecules.types[0], molecules.positions),
        (molecules.types, molecules.positions[:, 1:]),
        (molecules.types, molecules.positions.reshape(2, -1)),
        (molecules.types, molecules.positions, molecules.weights[:1]),
    ]:
        with pytest.raises(ValueError, match="must have the shape"):
            potential.evaluate(*arguments)


BAD_MODELS = {
    "precision": ("float16", "precision must be"),
    "n": (0.0, "n must be positive"),
    "M2": (9, "M2 must be between 1 and M1"),
    "net": ([0] * 8, "net must have ntypes"),
    "neuron": ([], "at least one layer"),
    "activation": ("tan", "tan"),
    "parameters": ([np.zeros(4)], "3 arrays|arrays for each net"),
    "min_distance": (-1.0, "min_distance must be positive"),
    "fitting_neuron": ([0], "fitting_neuron must be between 1"),
    "fitting_activation": ("sinh", "sinh"),
    "fitting_parameters": ([], "fitting nets of 0 types"),
    "bias": ([], "bias must have an entry"),
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_models_that_do_not_fit_are_refused(name):
    value, message = BAD_MODELS[name]
    with pytest.raises(ValueError, match=message):
        kernels.Model(**{**random_model(), name: value})


def test_tables_that_do_not_fit_are_refused():
    model = random_model()
    first, panels, C = table_of(model, lower=0.0, upper=2.0, narrowest=0.1)
    descending = panels.copy()
    descending[:, 0] *= -1
    of_others = (first - first[1]).clip(0), panels[first[1] :], C[first[1] :]
    for table, parameters, message in [
        ((first[:-1], panels, C), None, "end with the number of panels"),
        ((first, panels[:, :1], C), None, "number of panels"),
        ((first, panels, C[:, 1:]), None, r"C \[npanels, 16, M1\]"),
        ((first, panels * np.nan, C), None, "no interval"),
        ((first, descending, C), None, "no interval"),
        ((first, panels * [1, 0], C), None, "no interval"),
        ((np.append(first, first[-1]), panels, C), None, "there are 3 nets, but a table of 4"),
        (of_others, [], "net 0 has neither"),
    ]:
        change = {"table": table} if parameters is None else {"table": table, "parameters": []}
        with pytest.raises(ValueError, match=message):
            kernels.Model(**{**model, **change})


def test_committees_that_do_not_fit_are_refused():
    model = kernels.Model(**random_model())
    one_type = {"net": [0], "bias": [0.0]}
    other = random_model()
    for name in ("parameters", "fitting_parameters"):
        one_type[name] = other[name][: len(other[name]) // NTYPES]
    with pytest.raises(ValueError, match="the same types, not 3 and 1"):
        kernels.Potential([model, kernels.Model(**{**other, **one_type})])
    with pytest.raises(ValueError, match="at least one model"):
        kernels.Potential([])
    with pytest.raises(ValueError, match="threads"):
        kernels.Potential([model], -1)
