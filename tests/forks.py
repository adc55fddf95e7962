# SPDX-License-Identifier: LGPL-3.0-or-later
"""Processes that begin with what is long to import: forks of one that has done nothing else.

For tests of what a process does, not of how it starts. DeePMD-kit, this package and what has OpenMP
read their environment when they are imported, and are not there before the fork. TensorFlow is,
which takes three quarters of the time; it has started nothing yet.
"""

import atexit
import gc
import json
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from contextlib import suppress
from functools import cache
from importlib import import_module, invalidate_caches
from pathlib import Path
from types import ModuleType

FORKING = Path(__file__).parent / "forking"
IMPORTED = (
    *("tensorflow", "h5py", "scipy.optimize", "scipy.spatial.distance", "ase.io", "ase.build"),
    *("matplotlib.figure", "dargs", "yaml", "click", "tqdm", "wcmatch.glob", "google.protobuf"),
    *("openmm.app", "array_api_compat.numpy"),
)


@cache
def environment():
    """Return the variables with which Python's processes are forks; begins the one they are of.

    None where TensorFlow has an emulated GPU from its start: not all have one.
    """
    if "TF_PLUGGABLE_DEVICE_LIBRARY_PATH" in os.environ:
        return {}
    address = f"deepmd-mask-tests-{os.getpid()}"
    server = subprocess.Popen(
        [sys.executable, __file__, address],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def end():
        server.stdin.close()
        server.wait()  # so that what it has computed counts

    atexit.register(end)
    assert server.stdout.readline() == b"ready\n"
    path = [str(FORKING), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"DPMASK_TEST_FORKS": address, "PYTHONPATH": os.pathsep.join(path)}


def serve(address):
    """Fork for each connection, until stdin ends; return in a fork what it is to do."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"\0{address}")  # no file
    listening.listen(64)
    os.write(1, b"ready\n")
    while True:
        ready, _, _ = select.select([listening, 0], [], [], 1)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # so that what they computed counts
                pass
        if 0 in ready:
            os._exit(0)
        if listening in ready:
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                return watch(connection)
            connection.close()


def watch(connection):
    """Fork once more and return there what to do; here, end when that one or its client does."""
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as file:
        request = json.loads(file.read())
    child = os.fork()
    if child == 0:
        connection.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        return request
    for number in (0, 1, 2, *files):
        os.close(number)
    ended = os.pidfd_open(child)
    events = select.poll()
    events.register(ended, select.POLLIN)
    events.register(connection, select.POLLHUP)
    if all(file != ended for file, _ in events.poll()):
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(BrokenPipeError):
        connection.sendall(str(status).encode())
    os._exit(0)


def become(request):
    """Be the process that the request describes, but for what it runs."""
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    number, parent_of_this = os.getpid(), os.getppid
    os.getppid = lambda: request["parent"] if os.getpid() == number else parent_of_this()
    for name, limit in request["limits"].items():
        resource.setrlimit(getattr(resource, name), limit)
    kind, *rest = request["arguments"]
    sys.argv = ["-c", *rest[1:]] if kind == "-c" else rest if kind == "-m" else [kind, *rest]
    first = {"-c": "", "-m": os.getcwd()}.get(kind, os.path.dirname(os.path.realpath(kind)))
    sys.path[:] = [first, *request["path"]]
    sys.orig_argv[1:] = request["arguments"]
    invalidate_caches()


def run(kind, what=None, *_):
    """Run what Python would with such arguments."""
    if kind == "-c":
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), vars(main))
    elif kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(kind, run_name="__main__")


def status_of(arguments):
    """Run what Python would, and return its exit status."""
    try:
        run(*arguments)
    except SystemExit as exit:
        if exit.code is None or isinstance(exit.code, int):
            return (exit.code or 0) & 0xFF
        print(exit.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    for name in IMPORTED:
        with suppress(ImportError):  # not all is installed everywhere
            import_module(name)
    gc.freeze()  # or each fork would copy all that it only looks through
    request = serve(sys.argv[1])
    become(request)
    status = status_of(request["arguments"])
    # What Python does at its end, but for taking apart all modules, which takes seconds.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
