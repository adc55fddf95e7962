# SPDX-License-Identifier: LGPL-3.0-or-later
"""MaskedDP with residues that are there in part: a mask between 0 and 1, with groups."""

import pickle

import numpy as np
import pytest
from ase import units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces
from ase.io import read as ase_read
from ase_atoms import shuffled

from deepmd_mask.ase import MaskedDP


@pytest.fixture
def residues(trained):
    """Return a molecule in residues, of which three are there in part and one atom is not."""
    molecule = shuffled(trained.frames, 0)
    molecule.set_array("residuenumbers", np.arange(len(molecule)) // 3 + 5)
    weights = np.array([1.0, 0.3, 0.75, 0.5, 1.0])
    molecule.set_array("mask", weights[np.arange(len(molecule)) // 3])
    molecule.arrays["mask"][-1] = 0
    molecule.calc = MaskedDP(trained.model, groups="residuenumbers")
    return molecule


def test_residues_in_part_are_those_of_potential(trained, residues):
    """Also in other units; virtual atoms have 0."""
    potential, real = residues.calc.potential, residues.arrays["mask"] != 0
    types = np.array([potential.type_map.index(s.upper()) for s in residues.symbols[real]])
    given = {"weights": residues.arrays["mask"], "groups": residues.arrays["residuenumbers"]}
    wanted = potential.evaluate(
        types, residues.positions[real], **{name: values[real] for name, values in given.items()}
    )
    assert residues.get_potential_energy() == wanted.energy
    for name in ("forces", "energies", "weight_gradient"):
        found = residues.calc.get_property(name, residues)
        np.testing.assert_array_equal(found[real], getattr(wanted, name))
        assert not found[~real].any()
    eV = units.kcal / units.mol
    residues.calc = MaskedDP(trained.model, energy_unit=eV, groups=lambda a: a.arrays["own"])
    residues.set_array("own", residues.arrays["residuenumbers"])
    found = residues.calc.get_property("weight_gradient", residues)
    np.testing.assert_allclose(found[real], wanted.weight_gradient * eV, rtol=1e-14)


def test_forces_and_weight_gradient_are_slopes(residues):
    """Forces at fixed masks; the gradient by the mask of a residue is a sum over it."""
    slope = calculate_numerical_forces(residues, eps=1e-4)
    np.testing.assert_allclose(residues.get_forces(), slope, rtol=0, atol=1e-8)
    of_residue = (residues.arrays["residuenumbers"] == 6) & (residues.arrays["mask"] != 0)
    gradient = residues.calc.get_property("weight_gradient", residues)[of_residue].sum()
    energies = []
    for step in (-1e-4, 1e-4):
        atoms = residues.copy()
        atoms.calc = residues.calc
        atoms.arrays["mask"][of_residue] += step
        energies.append(atoms.get_potential_energy())
    assert abs(gradient) > 1e-3
    assert gradient == pytest.approx(np.diff(energies)[0] / 2e-4, abs=1e-7)


def test_whole_residues_have_the_bits_of_a_mask(trained, residues):
    calculator = MaskedDP(trained.model)
    residues.arrays["mask"][:] = np.ceil(residues.arrays["mask"])
    found = residues.get_potential_energy(), residues.get_forces()
    residues.calc = calculator
    assert residues.get_potential_energy() == found[0]
    np.testing.assert_array_equal(residues.get_forces(), found[1])
    assert "weight_gradient" not in calculator.results
    with pytest.raises(PropertyNotImplementedError):
        calculator.get_property("weight_gradient", residues)


def test_changes_of_groups_and_masks_are_noticed(residues):
    before = residues.get_potential_energy()
    residues.arrays["mask"][residues.arrays["residuenumbers"] == 6] = 0.4
    changed = residues.get_potential_energy()
    assert changed != before
    residues.arrays["residuenumbers"][:] = np.arange(len(residues))
    assert residues.get_potential_energy() != changed


def test_copies_and_files_of_residues(residues, tmp_path):
    energy = residues.get_potential_energy()
    copied = pickle.loads(pickle.dumps(residues))
    assert copied.calc.groups == "residuenumbers"
    copied.rattle(1e-3, seed=1)
    assert copied.get_potential_energy() != energy
    for name in ("residues.traj", "residues.xyz"):
        residues.write(tmp_path / name)
        assert ase_read(tmp_path / name).get_potential_energy() == pytest.approx(energy, rel=1e-7)


@pytest.mark.parametrize(
    ("change", "message"),
    {
        "residues, without groups": (
            {"groups": None},
            r'atom \d+: atoms.arrays\["mask"\] is 0.3; .* for residues .* in part give',
        ),
        "two masks in a residue": ({"mask": 0.2}, r"^atom 4: .*0\.2.*atom|^atom \d: .*atom 4"),
        "more than there": (
            {"mask": 1.5},
            r'^atom 4: atoms.arrays\["mask"\] is 1.5; .*, or between',
        ),
        "no number": ({"mask": np.nan}, r'^atom 4: atoms.arrays\["mask"\] is nan'),
        "below 0": ({"mask": -0.1}, r'^atom 4: atoms.arrays\["mask"\] is -0.1'),
        "number again": (
            {"residuenumbers": 7},
            r'^atom 5: atoms.arrays\["residuenumbers"\] is 6, as of atom 3, and others',
        ),
        "no such array": ({"groups": "own"}, r'^atoms.arrays\["own"\] is missing; .*integers'),
        "names": ({"groups": "symbols"}, r'^atoms.arrays\["symbols"\] is missing'),
        "positions": ({"groups": "positions"}, r'"positions"\] is float64 of the shape'),
        "a function of less": (
            {"groups": lambda a: [1]},
            r"^what the function groups returns is int",
        ),
    }.values(),
)
def test_residues_that_cannot_be(trained, residues, change, message):
    """A number that comes again is refused where it is that of a PDB file."""
    for name, value in change.items():
        if name == "groups":
            residues.calc = MaskedDP(trained.model, groups=value)
        else:
            residues.arrays[name][4] = value
    with pytest.raises(ValueError, match=message):
        residues.get_potential_energy()


def test_groups_that_cannot_be_meant(trained):
    for wrong in (3, "", True, ["residuenumbers"]):
        with pytest.raises(ValueError, match=r"^groups is .*; give the name of an array"):
            MaskedDP(trained.model, groups=wrong)


def test_residues_in_part_and_the_built_in(trained, residues):
    residues.calc = MaskedDP(trained.plain, groups="residuenumbers")
    with pytest.raises(ValueError, match=r"plain\.pb.*dp-mask convert puts it on"):
        residues.get_potential_energy()
