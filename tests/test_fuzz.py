# SPDX-License-Identifier: LGPL-3.0-or-later
"""Whatever the bindings are given, they refuse it with a message or return finite numbers.

Each check returns what became of its input. Here they get a share of inputs that is always the
same; fuzz/bindings.py gives them as many as one likes.
"""

import helpers
import numpy as np
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_input import RandomFrames, RandomNets, random_model

from deepmd_mask import _kernels

MANY = settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
REFUSALS = (ValueError, TypeError)
SEEDS = st.integers(0, 2**32 - 1)


def check_real_atoms(seed):
    frames = RandomFrames(seed)
    if not frames.good():
        with pytest.raises(ValueError, match=r"frame \d+, atom \d+: "):
            frames.atoms()
        return "refused"
    atoms = frames.atoms()
    np.testing.assert_array_equal(atoms.slot, reference.real_atoms(frames.types, frames.mask))
    assert atoms.first.shape == (frames.ntypes * len(frames.mask) + 1,)
    assert atoms.min_distance == pytest.approx(frames.shortest())
    return "done"


@MANY
@given(SEEDS)
def test_real_atoms(seed):
    check_real_atoms(seed)


def arrays(allow_none=True):
    """Arrays of any small shape and of types that make no sense."""
    shapes = st.lists(st.integers(0, 4), max_size=4)
    dtypes = st.sampled_from(["f8", "f4", "i8", "u1", "?", "c16", "U3", "O", "M8[s]"])
    made = st.builds(lambda s, t: np.zeros(s, dtype=t), shapes, dtypes)
    return st.one_of(made, st.text(max_size=3), st.floats()) | (st.none() if allow_none else made)


def check_anything(coord, types, mask, ntypes):
    try:
        atoms = _kernels.RealAtoms(coord, types, mask, ntypes)
    except REFUSALS as error:
        assert str(error)
        return "refused"
    assert len(atoms.slot) <= np.size(mask)
    return "done"


@MANY
@given(arrays(), arrays(), arrays(), st.integers(-3, 3) | st.floats())
@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
def test_real_atoms_of_anything(coord, types, mask, ntypes):
    check_anything(coord, types, mask, ntypes)


def assert_finite(array, shape):
    assert array.shape == shape
    assert np.isfinite(array).all()


def run_all(kernels, atoms, frames, nets):
    """Run each kernel and check shapes and values of what it returns."""
    (nframes, nslots), dtype = frames.mask.shape, nets.dtype
    X = kernels.embed()
    assert_finite(X, (len(atoms.slot), 4, nets.options["neuron"][-1]))
    shapes = [p.shape for p in nets.options["parameters"]]
    A = frames.rng.normal(size=X.shape).astype(dtype)
    for grad, shape in zip(kernels.embed_grad(A), shapes, strict=True):
        assert_finite(grad, shape)
    force_shapes = [(nframes, nslots, 3), (nframes, 9), (nframes, nslots, 9)]
    for out, shape in zip(kernels.force(A), force_shapes, strict=True):
        assert_finite(out, shape)
    dA, grads = kernels.force_grad(A, *(np.ones(shape) for shape in force_shapes))
    for grad, shape in zip([dA, *grads], [X.shape, *shapes], strict=True):
        assert_finite(grad, shape)


def check_good_input(seed):
    """Distances between 1e-6 and 1e100 of the unit, all nets and activation functions."""
    frames = RandomFrames(seed)
    # Virials have r^2, and so no number beyond.
    if not frames.good() or np.abs(frames.coord[frames.mask != 0]).max(initial=0) > 1e100:
        return "not tried: bad frames"
    nets, atoms = RandomNets(frames, spoilt=False), frames.atoms()
    run_all(nets.kernels(atoms), atoms, frames, nets)
    return "done"


@MANY
@given(SEEDS)
def test_good_input_gives_finite_numbers(seed):
    check_good_input(seed)


def check_bad_nets(seed):
    frames = RandomFrames(seed)
    if not frames.good():
        return "not tried: bad frames"
    nets, atoms = RandomNets(frames, spoilt=True), frames.atoms()
    with pytest.raises(REFUSALS) as refusal:
        nets.kernels(atoms).embed()
    assert len(str(refusal.value)) > len("stod")
    return "refused"


@MANY
@given(SEEDS)
def test_bad_nets_are_refused(seed):
    check_bad_nets(seed)


@pytest.mark.parametrize("activation", ["silut:", "silut:x", "silut:1e999", "tanh:3", "Tan"])
def test_bad_activation_function(activation):
    frames = RandomFrames(3)
    nets = RandomNets(frames, spoilt=False)
    nets.options["activation"] = activation
    frames.mask[:] = 0
    with pytest.raises(ValueError, match=f'activation function "{activation}"'):
        nets.kernels(frames.atoms())


def test_bad_instruction_set(monkeypatch):
    monkeypatch.setenv("DP_MASK_ISA", "avx")
    with pytest.raises(ValueError, match='DP_MASK_ISA is "avx"'):
        _kernels.instruction_set()


def check_wrong_arrays(seed, one, two, three):
    """Arrays in the place of X, A and the cotangents; a right size by chance is all right."""
    frames = RandomFrames(seed, max_slots=2)
    if not frames.good():
        return "not tried: bad frames"
    nets, atoms = RandomNets(frames, spoilt=False), frames.atoms()
    kernels = nets.kernels(atoms)
    A = kernels.embed()
    calls = [
        lambda: kernels.embed_grad(one),
        lambda: kernels.force(one),
        lambda: kernels.force_grad(A, one, two, three),
        lambda: _kernels.environment_force(atoms, one),
        lambda: _kernels.environment_force_grad(atoms, one, two, three),
        lambda: atoms.set_weight(one),
    ]
    return f"{refusals_of(calls)} of {len(calls)} calls refused"


def refusals_of(calls):
    """Count the calls that are refused."""
    count = 0
    for call in calls:
        try:
            call()
        except REFUSALS as error:
            assert str(error)
            count += 1
    return count


@MANY
@given(SEEDS, arrays(), arrays(), arrays())
@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning", "ignore:overflow")
def test_wrong_arrays(seed, one, two, three):
    check_wrong_arrays(seed, one, two, three)


def check_wrong_fitting_arrays(seed, one, two, three):
    """Arrays in the place of D, the parameters and the cotangents."""
    rng = np.random.default_rng(seed)
    first = np.array([0, 2, 3])
    D = np.ones((3, 4))
    neuron = rng.integers(1, 20, size=rng.integers(0, 3)).tolist()
    shapes = 2 * reference.parameters_per_fitting_net(4, neuron, resnet_dt=True)
    parameters = [np.ones(shape) for shape in shapes]
    options = {"neuron": neuron, "resnet_dt": True, "activation": "tanh"}
    fitting = _kernels.Fitting64(first, D, parameters=parameters, **options)
    e, A, z = fitting.energies()
    X = np.ones((3, 4, 5))
    calls = [
        lambda: _kernels.Fitting64(one, D, parameters=parameters, **options).energies(),
        lambda: _kernels.Fitting64(first, one, parameters=parameters, **options).energies(),
        lambda: _kernels.Fitting64(first, D, parameters=[one, two, three], **options).energies(),
        lambda: fitting.energies_grad(one, e, A),
        lambda: fitting.energies_grad(z, one, A),
        lambda: fitting.energies_grad(z, e, one),
        lambda: _kernels.contract64(X, one, 2),
        lambda: _kernels.contract64(one, one, 2),
        lambda: _kernels.contract_reverse64(X, one, 2),
    ]
    return f"{refusals_of(calls)} of {len(calls)} calls refused"


@MANY
@given(SEEDS, arrays(), arrays(), arrays())
@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning", "ignore:overflow")
def test_wrong_arrays_of_the_fitting_nets(seed, one, two, three):
    check_wrong_fitting_arrays(seed, one, two, three)


def check_potential(seed):
    """Good frames give finite numbers, and bad ones an error."""
    frames = RandomFrames(seed)
    if np.abs(frames.coord[frames.mask != 0]).max(initial=0) > 1e100:
        return "not tried: virials are no numbers"
    potential = _kernels.Potential([_kernels.Model(**random_model(frames))], 2)
    arguments = frames.types, frames.coord, frames.mask, True
    if not frames.good():
        with pytest.raises(_kernels.AtomError, match=r"frame \d+, atom \d+: "):
            potential.evaluate(*arguments)
        return "refused"
    (nframes, natoms), found = frames.mask.shape, potential.evaluate(*arguments)
    shapes = [(), (natoms,), (natoms, 3), (9,), (natoms, 9)]
    for array, shape in zip(found, shapes, strict=True):
        assert_finite(array, (1, nframes, *shape))
    return "done"


@MANY
@given(SEEDS)
def test_potential(seed):
    check_potential(seed)


def check_weights(seed):
    """Good frames with groups give finite numbers, whatever groups are called; bad ones an error.

    Masks of 0 and 1 give the bits that they give without groups.
    """
    frames = RandomFrames(seed)
    if np.abs(frames.coord[frames.mask != 0]).max(initial=0) > 1e100:
        return "not tried: virials are no numbers"
    frames.give_groups()
    potential = _kernels.Potential([_kernels.Model(**random_model(frames))], 2)
    arguments = frames.types, frames.coord, frames.mask, True
    if not frames.good():
        with pytest.raises(_kernels.AtomError, match=r"frame \d+, atom \d+: "):
            potential.evaluate(*arguments, groups=frames.groups)
        return "refused"
    (nframes, natoms), found = frames.mask.shape, potential.evaluate(*arguments, frames.groups)
    shapes = [(), (natoms,), (natoms, 3), (9,), (natoms, 9), (natoms,)]
    for array, shape in zip(found, shapes, strict=True):
        assert_finite(array, (1, nframes, *shape))
    for array, other in zip(found, potential.evaluate(*arguments, ~frames.groups), strict=True):
        np.testing.assert_array_equal(array, other)
    frames.mask = np.ceil(frames.mask)
    whole = potential.evaluate(*arguments[:2], frames.mask, True, frames.groups)
    masked = potential.evaluate(*arguments[:2], frames.mask, True)
    for array, other in zip(whole, masked, strict=False):
        np.testing.assert_array_equal(array, other)
    return "done"


@MANY
@given(SEEDS)
def test_weights(seed):
    check_weights(seed)


def check_wrong_model(seed, one, two, three):
    """Arrays, and what is none, in the place of a model's arguments and of frames."""
    frames = RandomFrames(seed, max_slots=2)
    model = random_model(frames)
    potential = _kernels.Potential([_kernels.Model(**model)], 1)
    wild = [one, two, three, [one, two], (one, two, three), -1, 2**62, "", np.nan]
    calls = [
        lambda name=name, value=value: _kernels.Potential(
            [_kernels.Model(**{**model, name: value})], 1
        )
        for name in model
        for value in wild
    ]
    frames.mask[:] = 0
    calls += [
        lambda: potential.evaluate(one, two),
        lambda: potential.evaluate(frames.types, one),
        lambda: potential.evaluate(frames.types, frames.coord, one),
        lambda: potential.evaluate(one, frames.coord, frames.mask, True),
        lambda: potential.evaluate(frames.types, frames.coord, frames.mask, True, one),
        lambda: potential.evaluate(frames.types, frames.coord, one, True, two),
    ]
    return f"{refusals_of(calls)} of {len(calls)} calls refused"


@settings(MANY, max_examples=10)
@given(SEEDS, arrays(), arrays(), arrays())
@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning", "ignore:overflow")
def test_wrong_models(seed, one, two, three):
    check_wrong_model(seed, one, two, three)


# ---- What could take the process down has one of its own ----------------------------------------

PREPARE = """
import resource
import numpy as np
from deepmd_mask import _kernels

def atoms(nframes, nslots, ntypes=1):
    coord = np.arange(3.0 * nframes * nslots)
    return _kernels.RealAtoms(
        coord, np.zeros((nframes, nslots)), np.ones((nframes, nslots)), ntypes)

def kernels(atoms, threads=1):
    parameters = [np.ones((1, 3)), np.ones(3)]
    return _kernels.Embedding64(atoms, neuron=[3], resnet_dt=False, activation="tanh", net=[0],
                                parameters=parameters, n=1.0, threads=threads)

large = atoms(3, 60)
try:
    {call}
    print("done")
except (ValueError, TypeError, MemoryError, RuntimeError) as error:
    print("refused:", error)
"""
CALLS = {
    "number of types overflows": "atoms(4, 2, ntypes=2**62)",
    "more threads than there can be": (
        "resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31)); "
        "kernels(large, threads=5000).embed()"
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_no_crash(call, tmp_path):
    output = helpers.run_python(["-c", PREPARE.replace("{call}", CALLS[call])], tmp_path)
    assert "refused: " in output or "done" in output
