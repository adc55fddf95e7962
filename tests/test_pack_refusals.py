# SPDX-License-Identifier: LGPL-3.0-or-later
"""What dp-mask pack refuses, and that it says where."""

import numpy as np
import pytest
from molecules import FRAMES, GOOD, HEAD, molecule, require_frames

from deepmd_mask.data import pack

# Forces here are random.
pytestmark = pytest.mark.filterwarnings("ignore::deepmd_mask.data.balance.NetForceWarning")


def periodic():
    atoms = molecule(["O", "H", "H"])
    atoms.set_cell([9, 9, 9])
    atoms.pbc = True
    return atoms


def test_cell_is_dropped_if_asked(tmp_path):
    pack(periodic(), tmp_path / "system", drop_cell=True)
    require_frames(tmp_path / "system", [periodic()])


def with_nan(key):
    atoms = molecule(["O", "H", "H"])
    if key == "energy":
        atoms.calc.results["energy"] = np.nan
    else:
        array = atoms.positions if key == "positions" else atoms.calc.results["forces"]
        array[1, 2] = np.inf
    return atoms


def touching():
    atoms = molecule(["O", "H", "H"])
    atoms.positions[2] = atoms.positions[0]
    return atoms


REFUSED = {
    "frame 0 of the given ones, atom 3: Zn is not in `type_map` ['H', 'O']":
        {"type_map": ["H", "O"]},
    "frame 2 of the given ones: 3 atoms of H, but `sel` allows 2; raise it":
        {"type_map": ["H", "O", "S", "Zn"], "sel": [2, 2, 1, 1]},
    "`sel` is a list; give `type_map`": {"sel": [4, 4, 4, 4]},
    "must have one number, not negative, for each type": {"type_map": ["H", "O"], "sel": [4]},
    '`sel` is "automatic"': {"sel": "automatic"},
    '`sel` is "auto:0.5"; its factor must be at least 1': {"sel": "auto:0.5"},
    '"O" is there twice': {"type_map": ["O", "o", "H", "S", "Zn"]},
    "it is periodic": {"sources": [FRAMES[0], periodic()]},
    "the energy is nan": {"sources": with_nan("energy")},
    "atom 1: the position is": {"sources": with_nan("positions")},
    "atom 1: the force is": {"sources": with_nan("forces")},
    "`preference` names FE, which no frame has": {"preference": "element:FE"},
    '`preference` "element" is none of': {"preference": "element"},
    '`preference` "within:x:ZN" is none of': {"preference": "within:x:ZN"},
    "there is no per-atom array w": {"preference": "array:w"},
    "there is no per-atom array atomtypes": {"preference": "names:SG"},
    '`preference` "names" is none of': {"preference": "names"},
    "array atomtypes has the shape (3,) and the dtype":
        {"sources": molecule(["H"] * 3, atomtypes=[1, 2, 3]), "preference": "names:SG"},
    "`preference` names SG, which no frame has":
        {"sources": molecule(["H"] * 3, atomtypes=["HA", "HB", "HC"]), "preference": "names:HA,SG"},
    "atom 2: preference -1 in array w":
        {"sources": molecule(["H"] * 3, w=[0, 1, -1]), "preference": "array:w"},
    "array w has the shape (3, 3)":
        {"sources": molecule(["H"] * 3, w=np.eye(3)), "preference": "array:w"},
    "at least one must be left": {"validation": 3},
    "`validation` is 1.5; give a fraction below 1": {"validation": 1.5},
    "`validation` is nan": {"validation": float("nan")},
    "`validation` is inf": {"validation": float("inf")},
    "`validation` is -1": {"validation": -1},
    "`seed` is -4": {"seed": -4},
    "`set_size` is 0": {"set_size": 0},
    '`precision` is "float16"': {"precision": "float16"},
    "`forces_key` is dft_gradient, and gradients have the other sign":
        {"forces_key": "dft_gradient"},
    '`energy_unit`: "furlong" is no unit of energy': {"energy_unit": "furlong"},
    '`force_unit`: "hartree" is no unit of force': {"force_unit": "hartree"},
    '`force_unit`: "stone" is no unit of energy': {"force_unit": "stone/nm"},
    "there is no source": {"sources": []},
    "no frame has an atom": {"sources": molecule([])},
    "there is no frame in it": {"sources": [[]]},
    "a float is no source": {"sources": 1.5},
    "nowhere: not found; check": {"sources": "nowhere"},
    "dpdata/hdf5 is meant as a format, it is none of dpdata's (write dpdata:FORMAT:PATH ":
        {"sources": "dpdata/hdf5:x"},
    "deepmd/hdf5, ": {"sources": "ase/db:x"},
    "gauss is meant as a format, it is none of ASE's (write ase:FORMAT:PATH for any of them): a":
        {"sources": "gauss:x"},
    "vasp/outcar:nowhere: there is no file": {"sources": "vasp/outcar:nowhere"},
    'extxyz:: there is no file "";': {"sources": "extxyz:"},
    ":nowhere: not found; check": {"sources": ":nowhere"},
    "`sel` gives 120000000 slots": {"sel": "auto:40000000", "sources": FRAMES[1]},
    "atom 1: X, with atomic number 0": {"sources": molecule(["H", "X"])},
    "frame 1 of the given ones, atom 0: at the same point as atom 2 (distance 0)":
        {"sources": [FRAMES[0], touching()]},
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_refused(tmp_path, message):
    options = {"sources": FRAMES, **REFUSED[message]}
    with pytest.raises(ValueError) as error:
        pack(output=tmp_path / "system", **options)
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


MALFORMED = {
    "text where a number belongs": (GOOD + GOOD.replace("0 0 1", "0 0 one"), "frame 1: ASE cannot"),
    "a column too few": (GOOD + GOOD.replace("H 0 0 1 0", "H 0 0 1"), "frame 1"),
    "ends too early": (GOOD + f"3\n{HEAD}\nH 0 0 0 0 0 0\n", "frame 1: ASE cannot read it as "
                       "extxyz (it should have 3 atoms and has 1)"),
    "no number of atoms": (GOOD + "junk\n" + GOOD, "frame 1: ASE cannot read it as extxyz "
                           "(expected a number of atoms, found 'junk')"),
    "text as energy": (GOOD.replace("-1.5", "low"), "frame 0: there is no energy"),
    "unknown element": (GOOD.replace("H 0 0 1", "Qq 0 0 1"), "frame 0: ASE cannot"),
    "empty": ("", "ASE does not know its format"),
    "no labels": ("1\n\nH 0 0 0\n", "frame 0: there is no energy"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_file(tmp_path, kind):
    text, message = MALFORMED[kind]
    source = tmp_path / "quelle 1.xyz"
    source.write_text(text)
    with pytest.raises(ValueError) as error:
        pack(source, tmp_path / "system")
    assert f"source {source}" in str(error.value)
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == [source]


def test_blank_lines_do_not_end_a_file(tmp_path):
    (tmp_path / "a.xyz").write_text(f"{GOOD}\n{GOOD}\n\n{GOOD}")
    assert pack(tmp_path / "a.xyz", tmp_path / "system").systems == {str(tmp_path / "system"): 3}


def test_folder_without_system(tmp_path):
    with pytest.raises(ValueError, match="no system"):
        pack(tmp_path, tmp_path / "system")
