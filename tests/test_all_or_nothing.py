# SPDX-License-Identifier: LGPL-3.0-or-later
"""Packing and unpacking that fail or are stopped leave nothing that looks complete."""

import itertools
import signal
import subprocess
import sys
import tracemalloc

import helpers
import pytest
from molecules import FRAMES, molecule, require_frames

from deepmd_mask.data import pack, unpack
from deepmd_mask.data import systems as reader

# Forces here are random.
pytestmark = pytest.mark.filterwarnings("ignore::deepmd_mask.data.balance.NetForceWarning")


def test_what_exists_stays(tmp_path):
    pack(FRAMES, tmp_path / "system")
    with pytest.raises(FileExistsError, match="exists"):
        pack(FRAMES[:1], tmp_path / "system")
    require_frames(tmp_path / "system", FRAMES)
    pack(FRAMES[:1], tmp_path / "system", overwrite=True)
    require_frames(tmp_path / "system", FRAMES[:1])
    pack(tmp_path / "system", tmp_path / "system", overwrite=True)  # onto its own source
    require_frames(tmp_path / "system", FRAMES[:1])
    (tmp_path / "system" / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match=r"thesis.tex"):
        pack(FRAMES, tmp_path / "system", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["system"]


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path):
    pack(FRAMES, tmp_path / "system")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileExistsError, match="is a folder"):
        unpack(tmp_path / "system", tmp_path / "folder", overwrite=True)
    with pytest.raises(ValueError, match="`systems` and `output` are both"):
        unpack(tmp_path / "system", tmp_path / "system", overwrite=True)
    for file in ("type.raw", "set.000/coord.npy"):
        with pytest.raises(FileExistsError, match="is a file of a system"):
            unpack(tmp_path / "system", tmp_path / "system" / file, overwrite=True)
    require_frames(tmp_path / "system", FRAMES)
    (tmp_path / "file").write_text("precious")
    with pytest.raises(FileExistsError, match="is a file"):
        pack(FRAMES, tmp_path / "file", overwrite=True)
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("overwrite", [False, True])
def test_interrupted_run_leaves_nothing(tmp_path, error, overwrite):
    def frames():
        yield from FRAMES
        raise error

    if overwrite:
        pack(FRAMES, tmp_path / "system")
    with pytest.raises(error):
        pack(frames(), tmp_path / "system", overwrite=overwrite)
    if overwrite:
        require_frames(tmp_path / "system", FRAMES)
    assert [path.name for path in tmp_path.iterdir()] == ["system"] * overwrite


KILLED = """
import os, signal, sys
from deepmd_mask.data import pack
from deepmd_mask.data.writer import SystemWriter
add, calls = SystemWriter.add, []
def add_or_die(*arguments):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    add(*arguments)
SystemWriter.add = add_or_die
pack(*sys.argv[1:3], set_size=1, validation=int(sys.argv[3]))
"""


@pytest.mark.parametrize("validation", [0, 1])
def test_killed_run_leaves_nothing_that_looks_complete(tmp_path, validation):
    pack(FRAMES, tmp_path / "source")
    command = [sys.executable, "-c", KILLED, tmp_path / "source", tmp_path / "out/system"]
    command.append(str(validation))
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == -signal.SIGKILL
    left = list((tmp_path / "out").iterdir())
    assert [path.name.startswith(".system.") for path in left] == [True]
    assert len(list(left[0].rglob("set.*"))) == 2, "it was killed too early to test anything"
    assert reader.systems_in(tmp_path / "out") == [str(tmp_path / "out")]  # none is in it
    pack(FRAMES, tmp_path / "out/system")
    require_frames(tmp_path / "out/system", FRAMES)


FULL = """
import resource, sys
from deepmd_mask.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
main(sys.argv[2:])
"""


@pytest.mark.parametrize("room", [0, 2000, 6000])
def test_full_disk(tmp_path, room):
    """No file can grow beyond the room: neither spool, nor arrays, nor extended XYZ."""
    pack(FRAMES * 40, tmp_path / "source")
    for command, name in {"pack": "system", "unpack": "frames.xyz"}.items():
        output = tmp_path / "out" / name
        arguments = [str(room), command, tmp_path / "source", "-o", output]
        # Of what it imports then, Python itself would leave half, for the next one to fail on.
        given = {"succeeds": False, "PYTHONDONTWRITEBYTECODE": "1"}
        message = helpers.run_python(["-c", FULL, *arguments], tmp_path, **given)
        assert f"File too large; nothing was left of the output: '{output}'" in message
        assert not list((tmp_path / "out").iterdir())


def test_output_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OSError, match="nothing was left"):
        pack(FRAMES, tmp_path / "file" / "system")
    assert (tmp_path / "file").read_text() == "precious"
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(OSError):
        pack(FRAMES, loop / "system")
    with pytest.raises(ValueError, match="not found"):
        pack(loop, tmp_path / "system")


def test_memory_does_not_grow_with_frames(tmp_path):
    """More than twice the frames, in one set, and little more memory."""
    atoms = molecule(["C"] * 600)
    peaks = []
    for nframes in (300, 700):
        tracemalloc.start()
        pack(itertools.repeat(atoms, nframes), tmp_path / str(nframes), set_size=10**6)
        pack(tmp_path / str(nframes), tmp_path / f"{nframes} again", set_size=10**6)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] + 20 * 400  # two numbers and a bit for each frame
