# SPDX-License-Identifier: LGPL-3.0-or-later
"""Lets what this process was started for run in a fork of forks.py; Python imports this at a start.

The fork has the arguments, environment, folder, limits and files of this process, which waits for
it and ends as it does. It is killed if this process is.
"""

import json
import os
import resource
import signal
import socket
import sys

RESOURCES = ("RLIMIT_CPU", "RLIMIT_AS", "RLIMIT_FSIZE")


def _continue_in_fork(address):
    request = {
        "arguments": sys.orig_argv[1:],
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": sys.path,
        "parent": os.getppid(),
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in RESOURCES},
    }
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"\0{address}")
        socket.send_fds(connection, [b"-"], [0, 1, 2])
        connection.sendall(json.dumps(request).encode())
        connection.shutdown(socket.SHUT_WR)
        status = int(connection.recv(16) or 1)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


# Only `python -c`, `-m` and a script, not what has other options or reads from stdin.
if len(sys.orig_argv) > 1 and (sys.orig_argv[1] in ("-c", "-m") or sys.orig_argv[1][0] != "-"):
    _continue_in_fork(os.environ["DPMASK_TEST_FORKS"])
