# SPDX-License-Identifier: LGPL-3.0-or-later
"""Labelled molecules to pack, and what became of them in a system."""

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

KEYS = ("coord", "force", "energy", "aparam", "atom_pref")
# A frame as extended XYZ.
HEAD = 'Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.5 pbc="F F F"'
GOOD = f"2\n{HEAD}\nH 0 0 0 0 0 0\nH 0 0 1 0 0 0\n"


def molecule(symbols, seed=0, energy=-1.5, **arrays):
    """Atoms on a shaken lattice, with random forces."""
    rng = np.random.default_rng(seed)
    lattice = 2.0 * np.stack(np.unravel_index(np.arange(9**3), (9, 9, 9)), axis=1)
    atoms = Atoms(symbols, lattice[: len(symbols)] + rng.uniform(-0.3, 0.3, (len(symbols), 3)))
    forces = rng.normal(size=(len(symbols), 3))
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    for name, array in arrays.items():
        atoms.set_array(name, np.asarray(array))
    return atoms


FRAMES = [
    molecule(["O", "H", "H", "Zn"], 0, -10.0),
    molecule(["Zn", "S", "O"], 1, -11.0),
    molecule(["H", "O", "H", "O", "H"], 2, -12.0),
]


def load(system):
    """Return a system's arrays, and the types of its slots."""
    sets = sorted(system.glob("set.*"))
    data = {key: np.concatenate([np.load(s / f"{key}.npy") for s in sets]) for key in KEYS}
    names = (system / "type_map.raw").read_text().split()
    types = np.loadtxt(system / "type.raw", dtype=int, ndmin=1)
    return data, np.array(names)[types]


def require_frames(system, frames):
    """Require that a system holds just these frames, in this order."""
    data, names = load(system)
    assert len(data["energy"]) == len(frames)
    for f, atoms in enumerate(frames):
        real = data["aparam"][f] == 1
        order = np.argsort([names.tolist().index(s) for s in atoms.symbols], kind="stable")
        assert names[real].tolist() == [atoms.symbols[k] for k in order]
        np.testing.assert_array_equal(
            data["coord"][f].reshape(-1, 3)[real], atoms.positions[order]
        )  # fmt: skip
        np.testing.assert_array_equal(
            data["force"][f].reshape(-1, 3)[real], atoms.calc.results["forces"][order]
        )
        assert not data["force"][f].reshape(-1, 3)[~real].any()
        assert data["energy"][f] == atoms.calc.results["energy"]


def same_files(one, other):
    """Require that two systems are equal to the last byte."""
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(other) for p in other.rglob("*") if p.is_file())
    for file in files:
        assert (one / file).read_bytes() == (other / file).read_bytes(), file
