# SPDX-License-Identifier: LGPL-3.0-or-later
"""Packs what a test writes, and looks at what became of it."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from click.testing import CliRunner
from outputs import (
    FORCES,
    HARTREE,
    SYMBOLS,
    WATER,
)

from deepmd_mask.cli import main
from deepmd_mask.data import pack


def load(system):
    """Return real atoms of each frame: positions, forces and energy; O comes after H."""
    arrays = [np.load(system / f"set.000/{k}.npy") for k in ("aparam", "coord", "force", "energy")]
    mask, coord, force, energy = arrays
    return [
        (r.reshape(-1, 3)[m == 1], f.reshape(-1, 3)[m == 1], e)
        for m, r, f, e in zip(mask, coord, force, energy, strict=True)
    ]


def packed(tmp_path, text, form="{}", name="job.log", **options):
    """Pack an output, read as the form says; return its frames and what was left out."""
    path = tmp_path / name
    path.write_text(text)
    result = pack(form.format(path), tmp_path / "system", overwrite=True, **options)
    return load(tmp_path / "system"), result.left_out


def refusal(tmp_path, text, form="{}", name="job.log", **options):
    with pytest.raises(ValueError) as error:
        packed(tmp_path, text, form, name, **options)
    assert str(tmp_path / name.partition("@")[0]) in str(error.value)
    assert not (tmp_path / "system").exists()
    return str(error.value)


def require_water(frame, energy=-76.3, positions=WATER, atol=1e-5):
    """Require the right numbers: 5.142 eV/Å on both H along their bonds."""
    r, f, E = frame
    order = [1, 2, 0]
    np.testing.assert_allclose(r, np.asarray(positions)[order], atol=atol)
    np.testing.assert_allclose(f, FORCES[order], atol=1e-5)
    assert energy * HARTREE == pytest.approx(E, rel=1e-7)
    for k in range(2):
        bond = (r[k] - r[2]) / np.linalg.norm(r[k] - r[2])
        assert f[k] @ bond == pytest.approx(-5.142, abs=1e-3) or positions is not WATER


def water(positions=WATER, forces=FORCES, energy=-10.0):
    atoms = Atoms(SYMBOLS, positions)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.asarray(forces))
    return atoms


def run(*arguments, exit_code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result
