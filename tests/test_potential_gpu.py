# SPDX-License-Identifier: LGPL-3.0-or-later
"""The potential on a GPU, beyond what tests/test_potential_kernel.py asks of every device.

Where there is no GPU this runs on an emulated one. Neither TensorFlow nor DeePMD-kit is needed.
"""

import multiprocessing
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import implementations
import numpy as np
import pytest
from plain_models import random_nets, write_model
from test_cuda import run_again
from test_potential_kernel import Molecules, assert_same, random_model

from deepmd_mask import Potential, _kernels

pytestmark = implementations.on("cuda", "emulated")
TYPE_MAP = ["O", "C", "ZN"]
SHAPE = {"neuron": [4, 8], "M2": 3, "fitting_neuron": [6, 6]}


@pytest.fixture
def implementation(request):
    return request.param


@pytest.fixture
def kernels(implementation):
    return implementations.load(implementation)


def opened(kernels, *models):
    return kernels.Potential([kernels.Model(**model) for model in models])


@pytest.mark.parametrize(
    "options",
    [
        {"one_side": False, "excluded": [(0, 1)]},
        {"min_distance": 3.0},  # longer than some here: the nets themselves
        {"neuron": (8, 16, 16), "M2": 5, "fitting_neuron": (30, 30)},
        {"precision": "float32"},
    ],
    ids=str,
)
def test_is_that_on_the_cpu(kernels, options):
    """Whatever was evaluated before."""
    models = [random_model(**options), random_model(1)]
    potential, on_cpu = opened(kernels, *models), opened(_kernels, *models)
    tolerance = 3e-5 if options.get("precision") == "float32" else 1e-12
    for nreal, natoms in (((7, 4), 9), ((60,), 64), ((3,), 3), ((20, 0, 31, 1), 40), ((), 5)):
        molecules = Molecules(nreal, natoms)
        wanted = molecules.evaluate(on_cpu, virial=True)
        for found, other in zip(molecules.evaluate(potential, True), wanted, strict=True):
            atol = tolerance * np.abs(other).max(initial=1e-3)
            np.testing.assert_allclose(found, other, rtol=0, atol=atol)


def test_same_input_gives_same_bits(kernels):
    potential, molecules = opened(kernels, random_model()), Molecules((50, 31), 60)
    wanted = molecules.evaluate(potential, True)
    assert_same(run_again(kernels, lambda: molecules.evaluate(potential, True)), wanted)


def test_repeated_evaluations_allocate_nothing(kernels):
    """Nor do smaller ones, and those of a composition that has been seen."""
    models = [random_model(), random_model(1, one_side=False), random_model(2, steepness=9.0)]
    potential, rng = opened(kernels, *models), np.random.default_rng(0)
    batches = [Molecules((count, 60 - count), 64, seed=count) for count in (60, 30, 45)]
    for _ in range(2):  # in the second round there is one piece of memory in the place of several
        for molecules in batches:
            molecules.evaluate(potential, True)
    before = kernels.allocated()
    for _ in range(50):
        molecules = batches[rng.integers(3)]
        molecules.evaluate(potential, virial=bool(rng.integers(2)))
        Molecules(rng.integers(40, size=2), 64).evaluate(potential)
    assert kernels.allocated() == before


def test_several_threads_at_once(kernels):
    potential = opened(kernels, random_model(), random_model(1, precision="float32"))
    batches = [Molecules((count, 4), 60, seed=count) for count in range(20, 52)]
    wanted = [molecules.evaluate(potential, True) for molecules in batches]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            found = pool.map(lambda molecules: molecules.evaluate(potential, True), batches)
            for one, other in zip(found, wanted, strict=True):
                assert_same(one, other)


def test_an_error_leaves_nothing_behind(kernels):
    potential, molecules = opened(kernels, random_model()), Molecules((9, 9))
    wanted = molecules.evaluate(potential)[:3]
    bad = Molecules((9, 9))
    bad.positions[1, 4] = bad.positions[1, 7]
    with pytest.raises(kernels.AtomError, match=r"frame 1, atom 4: .*atom 7"):
        bad.evaluate(potential)
    assert_same(molecules.evaluate(potential)[:3], wanted)


def evaluate_in_child(potential, molecules, queue):
    try:
        queue.put(str(molecules.evaluate(potential)))
    except RuntimeError as error:
        queue.put(str(error))


def test_a_forked_process_is_told_what_to_do(kernels):
    """CUDA cannot be used in one."""
    potential, molecules = opened(kernels, random_model()), Molecules()
    wanted = molecules.evaluate(potential)[:3]
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=evaluate_in_child, args=(potential, molecules, queue))
    child.start()
    said = queue.get()
    child.join()
    assert child.exitcode == 0
    assert "was forked from one that uses the GPU" in said and '"spawn"' in said
    assert_same(molecules.evaluate(potential)[:3], wanted)


def test_mixed_precision_is_refused(kernels):
    with pytest.raises(ValueError, match="mixed precision is for evaluations on the CPU alone"):
        opened(kernels, random_model(precision="float64") | {"precision": "mixed"})


# ---- From a file ---------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model.pb", random_nets(3, **SHAPE), TYPE_MAP)


@pytest.fixture
def gpu(kernels, monkeypatch):
    """Let device="cuda" be what is tested."""
    monkeypatch.setitem(sys.modules, "deepmd_mask._cuda_kernels", kernels.cuda)
    monkeypatch.setattr("deepmd_mask._cuda_kernels", kernels.cuda, raising=False)
    return kernels.cuda


def test_device_of_potential(gpu, model):
    molecules = Molecules((9, 9), 9)
    wanted = Potential(model, device="cpu").evaluate(molecules.types, molecules.positions)
    for device in ("cuda", "auto"):
        potential = Potential(model, device=device)
        assert potential.device == "cuda"
        before = gpu.allocated()
        for one in (potential, pickle.loads(pickle.dumps(potential))):
            found = one.evaluate(molecules.types, molecules.positions)
            np.testing.assert_allclose(found.forces, wanted.forces, rtol=0, atol=1e-12)
        assert gpu.allocated() > before
    committee = Potential([model, model], device="cuda")
    found = committee.evaluate(molecules.types, molecules.positions)
    np.testing.assert_allclose(found.forces, wanted.forces, rtol=0, atol=1e-12)
    assert found.deviation.shape == (2, 9)
    assert found.deviation.max() < 1e-12


@pytest.mark.parametrize("platform", ["Reference", "CUDA"])
def test_device_of_dp_force(gpu, model, platform):
    """Also where OpenMM itself computes on the GPU, in a context of its own."""
    mm = pytest.importorskip("openmm", reason="needs OpenMM")
    from md import solvate

    from deepmd_mask.openmm import DPRegion, dp_force

    platforms = [mm.Platform.getPlatform(k).getName() for k in range(mm.Platform.getNumPlatforms())]
    if platform not in platforms:
        pytest.skip(f"OpenMM has no platform {platform} here")
    solvated, found = solvate(12), {}
    for device in ("cpu", "cuda"):
        before = gpu.allocated()
        region = DPRegion(centres=[0], radius=0.45)
        force = dp_force(model, solvated.topology, region, device=device)
        force.setForceGroup(1)
        assert (gpu.allocated() > before) == (device == "cuda")
        again = mm.XmlSerializer.clone(force)  # which remembers the device
        for one in (force, again):
            context = solvated.simulation(one, platform=platform).context
            state = context.getState(getForces=True, groups={1})
            found[device, one is again] = state.getForces(asNumpy=True)._value
    wanted = found["cpu", False]
    for forces in found.values():
        np.testing.assert_allclose(forces, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())
    with pytest.raises(ValueError, match="device is 'gpu'"):
        dp_force(model, solvated.topology, region, device="gpu")


def test_device_of_the_calculator(gpu, model):
    from ase import Atoms

    from deepmd_mask.ase import MaskedDP

    forces = []
    for device in ("cpu", "cuda"):
        atoms = Atoms("OCCZn", Molecules((4,), 4).positions[0])
        atoms.calc = MaskedDP(model, device=device)
        assert atoms.calc.potential.device == device
        forces.append(atoms.get_forces())
    np.testing.assert_allclose(*forces, rtol=0, atol=1e-12)


def test_without_a_gpu(gpu, model, monkeypatch):
    monkeypatch.setattr(gpu, "reason_against_gpu", lambda: "no driver")
    assert Potential(model, device="auto").device == "cpu"
    with pytest.raises(RuntimeError, match=r"there is no GPU to compute on: no driver"):
        Potential(model, device="cuda")


def test_without_kernels_for_it(gpu, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "deepmd_mask._cuda_kernels", None)
    assert Potential(model, device="auto").device == "cpu"
    with pytest.raises(RuntimeError, match=r"built without .*DPMASK_CUDA=ON"):
        Potential(model, device="cuda")
    with pytest.raises(ValueError, match="device is 'gpu'; give one of 'auto', 'cpu', 'cuda'"):
        Potential(model, device="gpu")
