# SPDX-License-Identifier: LGPL-3.0-or-later
"""Train the models that are measured, where they have not been: python benchmarks/models.py.

Each has a folder in build/, with frozen.pb, compressed.pb, the checkpoint model.ckpt and
training.json: how many steps on how many threads, and how long they took. A masked model also has
builtin.pb, the same on the built-in's operators. The data are those of examples/zinc_protein. The
peer is se_atten of DeePMD-kit without attention, which knows no mask, trained for the same time as
the example's own model.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from frames import DATA, frames_of, write_mixed
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
MASKED = ("one-sided", "two-sided")
PEER = "se_atten"
MEASURED_STEPS = 60  # of the peer, to tell how many go into the time
LINES_OF_LOG = 30

# Of every embedded pair of the peer: all atoms of a frame are neighbours, as behind a mask. The
# most distant in the data are 22.1 Å apart.
RCUT, RCUT_SMTH = 23.0, 22.5
MOST_NEIGHBOURS = 130


def masked_input(net: str) -> dict:
    """Return the input of a masked model: the example's own, or a two-sided, larger one."""
    jdata = json.loads((DATA.parent / "input.json").read_text())
    if net == "two-sided":
        jdata["model"]["descriptor"] |= {
            "neuron": [25, 50, 100],
            "axis_neuron": 16,
            "type_one_side": False,
        }
        jdata["model"]["fitting_net"]["neuron"] = [240, 240, 240]
        jdata["learning_rate"]["decay_steps"] = 50
        jdata["training"]["numb_steps"] = 5000
    return jdata


def peer_input(systems: list[Path], steps: int) -> dict:
    """Return the input of the peer: nets of the same shapes, loss and rates."""
    jdata = masked_input("one-sided")
    own = jdata["model"]["descriptor"]
    jdata["model"]["descriptor"] = {
        "type": "se_atten",
        "sel": MOST_NEIGHBOURS,
        "rcut": RCUT,
        "rcut_smth": RCUT_SMTH,
        "attn_layer": 0,
        "tebd_input_mode": "strip",  # the only one that dp compress takes
        **{key: own[key] for key in ("neuron", "axis_neuron", "resnet_dt", "seed")},
    }
    for key in ("numb_aparam", "use_aparam_as_mask"):
        del jdata["model"]["fitting_net"][key]
    training, rate = jdata["training"], jdata["learning_rate"]
    del training["validation_data"]
    training["training_data"]["systems"] = list(map(str, systems))
    training["training_data"]["auto_prob"] = "prob_sys_size"
    rate["decay_steps"] = max(1, rate["decay_steps"] * steps // training["numb_steps"])
    training["numb_steps"] = steps
    training["disp_freq"] = min(training["disp_freq"], steps // 3)
    return jdata


def threads_in_environment(threads: int) -> dict[str, str]:
    """Return the environment of a process that computes on so many threads."""
    count = str(threads)
    return {
        **os.environ,
        "OMP_NUM_THREADS": count,
        "DP_INTRA_OP_PARALLELISM_THREADS": count,
        "DP_INTER_OP_PARALLELISM_THREADS": count,
    }


def call(
    folder: Path, *command: str, threads: int = 1, watch: Callable[[], None] = lambda: None
) -> None:
    """Run dp or dp-mask in a folder; what it prints goes to log.txt there."""
    log = folder / "log.txt"
    program = [Path(sys.executable).with_name(command[0]), *command[1:]]
    environment = threads_in_environment(threads)
    with log.open("a") as out:
        process = subprocess.Popen(program, cwd=folder, stdout=out, stderr=out, env=environment)
        while process.poll() is None:
            time.sleep(0.2)
            watch()
    if process.returncode != 0:
        tail = log.read_text(errors="replace").splitlines()[-LINES_OF_LOG:]
        raise RuntimeError("\n".join([f"{' '.join(command)} failed", *tail]))


def train(folder: Path, jdata: dict, name: str, threads: int) -> float:
    """Run dp train, with a progress bar. Returns the seconds that it took."""
    (folder / "input.json").write_text(json.dumps(jdata, indent=1))
    curve = folder / jdata["training"]["disp_file"]
    start = time.monotonic()
    with tqdm(total=jdata["training"]["numb_steps"], desc=f"training {name}") as bar:

        def watch() -> None:
            lines = curve.read_text().splitlines() if curve.exists() else []
            if lines and lines[-1].split()[0].isdigit():
                bar.update(int(lines[-1].split()[0]) - bar.n)

        call(folder, "dp", "train", "input.json", threads=threads, watch=watch)
        watch()
    return time.monotonic() - start


def make_masked(folder: Path, net: str, threads: int) -> dict:
    """Train a masked model and write it in all its forms."""
    jdata = masked_input(net)
    (folder / "data").symlink_to(DATA)
    seconds = train(folder, jdata, net, threads)
    call(folder, "dp", "freeze", "-o", "frozen.pb")
    call(folder, "dp", "compress", "-i", "frozen.pb", "-o", "compressed.pb")
    call(folder, "dp-mask", "convert", "frozen.pb", "-o", "builtin.pb", "--builtin")
    return {"seconds": seconds, "steps": jdata["training"]["numb_steps"], "threads": threads}


def make_peer(folder: Path, threads: int) -> dict:
    """Train the peer for the time that the example's own model took, and compress it."""
    wanted = training_of("one-sided")
    systems = write_mixed(folder / "data", frames_of("train"))
    train(folder, peer_input(systems, MEASURED_STEPS), f"{PEER}, to see how fast", threads)
    log = (folder / "log.txt").read_text()
    step = float(re.search(r"average training time: (\S+) s/batch", log).group(1))
    shutil.rmtree(folder)
    systems = write_mixed(folder / "data", frames_of("train"))
    steps = round(wanted["seconds"] / step)
    seconds = train(folder, peer_input(systems, steps), PEER, threads)
    call(folder, "dp", "freeze", "-o", "frozen.pb")
    call(folder, "dp", "compress", "-i", "frozen.pb", "-o", "compressed.pb", "-t", "input.json")
    return {"seconds": seconds, "steps": steps, "threads": threads}


def training_of(name: str) -> dict:
    """Return training.json of a model."""
    return json.loads((BUILD / name / "training.json").read_text())


def make(names: list[str]) -> None:
    """Train those models that are absent, on all cores. A folder appears when it is whole."""
    threads = os.cpu_count() or 1
    for name in names:
        if (BUILD / name / "training.json").exists():
            continue
        folder = BUILD / f"{name}.partial"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if name == PEER:
            make(["one-sided"])
            found = make_peer(folder, threads)
        else:
            found = make_masked(folder, name, threads)
        (folder / "training.json").write_text(json.dumps(found))
        shutil.rmtree(BUILD / name, ignore_errors=True)
        folder.rename(BUILD / name)
        print(f"{name}: {found['steps']} steps in {found['seconds']:.0f} s")


if __name__ == "__main__":
    make([*MASKED, PEER])
