# SPDX-License-Identifier: LGPL-3.0-or-later
"""precision="mixed": matrices of the fitting nets in float32, all else in float64."""

import pickle

import numpy as np
import pytest
import reference
from ase import Atoms
from md import solvate
from openmm import XmlSerializer
from plain_models import random_nets, write_model
from regions import EV, state
from test_potential_kernel import Molecules, assert_close, assert_same, potential_of, random_model

from deepmd_mask import Potential, _kernels
from deepmd_mask.ase import MaskedDP
from deepmd_mask.openmm import DPRegion, dp_force

TYPE_MAP = ["O", "C", "ZN"]
SHAPE = {"neuron": [4, 8], "M2": 3, "fitting_neuron": [6, 6]}


def rounded(model):
    """Return the model with what mixed precision rounds to float32 as float64 again."""
    sizes = reference.parameters_per_fitting_net(
        model["neuron"][-1] * model["M2"], model["fitting_neuron"], True
    )
    arrays = list(model["fitting_parameters"])
    for k, array in enumerate(arrays):
        shape = sizes[k % len(sizes)]
        if len(shape) == 2 and shape[1] > 1:
            arrays[k] = array.astype(np.float32).astype(float)
    return {**model, "fitting_parameters": arrays}


@pytest.mark.parametrize("fitting_neuron", [(7, 7), (24, 24, 24), (30,), (5, 9), ()], ids=str)
def test_is_the_rounded_model(fitting_neuron):
    """Bit for bit: numbers of float32 are exact in float64, and sums have one order."""
    model = random_model(fitting_neuron=fitting_neuron, neuron=(8, 16, 16), M2=5)
    molecules = Molecules((40, 3, 0, 9), 41)
    found = molecules.evaluate(potential_of({**model, "precision": "mixed"}), True)
    assert_same(found, molecules.evaluate(potential_of(rounded(model)), True))
    exact = molecules.evaluate(potential_of(model), True)
    difference = np.abs(found[2] - exact[2]).max() / np.abs(exact[2]).max()
    assert (1e-10 < difference < 1e-6) if fitting_neuron else difference == 0


def test_is_the_reference():
    model = random_model()
    molecules = Molecules()
    found = molecules.evaluate(potential_of({**model, "precision": "mixed"}))
    wanted = molecules.by_reference(rounded(model))
    assert_close(found[1][0], wanted[0])
    assert_close(found[2][0], wanted[1])


def test_everywhere_a_model_is_opened(tmp_path):
    model = write_model(tmp_path / "model.pb", random_nets(3, **SHAPE), TYPE_MAP)
    positions = np.random.default_rng(0).normal(scale=2, size=(5, 3))
    types = [0, 1, 2, 0, 1]
    mixed = Potential(model, "cpu", precision="mixed")
    found = mixed.evaluate(types, positions)
    plain = Potential(model, "cpu").evaluate(types, positions)
    assert 0 < np.abs(found.forces - plain.forces).max() < 1e-5 * np.abs(plain.forces).max()
    again = pickle.loads(pickle.dumps(mixed)).evaluate(types, positions)
    np.testing.assert_array_equal(again.forces, found.forces)
    committee = Potential([model, model], "cpu", precision="mixed").evaluate(types, positions)
    np.testing.assert_array_equal(committee.forces, found.forces)
    atoms = Atoms([("O", "C", "Zn")[t] for t in types], positions)
    atoms.calc = MaskedDP(model, device="cpu", precision="mixed")
    np.testing.assert_array_equal(atoms.get_forces(), found.forces)


def test_openmm(tmp_path):
    """The force has the term's precision, also when it comes out of a file."""
    system = solvate(8, periodic=False)
    model = write_model(tmp_path / "model.pb", random_nets(3, **SHAPE), TYPE_MAP)
    region = DPRegion([0], atoms=range(system.topology.getNumAtoms()))
    force = dp_force(
        model, system.topology, region, types={"Zn": "ZN"}, device="cpu", precision="mixed"
    )
    names = [atom.element.symbol.upper() for atom in system.topology.atoms()]
    types = [TYPE_MAP.index(name) for name in names]
    wanted = Potential(model, "cpu", precision="mixed").evaluate(types, system.positions * 10)
    group = XmlSerializer.clone(force)
    group.setForceGroup(1)
    energy, _ = state(system.simulation(group))
    assert energy == pytest.approx(EV * wanted.energy, rel=1e-12, abs=0)


def test_what_is_refused(tmp_path):
    model = write_model(tmp_path / "model.pb", random_nets(3, **SHAPE), TYPE_MAP)
    with pytest.raises(ValueError, match="precision is 'half'; give 'mixed', or None"):
        Potential(model, precision="half")
    with pytest.raises(ValueError, match="precision is 'half'"):
        MaskedDP(model, precision="half")
    with pytest.raises(ValueError, match='must be "float64", "float32" or "mixed", not "half"'):
        _kernels.Model(**{**random_model(), "precision": "half"})
