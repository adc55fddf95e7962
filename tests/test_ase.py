# SPDX-License-Identifier: LGPL-3.0-or-later
"""MaskedDP in ASE: what DeepPot gives on padded frames, and a calculator that ASE's tools use."""

import copy
import pickle

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces
from ase.calculators.lj import LennardJones
from ase.calculators.mixing import SumCalculator
from ase.io import read as ase_read
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.vibrations import Vibrations
from ase_atoms import SYMBOLS, padded, shuffled
from helpers import TYPE_MAP
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_models import random_nets, write_model

from deepmd_mask.ase import MaskedDP


@pytest.fixture(scope="module")
def calculator(trained):
    return MaskedDP(trained.model)


@pytest.fixture
def molecule(trained, calculator):
    """Return the real atoms of a frame, shuffled."""
    atoms = shuffled(trained.frames, 0)
    atoms.calc = calculator
    return atoms


def test_equals_deeppot_on_the_padded_frame(trained, calculator):
    """Frame after frame with one calculator, shuffled, with and without the virtual atoms."""
    wanted = trained.evaluate()
    rng = np.random.default_rng(0)
    for frame, mask in enumerate(trained.frames.mask):
        for slots in (np.arange(len(mask)), np.flatnonzero(mask)):
            order = rng.permutation(slots)
            atoms = padded(trained.frames, frame)[order]
            if len(order) == mask.sum():
                del atoms.arrays["mask"]
            atoms.calc = calculator
            close = {"rtol": 0, "atol": 1e-10}
            np.testing.assert_allclose(atoms.get_forces(), wanted["force"][frame, order], **close)
            np.testing.assert_allclose(
                atoms.get_potential_energies(), wanted["atom_energy"][frame, order, 0], **close
            )
            for consistent in (False, True):  # the latter is free_energy
                energy = atoms.get_potential_energy(force_consistent=consistent)
                assert energy == pytest.approx(wanted["energy"][frame, 0], rel=0, abs=1e-10)


def test_forces_are_the_slope_of_the_energy(molecule):
    slope = calculate_numerical_forces(molecule, eps=1e-4)
    assert np.abs(slope).max() > 1e-3
    np.testing.assert_allclose(molecule.get_forces(), slope, rtol=0, atol=1e-8)


def test_virtual_atoms_may_be_anything(molecule):
    energy, forces = molecule.get_potential_energy(), molecule.get_forces()
    virtual = Atoms("XU", [molecule.positions[0], [np.nan] * 3])
    atoms = virtual + molecule
    atoms.set_array("mask", np.r_[0, 0, np.ones(len(molecule), int)])
    atoms.calc = molecule.calc
    assert atoms.get_potential_energy() == energy
    np.testing.assert_array_equal(atoms.get_forces(), np.vstack([np.zeros((2, 3)), forces]))


def test_change_of_the_mask_is_noticed(molecule):
    before = molecule.get_potential_energy()
    molecule.set_array("mask", np.ones(len(molecule)))
    assert molecule.get_potential_energy() == before
    molecule.arrays["mask"][0] = 0
    without_first = molecule[1:]
    without_first.calc = molecule.calc
    changed = molecule.get_potential_energy()
    assert changed != before
    assert changed == without_first.get_potential_energy()


# ---- Types ---------------------------------------------------------------------------------------


def swap(atoms):
    return [{"C": "O", "O": "C"}.get(symbol, symbol) for symbol in atoms.symbols]


@pytest.mark.parametrize("types", [swap, {"one": "O", "two": "c"}, "name"])
def test_types_by_name_or_by_the_users_word(trained, molecule, types):
    """Carbon and oxygen change places."""
    swapped = molecule.copy()
    swapped.symbols[:] = swap(molecule)
    swapped.calc = molecule.calc
    wanted = swapped.get_potential_energy()
    assert wanted != molecule.get_potential_energy()
    names = {"C": "one", "O": "two"} if isinstance(types, dict) else {"C": "O", "O": "C"}
    molecule.set_array("atomtypes", np.array([names.get(s, "Zn") for s in molecule.symbols]))
    molecule.calc = MaskedDP(trained.model, types=types)
    assert molecule.get_potential_energy() == wanted
    copied = pickle.loads(pickle.dumps(molecule))
    assert copied.get_potential_energy() == wanted


def test_change_of_a_name_is_noticed(trained, molecule):
    molecule.set_array("atomtypes", np.array(molecule.get_chemical_symbols(), "U4"))
    molecule.calc = MaskedDP(trained.model, types="name")
    before = molecule.get_potential_energy()
    atom = int(np.flatnonzero(molecule.symbols == "C")[0])
    molecule.arrays["atomtypes"][atom] = "O"
    assert molecule.get_potential_energy() != before
    molecule.arrays["atomtypes"][atom] = "CA"
    with pytest.raises(ValueError, match=rf"atom {atom}: the model does not know CA, only"):
        molecule.get_potential_energy()


def test_names_of_a_pdb_file(trained, molecule, tmp_path):
    """Those that ASE's reader finds."""
    molecule.set_array("atomtypes", np.array([f"{s}1" for s in molecule.symbols]))
    molecule.write(tmp_path / "molecule.pdb")
    read = ase_read(tmp_path / "molecule.pdb")
    read.pbc = False
    assert read.arrays["atomtypes"].tolist() == molecule.arrays["atomtypes"].tolist()
    read.calc = MaskedDP(trained.model, types={"C1": "C", "O1": "O", "Zn1": "ZN"})
    assert read.get_potential_energy() == pytest.approx(molecule.get_potential_energy(), abs=0.1)


@pytest.mark.parametrize("types", ["names", None, 3, ["C"], {"CA": 1}, {1: "C"}, {"CA": ""}])
def test_types_that_cannot_be(trained, types):
    with pytest.raises(ValueError, match=r"^types is .*; give \"element\", \"name\", a dict"):
        MaskedDP(trained.model, types=types)


@pytest.mark.parametrize("types", [{"LP": None}, lambda a: [None, *a.symbols[1:]]])
def test_virtual_atoms_by_type(trained, molecule, types):
    forces = molecule.get_forces()
    atoms = Atoms("H", [[0, 0, 0]]) + molecule
    atoms.set_array("atomtypes", np.array(["LP", *molecule.symbols]))
    atoms.calc = MaskedDP(trained.model, types=types)
    np.testing.assert_array_equal(atoms.get_forces(), np.vstack([np.zeros((1, 3)), forces]))
    assert atoms.get_potential_energy() == molecule.get_potential_energy()


def test_names_that_are_missing(trained, molecule):
    molecule.calc = MaskedDP(trained.model, types="name")
    with pytest.raises(ValueError, match=r'atoms.arrays\["atomtypes"\] must have the name of each'):
        molecule.get_potential_energy()
    for wrong in ("C", ["C"], [1] * len(molecule), [""] * len(molecule), None):
        molecule.calc = MaskedDP(trained.model, types=lambda _, wrong=wrong: wrong)
        with pytest.raises(ValueError, match=r"types gave .* one for each of the"):
            molecule.get_potential_energy()


def test_no_atom_and_no_real_atom(molecule):
    molecule.set_array("mask", np.zeros(len(molecule)))
    assert molecule.get_potential_energy() == 0
    assert not molecule.get_forces().any()
    assert Atoms(calculator=molecule.calc).get_potential_energy() == 0


def test_units(trained, molecule):
    energy, forces = molecule.get_potential_energy(), molecule.get_forces()
    kcal = units.kcal / units.mol
    molecule.positions *= 10
    molecule.calc = MaskedDP(trained.model, energy_unit=kcal, length_unit=units.nm)
    assert molecule.get_potential_energy() == pytest.approx(energy * kcal, rel=1e-12)
    np.testing.assert_allclose(molecule.get_forces(), forces * kcal / units.nm, atol=1e-10)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copy_of_atoms_with_their_calculator(trained, molecule, monkeypatch, tmp_path, again):
    """With the model's path from another folder, and after an evaluation."""
    monkeypatch.chdir(trained.model.parent)
    kcal = units.kcal / units.mol
    molecule.calc = MaskedDP(trained.model.name, energy_unit=kcal)
    energy = molecule.get_potential_energy()
    monkeypatch.chdir(tmp_path)
    copied = again(molecule)
    assert copied.calc.potential is not molecule.calc.potential
    assert copied.get_potential_energy() == energy
    copied.positions[0] += 0.1
    moved = copied.get_potential_energy()
    assert moved != energy
    assert molecule.get_potential_energy() == energy
    molecule.positions[0] += 0.1
    assert molecule.get_potential_energy() == moved


# ---- ASE's tools ---------------------------------------------------------------------------------


def test_relaxation_and_vibrations(molecule, tmp_path):
    """A correction to a repulsive potential, since a model of three steps lets atoms collapse.

    At the minimum six motions cost nothing: three translations and three rotations.
    """
    repulsion = LennardJones(sigma=1.3, epsilon=0.3, rc=50)
    molecule.calc = SumCalculator([repulsion, molecule.calc])
    assert BFGS(molecule, logfile=None).run(fmax=1e-5, steps=1000)
    assert np.abs(molecule.calc.mixer.calcs[1].get_forces(molecule)).max() > 1e-2
    vibrations = Vibrations(molecule, name=tmp_path / "vibrations", delta=1e-3)
    vibrations.run()
    energies = np.abs(vibrations.get_energies())
    assert np.sum(energies > 1e-3) == 3 * len(molecule) - 6
    assert np.sum(energies < 1e-4) == 6


def test_energy_is_conserved(molecule):
    momenta = np.random.default_rng(0).normal(size=(len(molecule), 3))
    molecule.set_momenta(np.sqrt(units.kB * 300 * molecule.get_masses())[:, None] * momenta)
    dynamics = VelocityVerlet(molecule, 0.5 * units.fs)
    total, kinetic = [], []
    for _ in dynamics.irun(100):
        total.append(molecule.get_total_energy())
        kinetic.append(molecule.get_kinetic_energy())
    assert np.ptp(kinetic) > 1e-3
    assert np.ptp(total) < 1e-3 * np.ptp(kinetic)


def test_langevin_heats(molecule):
    dynamics = Langevin(
        molecule,
        0.5 * units.fs,
        temperature_K=300,
        friction=0.05 / units.fs,
        fixcm=False,
        rng=np.random.default_rng(0),
    )
    temperatures = [molecule.get_temperature() for _ in dynamics.irun(400)]
    assert temperatures[0] == 0
    assert 150 < np.mean(temperatures[100:]) < 600


# ---- Whatever comes ------------------------------------------------------------------------------


def random_atoms(rng):
    """Return atoms that are good, or spoilt in one way or several, and whether they are good."""
    n = rng.integers(0, 9)
    atoms = Atoms(rng.choice(SYMBOLS, size=n), rng.permutation(2.0 * np.eye(9, 3) + 0.3)[:n])
    atoms.positions += np.arange(n)[:, None] * rng.uniform(1, 2, size=(n, 3))
    mask = np.ones(n)
    if rng.uniform() < 0.5:
        mask = rng.integers(2, size=n).astype(rng.choice(["i4", "f8", "?"]))
        atoms.set_array("mask", mask)
    spoilt = rng.uniform(size=6) < 0.1
    atom = rng.integers(n) if n else 0
    real = n > 0 and mask[atom] == 1
    good = not ((real and spoilt[:2].any()) or (n > 0 and spoilt[2]) or spoilt[3])
    if spoilt[0] and n:
        atoms.symbols[atom] = rng.choice(["X", "Fe", "H"])
    if spoilt[1] and n:
        atoms.positions[atom, rng.integers(3)] = rng.choice([np.nan, np.inf, -np.inf])
    if spoilt[2] and n:
        value = rng.choice([0.5, -1, np.nan])
        atoms.arrays["mask"] = np.where(np.arange(n) == atom, value, mask)  # of floats, now
    if spoilt[3]:
        atoms.pbc = rng.permutation([True, False, False])
    return atoms, good


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_any_atoms_give_finite_numbers_or_an_error(calculator, seed):
    """Those of the real atoms alone, in any order."""
    rng = np.random.default_rng(seed)
    atoms, good = random_atoms(rng)
    atoms.calc = calculator
    if not good:
        with pytest.raises(ValueError, match=r"^(atom \d+: |the input is periodic)"):
            atoms.get_potential_energy()
        return
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    real = np.flatnonzero(atoms.arrays.get("mask", np.ones(len(atoms))))
    alone = Atoms(atoms.symbols[real], atoms.positions[real])[::-1]
    alone.calc = atoms.calc
    assert alone.get_potential_energy() == pytest.approx(energy, rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(forces[real], alone.get_forces()[::-1], rtol=0, atol=1e-11)
    assert np.isfinite(forces).all()
    assert not np.delete(forces, real, axis=0).any()


# ---- What is refused -----------------------------------------------------------------------------


def test_periodic_atoms(trained, molecule):
    energy = molecule.get_potential_energy()
    molecule.set_cell([9, 9, 9])
    molecule.pbc = [False, False, True]
    with pytest.raises(ValueError, match=r"periodic.*ignore_pbc=True"):
        molecule.get_potential_energy()
    molecule.calc = MaskedDP(trained.model, ignore_pbc=True)
    assert molecule.get_potential_energy() == energy
    with pytest.raises(PropertyNotImplementedError):
        molecule.get_stress()


def test_element_that_the_model_lacks(molecule):
    molecule[3].symbol = "Fe"
    with pytest.raises(ValueError, match=r"atom 3: the model does not know Fe, only .*ZN"):
        molecule.get_potential_energy()


def test_mask_that_is_neither_0_nor_1(molecule):
    molecule.set_array("mask", np.ones(len(molecule)))
    molecule.arrays["mask"][2] = 0.9
    with pytest.raises(ValueError, match=r'atom 2: atoms.arrays\["mask"\] is 0.9'):
        molecule.get_potential_energy()


def test_mask_of_words(molecule):
    molecule.set_array("mask", np.full(len(molecule), "real"))
    with pytest.raises(ValueError, match=r"is of the type <U4, not numbers"):
        molecule.get_potential_energy()


def test_mask_of_the_wrong_shape(molecule):
    molecule.set_array("mask", np.ones((len(molecule), 1)))
    with pytest.raises(ValueError, match=r"has the shape \(\d+, 1\), not"):
        molecule.get_potential_energy()


def test_type_outside_the_type_map(calculator):
    with pytest.raises(ValueError, match=r"atom 1: type 3 is outside the type map"):
        calculator.potential.evaluate(np.array([0, 3]), np.eye(3)[:2])


@pytest.fixture
def unsorted(calculator):
    """Return atoms whose last is of the first type, and whose first is virtual."""
    atoms = Atoms([SYMBOLS[t] for t in (1, 2, 2, 1, 0)], np.diag([9.0, 1, 2, 3, 4])[:, :3])
    atoms.positions[4] = [5, 5, 5]
    atoms.set_array("mask", np.array([0, 1, 1, 1, 1]))
    atoms.calc = calculator
    return atoms


def test_position_that_is_not_finite(unsorted):
    unsorted.positions[3, 2] = np.nan
    with pytest.raises(ValueError, match=r"^atom 3: coordinate z of a real atom is nan, not a"):
        unsorted.get_potential_energy()


def test_atoms_at_the_same_point(unsorted):
    unsorted.positions[4] = unsorted.positions[2]
    with pytest.raises(
        ValueError, match=r"^atom 2: at the same point as atom 4 \(distance 0\); .* mask to 0$"
    ):
        unsorted.get_potential_energy()
    unsorted.positions[4] += 1
    assert np.isfinite(unsorted.get_potential_energy())


@pytest.mark.parametrize("unit", ["kcal/mol", None, True, 0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("name", ["energy_unit", "length_unit"])
def test_unit_that_is_no_positive_number(trained, name, unit):
    with pytest.raises(ValueError, match=f"^{name} is .*; give a positive number"):
        MaskedDP(trained.model, **{name: unit})


def test_arguments_that_cannot_be_meant(trained):
    with pytest.raises(ValueError, match=r"^ignore_pbc is 'no'; give True or False"):
        MaskedDP(trained.model, ignore_pbc="no")
    with pytest.raises(ValueError, match=r"^the model is None; give the path"):
        MaskedDP(None)


def test_arguments_that_there_are_not(trained, calculator):
    """ASE would keep them and do nothing with them."""
    with pytest.raises(TypeError, match=r"no argument lenght_unit .* takes length_unit$"):
        MaskedDP(trained.model, lenght_unit=units.Bohr)
    with pytest.raises(TypeError, match=r"no argument command .* takes model, types, .*groups$"):
        MaskedDP(trained.model, command="dp")
    with pytest.raises(TypeError, match="no argument length_unit that could be set"):
        calculator.set(length_unit=units.Bohr)
    assert MaskedDP(trained.model, label="a").label == "a"


def test_file_that_is_no_frozen_model(trained, tmp_path):
    with pytest.raises(ValueError, match=r"input\.json is not a frozen model of DeePMD-kit"):
        MaskedDP(trained.model.parent / "input.json")
    with pytest.raises(FileNotFoundError, match="there is no such model"):
        MaskedDP(tmp_path / "none.pb")


# ---- Committees ----------------------------------------------------------------------------------


def test_committee(tmp_path):
    """The mean of several models, and how far they differ; in ASE's units, virtual atoms apart."""
    shape = {"neuron": [6, 12], "M2": 4, "fitting_neuron": [12]}
    models = [
        write_model(tmp_path / f"{k}.pb", random_nets(3, seed=k, **shape), TYPE_MAP)
        for k in range(3)
    ]
    atoms = Atoms("COZnCO", np.random.default_rng(0).normal(scale=2, size=(5, 3)))
    atoms.set_array("mask", np.array([1, 0, 1, 1, 1]))
    options = {"energy_unit": 2.0, "length_unit": 0.5, "device": "cpu"}

    def forces_of(calculator):
        atoms.calc = calculator
        return atoms.get_forces()

    alone = np.array([forces_of(MaskedDP(model, **options)) for model in models])
    committee = MaskedDP(models, **options)
    for calculator in (committee, pickle.loads(pickle.dumps(committee))):
        forces = forces_of(calculator)
        np.testing.assert_allclose(forces, alone.mean(axis=0), rtol=1e-12, atol=1e-15)
        wanted = np.sqrt(((alone - forces) ** 2).sum(axis=2).mean(axis=0))
        assert wanted.max() > 1e-7
        deviation = calculator.get_property("deviation", atoms)
        np.testing.assert_allclose(deviation, wanted, rtol=1e-10, atol=1e-15)
        assert deviation[1] == 0
        assert calculator.results["max_devi_f"] == deviation.max()
    one = MaskedDP(models[0], **options)
    forces_of(one)
    assert "deviation" not in one.results
    with pytest.raises(PropertyNotImplementedError):
        one.get_property("deviation", atoms)
