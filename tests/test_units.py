# SPDX-License-Identifier: LGPL-3.0-or-later
"""Units that files state, users give and readers know: converted once, or refused."""

import numpy as np
import outputs
import pytest
from outputs import (
    FORCES,
    INPUT,
    WATER,
    extxyz,
    gaussian,
    orca,
    orca_step,
    psi4,
)
from packing import load, packed, refusal, require_water

from deepmd_mask.data import pack

pytestmark = pytest.mark.filterwarnings("error::deepmd_mask.data.balance.NetForceWarning")


AU = "hartree/bohr"
CONVERTED = {
    "energy-unit=hartree force-unit=hartree/bohr": {},
    "energy_unit=Hartree forces_unit=Hartree/Bohr": {},
    'energy_units="Ha" force_units="Ha/Bohr" pos_unit=Angstrom charge_unit=au': {},
    "unit_of_energy=hartree unit_of_forces=hartree/bohr unit_cell=primitive": {},
    "energyUnit=au forceUnit=au stress-unit=GPa": {},
    "energy-unit=hartree": {"force_unit": AU},
    "force-unit=au": {"energy_unit": "Ha"},
    "": {"energy_unit": "hartree", "force_unit": AU},
    "energy-unit=hartree force-unit=au": {"energy_unit": "Ha", "force_unit": AU},
}


@pytest.mark.parametrize("header", CONVERTED)
def test_units_of_extended_xyz(tmp_path, header):
    (frame,), _ = packed(tmp_path, extxyz(header), name="a.xyz", **CONVERTED[header])
    require_water(frame)


def test_unit_of_positions(tmp_path):
    header = "energy-unit=hartree force-unit=hartree/bohr position-unit=bohr"
    text = extxyz(header, WATER / outputs.BOHR)
    (frame,), _ = packed(tmp_path, text, name="a.xyz")
    require_water(frame)


def test_unit_of_a_label_with_another_name(tmp_path):
    text = extxyz("dft=-76.3 dft_unit=hartree force-unit=au").replace("energy=-76.3 ", "")
    (frame,), _ = packed(tmp_path, text, name="a.xyz", energy_key="dft")
    require_water(frame)


def test_usual_units_change_nothing(tmp_path):
    for k, header in enumerate(
        ("", "energy-unit=eV force-unit=eV/Å pos-unit=Ang units=metal formula_units=4")
    ):
        packed(tmp_path, extxyz(header, forces=FORCES), name="a.xyz")
        (tmp_path / "system").rename(tmp_path / str(k))
    for one, other in zip(load(tmp_path / "0"), load(tmp_path / "1"), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


REFUSED_UNITS = {
    "energy-unit=furlong force-unit=au": ({}, "energy-unit=furlong"),
    "energy-unit=hartree force-unit=stone/foot": ({}, "force-unit=stone/foot"),
    "energy-unit=hartree": ({}, "add force-unit=… there, or give `force_unit`"),
    "position-unit=bohr": ({}, "add energy-unit=… there"),
    "energy-unit=eV force-unit=eV/Å pos-unit=mile": ({}, "pos-unit=mile"),
    "energy-unit=eV gradient_unit=eV/Å": ({}, "gradients have the other sign than forces"),
    "energy-unit=eV force-unit=au": (
        {"energy_unit": "Ha", "force_unit": AU},
        "but `energy_unit` is Ha",
    ),
    "energy-unit=Ha force-unit=au": ({"force_unit": "eV/Å"}, "but `force_unit` is eV/Å"),
    "energy-unit=Ha energy_unit=eV force-unit=au": ({}, "it says both energy-unit=Ha and"),
    "units=real": ({}, "units=real, and it is not clear of which"),
    "energy-unit=27.2114 force-unit=au": ({}, "energy-unit=27.2114, which is no name of a unit"),
    'energy-unit=eV force-unit="27.2114 0.529177"': ({}, "which is no name of a unit"),
    "units=T": ({}, "units=True, which is no name of a unit"),
    "label_unit=43.36": ({}, "label_unit=43.36, which is no name of a unit"),
    "label_unit=kcal/mol": ({}, "label_unit=kcal/mol, and it is not clear"),
}


@pytest.mark.parametrize("header", REFUSED_UNITS)
def test_units_that_are_refused(tmp_path, header):
    options, message = REFUSED_UNITS[header]
    text = extxyz("", forces=FORCES) + extxyz(header)
    found = refusal(tmp_path, text, name="a.xyz", external_field=True, **options)
    assert message in found
    assert "frame 1: it says" in found


@pytest.mark.parametrize("header", ["", "position-unit=Å"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"energy_unit": "kcal/mol"}, "unit of forces; give `force_unit`, too, if only as eV/Å"),
        ({"force_unit": AU}, "unit of energies; give `energy_unit`, too, if only as eV"),
    ],
)
def test_an_unusual_unit_of_one_label_only(tmp_path, header, options, message):
    """The other label would keep its numbers, which is seldom what the file means."""
    assert message in refusal(tmp_path, extxyz(header), name="a.xyz", **options)
    text = extxyz(header, forces=FORCES)
    assert len(packed(tmp_path, text, name="a.xyz", energy_unit="eV")[0]) == 1


def test_units_of_a_system(tmp_path):
    packed(tmp_path, extxyz("", forces=FORCES), name="a.xyz")
    with pytest.raises(ValueError, match="nothing is said of the unit of forces"):
        pack(tmp_path / "system", tmp_path / "again", energy_unit="kcal/mol")


def test_units_in_dpdata_s_reader_of_extended_xyz(tmp_path):
    text = extxyz("energy-unit=hartree force-unit=hartree/bohr")
    (frame,), _ = packed(tmp_path, text, "quip/gap/xyz:{}", "a.xyz")
    require_water(frame)
    (tmp_path / "system").rename(tmp_path / "other")
    found = refusal(tmp_path, text, "dpdata:extxyz:{}", "a.xyz", energy_unit="hartree")
    assert "`energy_unit` must not be hartree" in found
    text = extxyz("energy_units=hartree forces_units=hartree/bohr")
    assert "dpdata does not convert" in refusal(tmp_path, text, "mace/xyz:{}", "a.xyz")
    text = extxyz("energy-unit=hartree")
    assert "add force-unit=… there" in refusal(tmp_path, text, "mace/xyz:{}", "a.xyz")
    text = extxyz("", forces=FORCES) + "H\n"
    assert "frame 1: its header" in refusal(tmp_path, text, "mace/xyz:{}", "a.xyz")


@pytest.mark.parametrize(
    ("text", "form"),
    [(orca(orca_step()), "{}"), (gaussian(INPUT), "gaussian/log:{}"), (psi4(), "cclib:{}")],
)
def test_units_are_not_converted_twice(tmp_path, text, form):
    """The readers of outputs give eV already."""
    for option in ({"energy_unit": "hartree"}, {"force_unit": "hartree/bohr"}):
        assert "whatever the file has, so `" in refusal(tmp_path, text, form, **option)
    assert len(packed(tmp_path, text, form, energy_unit="eV", force_unit="eV/Å")[0]) == 1
