# SPDX-License-Identifier: LGPL-3.0-or-later
"""Damaged files: pack, unpack and check refuse them with a message, or what they make is sound.

More cases: pytest tests/test_fuzz_data.py --hypothesis-seed=1, with DPMASK_TEST_EXAMPLES=100000.
"""

import json
import os

import helpers
import numpy as np
import outputs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmd_mask import data

EXAMPLES = int(os.environ.get("DPMASK_TEST_EXAMPLES", "100"))
MANY = settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES == 100)
SEEDS = st.integers(0, 2**32 - 1)

# What a line may become besides: labels and words of several formats.
LINES = (
    b"", b"3", b"-1", b"nan", b"1e400", b"\xff\xfe", b"H 0 0 0 0 0 0", b" Input orientation:",
    b" Standard orientation:", b" SCF Done:  E(R) = ", b"FINAL SINGLE POINT ENERGY", b"# force",
    b"CARTESIAN GRADIENT", b"Properties=species:S:1:pos:R:3", b"energy-unit=", b"units=5",
)  # fmt: skip


def corrupt(rng, data):
    """Return bytes of which some are cut off, changed, or lines replaced, swapped or doubled."""
    way = rng.integers(5)
    if way == 0 or not data:
        return data[: rng.integers(len(data) + 1)]
    if way == 1:
        changed = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            changed[rng.integers(len(data))] = rng.integers(256)
        return bytes(changed)
    lines = data.split(b"\n")
    one, other = rng.integers(len(lines), size=2)
    if way == 2:
        lines[one] = LINES[rng.integers(len(LINES))]
    elif way == 3:
        lines[one], lines[other] = lines[other], lines[one]
    else:
        lines.insert(one, lines[other])
    return b"\n".join(lines)


def require_system(path, tmp_path):
    """Require that a system is in order, and that it stays the same there and back."""
    assert data.check(path, external_field=True).errors == 0
    data.unpack(path, tmp_path / "back.xyz", overwrite=True)
    types = (path / "type_map.raw").read_text().split()
    options = {"type_map": types, "preference": "array:atom_pref", "overwrite": True}
    data.pack(tmp_path / "back.xyz", tmp_path / "back", external_field=True, **options)
    for file in path.glob("set.000/*.npy"):
        assert file.read_bytes() == (tmp_path / "back/set.000" / file.name).read_bytes(), file


ORIGINALS = {
    "a.xyz": "".join(outputs.extxyz(header, forces=outputs.FORCES) for header in ("", "a=b")),
    "units.xyz": outputs.extxyz("energy-unit=hartree force-unit=hartree/bohr"),
    "orca.out": outputs.OPTIMISATION,
    "gaussian.log": outputs.gaussian(outputs.INPUT, outputs.STANDARD),
    "gaussian/log:g.log": outputs.gaussian(outputs.INPUT, outputs.STANDARD),
    "psi4/out:psi4.out": outputs.psi4(),
    "qchem.out": outputs.qchem(),
    "extxyz:any": outputs.extxyz("", forces=outputs.FORCES),
}


@MANY
@given(SEEDS, st.sampled_from(list(ORIGINALS)), st.booleans())
@pytest.mark.filterwarnings("ignore")
def test_corrupt_sources(tmp_path_factory, seed, source, skip_incomplete):
    """A file is refused with its name, or packed to what is in order."""
    rng, tmp_path = np.random.default_rng(seed), tmp_path_factory.mktemp("fuzz")
    file_format, _, name = source.rpartition(":")
    content = ORIGINALS[source].encode()
    for _ in range(rng.integers(1, 4)):
        content = corrupt(rng, content)
    (tmp_path / name).write_bytes(content)
    path = f"{file_format}:{tmp_path / name}" if file_format else tmp_path / name
    try:
        data.pack(path, tmp_path / "out", skip_incomplete=skip_incomplete)
    except ValueError as error:
        assert f"source {tmp_path / name}" in str(error) or "no frame" in str(error)
        assert not (tmp_path / "out").exists()
    else:
        require_system(tmp_path / "out", tmp_path)


@MANY
@given(SEEDS)
@pytest.mark.filterwarnings("ignore")
def test_corrupt_systems(tmp_path_factory, seed):
    """Check tells what is wrong, and unpack refuses just that; neither fails."""
    rng, tmp_path = np.random.default_rng(seed), tmp_path_factory.mktemp("fuzz")
    system = helpers.write_system(tmp_path / "a", helpers.random_frames(seed, nframes=3))
    files = sorted(path for path in system.rglob("*") if path.is_file())
    for _ in range(rng.integers(1, 3)):
        file = files[rng.integers(len(files))]
        if file.is_file() and rng.integers(8):
            file.write_bytes(corrupt(rng, file.read_bytes()))
        else:
            file.unlink(missing_ok=True)
    checked = data.check(system)
    assert checked.as_text()
    assert json.loads(checked.as_json())
    for call in (data.pack, data.unpack):
        output = tmp_path / call.__name__
        try:
            call(system, output)
        except ValueError as error:
            assert "system" in str(error) or "source" in str(error)
            assert not output.exists()
