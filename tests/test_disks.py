# SPDX-License-Identifier: LGPL-3.0-or-later
"""Disks that are full, and processes that are killed: the old output is whole, or the new one is.

test_pack.py has more on pack and unpack.
"""

import os
import random
import signal
import subprocess
import sys
import time

import helpers
import numpy as np
import pytest
from click.testing import CliRunner

from deepmd_mask.cli import main

ROOM = "16k"


@pytest.fixture
def full_disk(tmp_path):
    """Mount a disk of a few pages, where that is allowed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


COMMANDS = {
    "model.pb": ["convert", "MODEL", "-o", "OUTPUT", "--builtin"],
    "frames.csv": ["test", "-m", "MODEL", "-s", "SYSTEM", "--csv", "OUTPUT"],
    "figure.png": ["test", "-m", "MODEL", "-s", "SYSTEM", "--plot", "OUTPUT"],
    "figure.pdf": ["test", "-m", "MODEL", "-s", "SYSTEM", "--plot", "OUTPUT"],
    "figure.svg": ["test", "-m", "MODEL", "-s", "SYSTEM", "--plot", "OUTPUT"],
    "frames.xyz": ["unpack", "SYSTEM", "-o", "OUTPUT"],
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("exists", [False, True])
def test_full_disk(trained, full_disk, name, exists):
    output = full_disk / name
    names = {"MODEL": trained.model, "SYSTEM": trained.directory / "system", "OUTPUT": output}
    arguments = [str(names.get(word, word)) for word in COMMANDS[name]]
    if exists:
        output.write_text("precious")
        arguments.append("--overwrite")
    with pytest.raises(OSError), open(full_disk / "filling", "wb", buffering=0) as filling:
        while True:
            filling.write(bytes(512))
    before = {path.name: path.read_bytes() for path in full_disk.iterdir()}
    done = CliRunner().invoke(main, arguments)
    assert {path.name: path.read_bytes() for path in full_disk.iterdir()} == before
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == 1
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("Error: ")
    assert "No space left on device; nothing was left of the output" in message
    assert str(output) in message


def test_a_device_is_no_output(trained, tmp_path):
    """As root one could else put a file in the place of /dev/null."""
    pipe = tmp_path / "pipe.xyz"
    os.mkfifo(pipe)
    system = str(trained.directory / "system")
    done = CliRunner().invoke(main, ["unpack", system, "-o", str(pipe), "--overwrite"])
    assert done.exit_code == 1
    assert "is no file that could be replaced" in done.stderr
    assert pipe.is_fifo()


OVERWRITE = """
import sys
from deepmd_mask.data import pack, unpack
print("ready", flush=True)
for k in range(100_000):
    pack(sys.argv[1 + k % 2], "system", overwrite=True)
    unpack(sys.argv[1 + k % 2], "frames.xyz", overwrite=True)
    if k == 1:
        print("ready", flush=True)
"""


def test_killed_at_any_moment(tmp_path):
    """What replaces a system or a file is either there or not, and is whole."""
    energies, texts = [], []
    for k in range(2):
        frames = helpers.random_frames(seed=k, nframes=3)
        system = helpers.write_system(tmp_path / f"source{k}", frames)
        energies.append(frames.energy)
        done = CliRunner().invoke(main, ["unpack", str(system), "-o", str(tmp_path / f"{k}.xyz")])
        assert done.exit_code == 0, done.output
        texts.append((tmp_path / f"{k}.xyz").read_text())
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", OVERWRITE, "source0", "source1"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
        )
        assert process.stdout.readline() == b"ready\n" == process.stdout.readline()
        time.sleep(random.Random(len(texts)).uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        found = np.load(tmp_path / "system" / "set.000" / "energy.npy")
        assert any(np.array_equal(found, wanted) for wanted in energies)
        assert (tmp_path / "system" / "type.raw").is_file()
        assert (tmp_path / "frames.xyz").read_text() in texts
