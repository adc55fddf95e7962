# SPDX-License-Identifier: LGPL-3.0-or-later
"""From systems back to frames: what was packed comes back as it was."""

import ase.io
import ase.units
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from molecules import FRAMES, molecule, same_files

from deepmd_mask.data import pack, unpack

# Forces here are random.
pytestmark = pytest.mark.filterwarnings("ignore::deepmd_mask.data.balance.NetForceWarning")


@st.composite
def frames_and_precision(draw):
    width = draw(st.sampled_from([32, 64]))
    finite = st.floats(allow_nan=False, allow_infinity=False, width=width)
    frames = []
    for seed in range(draw(st.integers(1, 6))):
        symbols = draw(st.lists(st.sampled_from(["H", "C", "Zn"]), max_size=7))
        atoms = molecule(symbols, seed, draw(st.floats(allow_nan=False, allow_infinity=False)))
        atoms.calc.results["forces"] = draw(
            arrays(f"f{width // 8}", (len(symbols), 3), elements=finite)
        )
        weights = arrays(
            float, len(symbols), elements=st.floats(0, 2.0**99, allow_subnormal=False, width=width)
        )
        atoms.set_array("atom_pref", draw(weights))
        frames.append(atoms)
    assume(any(len(atoms) for atoms in frames))
    return frames, f"float{width}"


@settings(max_examples=60, deadline=None)
@given(frames_and_precision(), st.integers(1, 4))
def test_there_and_back_is_the_identity(tmp_path_factory, drawn, set_size):
    frames, precision = drawn
    directory = tmp_path_factory.mktemp("round trip é")
    options = {
        "type_map": ["C", "H", "ZN"],
        "preference": "array:atom_pref",
        "precision": precision,
        "set_size": set_size,
    }
    packed = pack(frames, directory / "one", **options)
    assert unpack(directory / "one", directory / "frames.xyz") == len(frames)
    pack(directory / "frames.xyz", directory / "two", **options)
    same_files(directory / "one", directory / "two")
    pack(directory / "one", directory / "three", **options)
    same_files(directory / "one", directory / "three")
    images = ase.io.read(directory / "frames.xyz", ":")
    assert [len(atoms) for atoms in images] == [len(atoms) for atoms in frames]
    assert sum(packed.sel) >= max(map(len, frames))


def test_unpack_several(tmp_path):
    pack(FRAMES, tmp_path / "data", validation=1)
    assert unpack([tmp_path / "data"], tmp_path / "all.xyz") == 3
    images = ase.io.read(tmp_path / "all.xyz", ":")
    energies = [atoms.get_potential_energy() for atoms in images]
    assert sorted(energies) == [-12.0, -11.0, -10.0]
    assert "atom_pref" in images[0].arrays


def test_unpack_refuses(tmp_path):
    pack(FRAMES, tmp_path / "a")
    with pytest.raises(ValueError, match="not found"):
        unpack(tmp_path / "nowhere", tmp_path / "b.xyz")
    for name in ("b.traj", "b.xyz.gz"):  # whose readers would not find what is meant
        with pytest.raises(ValueError, match=rf"{name}: the suffix must be .xyz or .extxyz"):
            unpack(tmp_path / "a", tmp_path / name)
    (tmp_path / "b.xyz").write_text("precious")
    with pytest.raises(FileExistsError, match="exists"):
        unpack(tmp_path / "a", tmp_path / "b.xyz")
    assert (tmp_path / "b.xyz").read_text() == "precious"
    unpack(tmp_path / "a", tmp_path / "b.xyz", overwrite=True)
    assert (tmp_path / "b.xyz").read_text().startswith("4\n")
    np.save(tmp_path / "a/set.000/aparam.npy", np.full((3, 16), 0.5))
    with pytest.raises(ValueError, match=r"frame 0, atom 0: mask value 0.5"):
        unpack(tmp_path / "a", tmp_path / "c.xyz")
    (tmp_path / "a/type_map.raw").write_text("H\nOW\nS\nZn\n")
    with pytest.raises(ValueError, match="OW is no element"):
        unpack(tmp_path / "a", tmp_path / "c.xyz")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b.xyz"}
