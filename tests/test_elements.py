# SPDX-License-Identifier: LGPL-3.0-or-later
"""Types by name: one rule for files, dpdata, ASE and OpenMM."""

import ase
import frozen_models
import numpy as np
import openmm as mm
import pytest
from md import add_residue
from openmm import app

from deepmd_mask.ase import MaskedDP
from deepmd_mask.openmm import DPRegion, dp_force
from deepmd_mask.shared.elements import types_of_names


@pytest.mark.parametrize(
    "names, type_map, wanted",
    [
        (["Zn", "C", "zn", "ZN"], ["C", "ZN"], [1, 0, 1, 1]),
        (["c", "C", "O"], ["c", "C", "cc"], [0, 1, -1]),  # the same letters come first
        (["C"], ["c", "cc", "O"], [0]),
        (["C", ""], ["O"], [-1, -1]),
        ([], ["O"], []),
    ],
)
def test_types_of_names(names, type_map, wanted):
    assert types_of_names(names, type_map).tolist() == wanted


@pytest.mark.parametrize("type_map", [["zn", "C", "ZN"], ["ZN", "C", "zn"]])
def test_name_that_may_be_two_types(trained, tmp_path, type_map):
    """Only where it is looked up: carbon has one type."""
    first, _, last = type_map
    message = rf"Zn may be {first} \(type 0\) or {last} \(type 2\) of the model; give types by"
    with pytest.raises(ValueError, match=message):
        types_of_names(["C", "Zn"], type_map)
    model = frozen_models.edited(
        trained.model, tmp_path / "model.pb", model_attr__tmap=" ".join(type_map).encode()
    )
    atoms = ase.Atoms("ZnC", [[0, 0, 0], [0, 0, 2]], calculator=MaskedDP(model))
    with pytest.raises(ValueError, match=message):
        atoms.get_potential_energy()
    topology = app.Topology()
    add_residue(topology, "LIG", "Zn", "C")
    region = DPRegion([0], atoms=[0, 1])
    with pytest.raises(ValueError, match=message):
        dp_force(model, topology, region)

    atoms.set_array("atomtypes", np.array(["zn", "C"]))
    atoms.calc = MaskedDP(model, types="name")
    force = dp_force(model, topology, region, types={"Zn": "zn"})
    system = mm.System()
    system.addParticle(65.4)
    system.addParticle(12.0)
    system.addForce(force)
    context = mm.Context(system, mm.VerletIntegrator(0.001))
    context.setPositions([[0, 0, 0], [0, 0, 0.2]])
    energy = context.getState(energy=True).getPotentialEnergy()
    assert energy._value == pytest.approx(96.48533212331002 * atoms.get_potential_energy())
