# SPDX-License-Identifier: LGPL-3.0-or-later
"""What atoms are to a model in OpenMM: by element, name or a user's word; and those without one."""

from dataclasses import replace

import numpy as np
import openmm as mm
import pytest
from md import add_residue
from openmm import app, unit
from regions import SITE, assert_same, evaluate, members_of, of_deeppot

from deepmd_mask.openmm import DPRegion, dp_force


def renamed(solvated, elements=None, **names):
    """Return the topology with other names of atoms by element, or other elements by name."""
    topology = app.Topology()
    for residue in solvated.topology.residues():
        for atom in add_residue(topology, residue.name, *[a.name for a in residue.atoms()]):
            atom.name = names.get(atom.name, atom.name)
            atom.element = (elements or {}).get(atom.name, atom.element)
    topology.setPeriodicBoxVectors(solvated.topology.getPeriodicBoxVectors())
    return topology


WITHOUT_ZINC = {"Zn": None}

# ---- Types ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "types",
    [
        "name",
        {"C": "c", "O": "O", "Zn": "ZN"},
        {"Zn": "Zn"},
        lambda atom: atom.name.upper(),
    ],
)
def test_types_by_name_or_by_the_users_word(trained, solvated, types):
    """Zinc without an element, as GROMACS files without atomic numbers give it."""
    topology = renamed(solvated, WITHOUT_ZINC)
    found = evaluate(solvated, dp_force(trained.model, topology, SITE, types=types))
    assert_same(found, of_deeppot(trained, solvated, members_of(solvated, 0.45)))
    cut = SITE.cut(topology, solvated.positions, types=types)
    assert cut.atoms.tolist() == members_of(solvated, 0.45).tolist()


def test_types_are_other_than_elements(trained, solvated):
    """Carbon and oxygen change places."""
    topology = renamed(solvated)
    swapped = {"C": "O", "O": "C"}
    found, _ = evaluate(solvated, dp_force(trained.model, topology, SITE, types=swapped))
    elements = {k: app.Element.getBySymbol(v) for k, v in swapped.items()}
    wanted, _ = evaluate(solvated, dp_force(trained.model, renamed(solvated, elements), SITE))
    assert found == pytest.approx(wanted, rel=1e-12)
    plain, _ = evaluate(solvated, dp_force(trained.model, topology, SITE))
    assert abs(found - plain) > 1


def test_types_survive_serialisation(trained, solvated):
    """A function does not have to be pickled, only what it said."""
    topology = renamed(solvated, WITHOUT_ZINC)
    force = dp_force(trained.model, topology, SITE, types=lambda atom: atom.name)
    again = mm.XmlSerializer.deserialize(mm.XmlSerializer.serialize(force))
    assert evaluate(solvated, again)[0] == evaluate(solvated, force)[0]


@pytest.mark.parametrize(
    "types, message",
    [
        ("names", r"types is 'names'; give \"element\", \"name\", a dict"),
        (["C"], r"types is \['C'\]; give"),
        ({"Zn": 2}, r"types is {'Zn': 2}; give"),
        (lambda atom: 2, r"types gives 2 for atom 0, Zn; give"),
        (lambda atom: "", r"types gives '' for atom 0, Zn"),
        ({"ZN": "Zn"}, r"atoms named 'ZN', but the topology has none"),
        ({"Zn": "Zinc"}, r"atom 0, Zn of residue A:ZN:1, is Zinc, which is not in the model's"),
    ],
)
def test_types_that_cannot_be(trained, solvated, types, message):
    with pytest.raises(ValueError, match=message):
        dp_force(trained.model, solvated.topology, SITE, types=types)


def test_forces_on_atoms_by_name(trained, solvated):
    energy, forces = of_deeppot(trained, solvated, members_of(solvated, 0.45))
    names = np.array([atom.name for atom in solvated.topology.atoms()])
    region = replace(SITE, forces_on=["Zn", "O"])
    found = evaluate(solvated, dp_force(trained.model, solvated.topology, region))
    forces[names == "C"] = 0
    assert_same(found, (energy, forces))


# ---- Atoms without an element --------------------------------------------------------------------

GROMACS = """
[ defaults ]
1 2 yes 0.5 0.8333
[ atomtypes ]
ZN 65.4 0.0 A 0.2 0.05
C  12.0 0.0 A 0.3 0.4
O  16.0 0.0 A 0.3 0.6
[ moleculetype ]
ZN 1
[ atoms ]
1 ZN 1 ZN ZN 1 2.0 65.4
[ moleculetype ]
CO 1
[ atoms ]
1 C 1 CO C 1 -0.02 12.0
2 O 1 CO O 2 0.02 16.0
[ bonds ]
1 2 1 0.115 1000
[ system ]
zinc
[ molecules ]
ZN 1
CO 26
"""


def test_gromacs_files_without_atomic_numbers(trained, solvated, tmp_path):
    """OpenMM finds no element for zinc, and zinc was missing in its own region."""
    (tmp_path / "zinc.top").write_text(GROMACS)
    top = app.GromacsTopFile(
        str(tmp_path / "zinc.top"),
        periodicBoxVectors=solvated.topology.getPeriodicBoxVectors(),
    )
    system = top.createSystem()
    for options in ({}, {"system": system}):
        message = r"DP region: centres has atom 0, ZN of residue .*:ZN:.*, which has no element, as"
        with pytest.raises(ValueError, match=message):
            dp_force(trained.model, top.topology, SITE, **options)
        with pytest.raises(ValueError, match=message):
            SITE.cut(top.topology, solvated.positions, **options)
        force = dp_force(trained.model, top.topology, SITE, types={"ZN": "Zn"}, **options)
        wanted = of_deeppot(trained, solvated, members_of(solvated, 0.45))
        assert_same(evaluate(solvated, force), wanted)


@pytest.mark.parametrize(
    "region, message",
    [
        (DPRegion([0], 0.3), r"centres has atom 0, Zn of residue A:ZN:1, which has no element, as"),
        (DPRegion([1], 0.3, always=[0]), r"always has atom 0, Zn"),
        (DPRegion([1], 0.3, forces_on=[0]), r"forces_on has atom 0, Zn"),
        (DPRegion([1], 0.3, forces_on=["Zn"]), r"forces_on has atom 0, Zn"),
        (DPRegion([1], atoms=[0, 1, 2]), r"atoms has atom 0, Zn"),
        (DPRegion([1], 0.3), r"atom 0, Zn of residue A:ZN:1, may be a member, but has no element"),
    ],
)
def test_atom_without_an_element_that_matters(trained, solvated, region, message):
    with pytest.raises(ValueError, match=message):
        dp_force(trained.model, renamed(solvated, WITHOUT_ZINC), region)


@pytest.mark.parametrize(
    "region, options",
    [
        (DPRegion([1], atoms=[1, 2]), {}),
        (DPRegion([1], 0.3, exclude=["ZN"]), {}),
        (DPRegion([1], 0.3), {"candidates": range(1, 53)}),
    ],
)
def test_atom_without_an_element_that_does_not_matter(trained, solvated, region, options):
    dp_force(trained.model, renamed(solvated, WITHOUT_ZINC), region, **options)


def molecule_with(name, mass, *, site=False):
    """Return a topology and system of a molecule with an atom without element, as in a heme."""
    topology = app.Topology()
    atoms = add_residue(topology, "HEM", "C", "O", "O")
    topology.addAtom(name, None, atoms[0].residue)
    system = mm.System()
    for each in (12.0, 16.0, 16.0, mass):
        system.addParticle(each)
    if site:
        system.setVirtualSite(3, mm.TwoParticleAverageSite(0, 1, 0.5, 0.5))
    return topology, system


def test_metal_without_element_in_a_residue_with_others(trained):
    """Nothing but its mass, or the user, tells it from a virtual site."""
    region = DPRegion([0], 0.5)
    for mass, message in (
        (
            55.8,
            r"atom 3, FE of residue A:HEM:1, may be a member, but has no element, but a mass of",
        ),
        (0.0, r"atom 3, FE .* may be a member, but has no element, and is frozen"),
    ):
        topology, system = molecule_with("FE", mass)
        with pytest.raises(ValueError, match=message):
            dp_force(trained.model, topology, region, system=system)
        with pytest.raises(ValueError, match=r"atom 3, FE .* but has no element; give `types`"):
            dp_force(trained.model, topology, region)
        dp_force(trained.model, topology, region, types={"FE": "Zn"})
    topology, system = molecule_with("LP", 0.0, site=True)
    dp_force(trained.model, topology, region, system=system)
    with pytest.raises(ValueError, match=r"centres has atom 3, LP .*, a virtual site without"):
        dp_force(trained.model, topology, replace(region, centres=[3]), system=system)


def water(model):
    """Return topology, positions and system of a water model's box."""
    modeller = app.Modeller(app.Topology(), [])
    field = app.ForceField(f"{model}.xml")
    kind = model if model in ("tip3p", "tip5p") else "tip4pew"
    modeller.addSolvent(field, boxSize=mm.Vec3(1.9, 1.9, 1.9) * unit.nanometer, model=kind)
    return modeller.topology, modeller.positions, field.createSystem(modeller.topology)


@pytest.mark.parametrize("model", ["tip4pew", "tip5p"])
def test_sites_of_water_models(model):
    """Known by name in a molecule of O, H, H, and by the system."""
    topology, positions, system = water(model)
    region = DPRegion([0], 0.4)
    plain = region.cut(topology, positions)
    elements = [atom.element for atom in topology.atoms()]
    assert all(elements[atom] is not None for atom in plain.atoms)
    assert len(plain.atoms) % 3 == 0
    assert len(plain.atoms) > 3
    known = region.cut(topology, positions, system=system)
    np.testing.assert_array_equal(known.atoms, plain.atoms)


def test_hydrogen_atoms_that_tell_and_that_do_not():
    topology, positions, _ = water("tip3p")
    r = np.array(positions.value_in_unit(unit.nanometer))
    elements = np.array([atom.element.symbol for atom in topology.atoms()])
    d = r - r[0]
    d -= np.rint(d / 1.9) * 1.9
    near = np.linalg.norm(d, axis=1) < 0.4
    residue = np.arange(len(r)) // 3
    for hydrogens in (True, False):
        telling = near if hydrogens else near & (elements == "O")
        wanted = np.flatnonzero(np.isin(residue, residue[telling]))
        found = DPRegion([0], 0.4, hydrogens=hydrogens).cut(topology, r)
        assert found.atoms.tolist() == wanted.tolist()
    of_hydrogen = DPRegion([1], 0.05, hydrogens=False).cut(topology, r)
    assert of_hydrogen.atoms.tolist() == [0, 1, 2]


def test_element_that_its_mass_contradicts(trained):
    """GROMACS files without atomic numbers: OpenMM takes copper, CU, for carbon."""
    topology = app.Topology()
    add_residue(topology, "CU", "C")[0].name = "CU"
    system = mm.System()
    system.addParticle(63.546)
    with pytest.raises(ValueError, match=r"CU of residue CU, is C in the topology, .* mass of Cu"):
        dp_force(trained.model, topology, DPRegion([0], 0.5), system=system)
    dp_force(trained.model, topology, DPRegion([0], 0.5), system=system, types={"CU": "Zn"})


def pyrrole(*masses, bonds=True):
    """Return topology and system of a nitrogen atom, NA, taken for sodium, with a hydrogen atom."""
    topology = app.Topology()
    atoms = add_residue(topology, "HEM", "Na", "H", "C")
    if bonds:
        topology.addBond(*atoms[:2])
    system = mm.System()
    for mass in masses:
        system.addParticle(mass)
    return topology, system


@pytest.mark.parametrize("bonds", [True, False])
@pytest.mark.parametrize("moved", [0, 2, 3])
def test_element_that_a_lighter_mass_contradicts(moved, bonds):
    """With hydrogen mass repartitioning or without."""
    topology, system = pyrrole(14.007 - moved, 1.008 + moved, 12.011, bonds=bonds)
    with pytest.raises(ValueError, match=r"Na of residue HEM, is Na in the .* the mass of N in"):
        DPRegion([0], 0.5).cut(topology, np.zeros((3, 3)), system=system)
    topology, system = pyrrole(22.99, 1.008, 1.008 + moved)
    with pytest.raises(ValueError, match=r"atom 2, C of residue HEM, is C .* the mass of H in"):
        DPRegion([0], 0.5).cut(topology, np.zeros((3, 3)), system=system)


@pytest.mark.parametrize("bonds", [True, False])
@pytest.mark.parametrize("hydrogen_mass", [1.5, 2, 3.024, 4])
def test_repartitioned_masses_are_no_contradiction(hydrogen_mass, bonds):
    """Of carbon with three hydrogen atoms and of nitrogen, which is as heavy as carbon then."""
    topology = app.Topology()
    atoms = add_residue(topology, "LIG", "C", "H", "H", "H", "N", "H", "O", "H", "H")
    of = [0, 0, 0, 0, 0, 4, 4, 6, 6]
    system = mm.System()
    moved = hydrogen_mass - 1.008
    for k, atom in enumerate(atoms):
        mass = atom.element.mass.value_in_unit(unit.dalton)
        hydrogens = sum(of[j] == k and atoms[j].name == "H" for j in range(9))
        system.addParticle(hydrogen_mass if atom.name == "H" else mass - moved * hydrogens)
        if bonds and atom.name == "H":
            topology.addBond(atoms[of[k]], atom)
    positions = np.arange(27).reshape(9, 3) / 100
    cut = DPRegion([0], 0.5).cut(topology, positions, system=system)
    assert len(cut.atoms) == 9
    system.setParticleMass(0, 0.0)  # frozen
    DPRegion([0], 0.5).cut(topology, positions, system=system)
    for atom in range(1, 9):  # as for a minimisation
        system.setParticleMass(atom, 1.0)
    DPRegion([0], 0.5).cut(topology, positions, system=system)


def test_system_tells_of_its_box_and_its_atoms(trained, solvated):
    topology = renamed(solvated)
    topology.setPeriodicBoxVectors(None)
    force = dp_force(trained.model, topology, SITE, system=solvated.system)
    assert force.usesPeriodicBoundaryConditions()
    with pytest.raises(ValueError, match=r"the system has 1 particles, but the topology has 53"):
        one = mm.System()
        one.addParticle(1.0)
        dp_force(trained.model, topology, SITE, system=one)
