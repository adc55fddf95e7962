# SPDX-License-Identifier: LGPL-3.0-or-later
"""A Slurm of one machine, with all it needs in a folder."""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress

NEEDED = ("sbatch", "squeue", "sinfo", "slurmctld", "slurmd", "munged")

# Ports of its own, and a munge of its own: nothing of the machine's is touched.
CONFIGURATION = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def why_not():
    """Return what is missing to run one; "" if nothing is."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [name for name in NEEDED if shutil.which(name, path=path) is None]
    if missing:
        return f"{' '.join(missing)} not found: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "only root starts Slurm"


@contextmanager
def running(folder):
    """Start the daemons, yield the environment that finds them, and end them by their files."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    values = {"controller": _free_port(), "node": _free_port(), "cpus": os.cpu_count()}
    text = CONFIGURATION.format(host=socket.gethostname().split(".")[0], folder=folder, **values)
    (folder / "slurm.conf").write_text(text)
    environment = {
        **os.environ,
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
    }
    munge = {"key-file": key, "socket": folder / "munge.socket", "log-file": folder / "munged.log"}
    munge |= {"pid-file": folder / "munged.pid", "seed-file": folder / "munged.seed"}
    try:
        _start(["munged", "--force", *(f"--{k}={v}" for k, v in munge.items())], environment)
        _start(["slurmctld"], environment)
        _start(["slurmd"], environment)
        _wait_for_idle(environment, folder)
        yield environment
    finally:
        for name in ("slurmd", "slurmctld", "munged"):
            _end(folder / f"{name}.pid")


def _free_port():
    with socket.socket() as found:
        found.bind(("", 0))
        return found.getsockname()[1]


def _start(command, environment):
    subprocess.run(command, env=environment, check=True, timeout=60)


def _wait_for_idle(environment, folder):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.stdout.strip() == "idle":
            return
        time.sleep(0.2)
    raise TimeoutError((folder / "slurmctld.log").read_text()[-2000:])


def _end(file):
    with suppress(FileNotFoundError, ProcessLookupError, ValueError):
        number = int(file.read_text())
        os.kill(number, signal.SIGTERM)
        for _ in range(100):
            os.kill(number, 0)
            time.sleep(0.05)
