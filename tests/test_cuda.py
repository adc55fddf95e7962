# SPDX-License-Identifier: LGPL-3.0-or-later
"""What the CUDA kernels promise beyond the results that tests/test_kernels.py checks."""

from functools import partial

import implementations
import numpy as np
import pytest
import reference
from embedding_case import NTYPES, Case, N, split
from fitting_case import FittingCase

from deepmd_mask import _kernels as cpu

pytestmark = implementations.on("cuda", "emulated")


@pytest.fixture
def implementation(request):
    return request.param


@pytest.fixture
def kernels(implementation, monkeypatch):
    loaded = implementations.load(implementation)
    monkeypatch.setattr("implementations.kernels", loaded)
    return loaded


def run_again(kernels, run):
    """Run a second time: on the CPU all threads and blocks in the opposite order."""
    emulated = hasattr(kernels.cuda, "run_backwards")
    if emulated:
        kernels.cuda.run_backwards(True)
    try:
        return run()
    finally:
        if emulated:
            kernels.cuda.run_backwards(False)


def assert_same_bits(kernels, run):
    for one, other in zip(run(), run_again(kernels, run), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("options", "nets"),
    [
        ({"nreal": (30, 21), "nslots": 40, "steepness": 0.4}, "some"),
        ({"nreal": (30, 21), "nslots": 40, "steepness": 1.5}, "none"),
        (
            {"nreal": (0, 60, 1, 0, 35), "nslots": 90, "steepness": 0.8}
            | {"excluded": [(0, 0), (0, 1), (0, 2)]},
            "some",
        ),
    ],
    ids=["series", "no series", "some of both, and a type without pairs"],
)
def test_same_input_gives_same_bits(kernels, dtype, options, nets):
    """Nothing depends on which thread or block comes first."""
    case = Case(dtype=dtype, one_side=False, **options)
    A, cotangents, atoms = case.random_X(), case.random_cotangents(), case.atoms

    def run():
        embedding = case.kernels(atoms)
        assert (max(embedding.npanels()) > 0) == (nets == "some")
        dA, gradient = embedding.force_grad(A, **cotangents)
        forces = embedding.force(A)
        return [embedding.embed(), *embedding.embed_grad(A), *forces, dA, *gradient]

    assert_same_bits(kernels, run)


def test_same_input_gives_same_bits_of_energies(kernels):
    case = FittingCase(counts=(30, 0, 17), ninputs=150, neuron=(100, 100))
    de, dA = case.rng.normal(size=len(case.D)), case.rng.normal(size=case.D.shape)

    def run():
        fitting = case.kernels()
        e, A, z = fitting.energies()
        dD, gradient = fitting.energies_grad(z, de, dA)
        return [e, A, z, dD, *gradient]

    assert_same_bits(kernels, run)


def check_product(kernels, bits, sizes, layout, terms):
    """Compare with NumPy; terms are the names of what may be left out, and "in_place"."""
    rows, columns, depth = sizes
    dtype = {"64": np.float64, "32": np.float32}[bits]
    rng = np.random.default_rng(0)
    shapes = dict.fromkeys(("left", "left2"), (rows, depth))
    shapes |= dict.fromkeys(("right", "right2"), (depth, columns))
    shapes |= {"bias": (columns,), "add": (rows, columns)}
    given = {name: rng.uniform(-1, 1, shape).astype(dtype) for name, shape in shapes.items()}
    given |= dict.fromkeys(shapes.keys() - {"left", "right", *terms})
    in_memory = given | {
        name: None if given[name] is None else given[name].ravel(order)
        for name, order in zip(("left", "right", "left2", "right2"), layout * 2, strict=True)
    }
    multiply = partial(
        getattr(kernels, f"multiply{bits}"),
        **in_memory,
        **dict(zip(("rows", "columns", "depth"), sizes, strict=True)),
        left_transposed=layout[0] == "F",
        right_transposed=layout[1] == "F",
        in_place="in_place" in terms,
    )
    exact = {name: np.zeros(1) if a is None else a.astype(float) for name, a in given.items()}
    wanted = exact["bias"] + exact["add"] + exact["left"] @ exact["right"]
    if "left2" in terms:
        wanted += exact["left2"] @ exact["right2"]
    tolerance = 4 * np.finfo(dtype).eps * (1 + depth)
    found = multiply()
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(run_again(kernels, multiply), found)


@pytest.mark.parametrize("bits", ["64", "32"])
@pytest.mark.parametrize("layout", ["CC", "CF", "FC", "FF"])
@pytest.mark.parametrize(
    "terms",
    [(), ("left2", "right2"), ("bias", "add"), ("left2", "right2", "add", "in_place")],
)
@pytest.mark.parametrize(
    "sizes",
    [
        *[(0, 3, 5), (3, 0, 5), (3, 5, 0)],
        *[(1, 1, 1), (63, 65, 9), (32, 64, 16), (25, 130, 37)],
        *[(67, 70, 200), (1, 7, 1001)],  # the depth in parts
    ],
)
def test_products(kernels, bits, sizes, layout, terms):
    check_product(kernels, bits, sizes, layout, terms)


@pytest.mark.parametrize(("bits", "layout"), [("64", "CF"), ("32", "FC")])
def test_product_of_many_tiles(kernels, bits, layout):
    check_product(kernels, bits, (34000, 66, 11), layout, ("left2", "right2", "bias", "add"))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("activation", ["tanh", "gelu", "none"])
@pytest.mark.parametrize("steepness", [0.4, 0.9, 3])
def test_series_is_that_of_the_cpu(kernels, dtype, activation, steepness):
    """The same panels, and nets without any where their pairs cost less."""
    options = {"one_side": False, "steepness": steepness, "resnet_dt": True}
    case = Case(nreal=(40, 25), nslots=70, activation=activation, dtype=dtype, **options)
    found = case.kernels(case.atoms).series()
    atoms = cpu.RealAtoms(case.coord, case.types, case.mask, NTYPES)
    Embedding = {np.float64: cpu.Embedding64, np.float32: cpu.Embedding32}[dtype]
    wanted = Embedding(atoms, net=case.net, n=N, parameters=case.parameters, **case.shape).series()
    for one, other in zip(found, wanted, strict=True):
        case.assert_close(one, other)


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_numbers_of_the_host_arrive(kernels, size):
    """More than the arguments of one kernel hold, too."""
    assert kernels.upload(list(range(size))).tolist() == list(range(size))


def test_arrays_are_cleared(kernels):
    """More than one kernel takes; what is not in the list is not even in the module's memory."""
    sizes = [3, 0, 200]
    arrays = kernels.clear([np.ones(size) for size in sizes * 20], sizes)
    assert [len(array) for array in arrays] == sizes * 20
    assert not any(array.any() for array in arrays)


def test_more_types_than_one_kernel_takes(kernels):
    case = FittingCase(counts=(1, 2) * 20)
    e, _, _ = case.kernels().energies()
    case.assert_close(e, case.e())


def test_table_with_widths_that_are_no_multiple(kernels):
    """Of a tile of a product, and many panels."""
    case = Case(nreal=(70, 64), nslots=90, neuron=(16, 32, 130), one_side=False, steepness=0.5)
    nets = {**case.shape, "parameters": case.parameters}
    embedding, A = case.kernels(case.atoms), case.random_X()
    embedding.use_table(*kernels.fit_table64(**nets, lower=0.02, upper=4.0, narrowest=0.005))
    case.assert_close(embedding.embed(), case.X())
    force, _, _ = embedding.force(A)
    direction = case.rng.normal(size=case.coord.shape)
    wanted = reference.derivative(lambda r: np.sum(A * case.X(r)), case.coord, direction)
    case.assert_project([-force], [direction], wanted)


LOWER, UPPER = 0.02, 4.0  # of tables
LARGE = {
    "runs": {"nreal": (140,), "nslots": 140, "ntypes": 1, "parts": 140},
    "nets-of-a-kernel": {"nreal": (72, 1), "nslots": 72, "ntypes": 18, "one_side": False},
    # Not for sanitizers, under which they take minutes.
    "many-neighbours": {"nreal": (2100, 3), "nslots": 2100, "excluded": [(0, 0), (0, 1), (1, 1)]},
    "frames-many-panels": {"nreal": (30, 12, 0, 25), "nslots": 30, "parts": 400},
    "runs-many-panels": {"nreal": (250, 3), "nslots": 250, "parts": 400},
    "slab-many-panels": {
        "nreal": (30, 12, 40, 0, 25),
        "nslots": 40,
        "parts": 400,
        "one_side": False,
    },
}


@pytest.mark.parametrize("name", LARGE)
def test_large_cases_are_those_of_the_cpu(kernels, name):
    """What takes several rounds, being more than the above takes at once."""
    options = dict(LARGE[name])
    parts = options.pop("parts", 1)
    case = Case(neuron=(4, 6), steepness=0.3, **options)
    if name == "runs":
        spread(case, parts)
    nets = {**case.shape, "parameters": case.parameters}
    first, panels, _ = cpu.fit_table64(**nets, lower=LOWER, upper=UPPER, narrowest=10.0)
    table = split(first, panels, parts, nets)
    atoms = cpu.RealAtoms(case.coord, case.types, case.mask, case.ntypes)
    wanted = cpu.Embedding64(atoms, net=case.net, n=N, **nets)
    found = case.kernels(case.atoms)
    for embedding in (wanted, found):
        embedding.use_table(*table)
    A, cotangents = case.random_X(), case.random_cotangents()
    case.assert_close(found.embed(), wanted.embed())
    for one, other in zip(found.force(A), wanted.force(A), strict=True):
        case.assert_close(one, other)
    results = [
        [*embedding.embed_grad(A), dA, *gradient]
        for embedding in (found, wanted)
        for dA, gradient in (embedding.force_grad(A, **cotangents),)
    ]
    for one, other in zip(*results, strict=True):
        case.assert_close(one, other, 10 * np.abs(other).max())


def spread(case, parts):
    """Place the atoms round the first one so that each pair of that has a panel of its own."""
    directions = case.rng.normal(size=case.coord.shape)
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    s = LOWER + (np.arange(parts) + 0.5) * (UPPER - LOWER) / parts
    case.coord[...] = directions / s[None, :, None]
    case.coord[0, 0] = 0


def test_a_table_that_does_not_fit_is_refused(kernels):
    case = Case(neuron=(4, 6), nreal=(3, 2))
    embedding = case.kernels(case.atoms)
    first = np.arange(4) * 12000  # [nnets + 1]
    panels, C = np.ones((first[-1], 2)), np.zeros((first[-1], 16, 6))
    embedding.use_table(first, panels, C)
    with pytest.raises(ValueError, match=r"bytes of shared memory.*too many panels"):
        embedding.embed()


def test_memory_of_forces_follows_the_pairs(kernels):
    """Also of frames of very different sizes, which share the kernels."""
    case = Case(nreal=(150, *(4,) * 30), nslots=150, steepness=0.2)
    embedding, A = case.kernels(case.atoms), case.random_X()
    assert min(embedding.npanels()) > 0
    npairs = np.sum(case.mask.sum(axis=1) ** 2)
    embedding.force(A)
    before = kernels.allocated()
    embedding.force(A)
    # Beside the sums there are the moments, products' 16 megabytes and arrays of atoms.
    moments = 8 * 64 * case.mask.sum() * max(embedding.npanels()) * NTYPES
    of_atoms = 8 * (20 * case.mask.sum() + 26 * case.mask.size)
    allocated = kernels.allocated() - before
    assert allocated < 8 * 4 * npairs + moments + of_atoms + (17 << 20)


def test_too_many_layers_are_refused(kernels):
    case = Case(neuron=(4,) * 13)
    with pytest.raises(ValueError, match="up to 12 layers, not 13"):
        case.kernels(case.atoms).embed()
