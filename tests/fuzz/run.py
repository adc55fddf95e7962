# SPDX-License-Identifier: LGPL-3.0-or-later
"""Runs a target on many random inputs in second processes, and tells which seeds it fails on.

A target is a module beside this one with a function ``attempt(seed)``. It returns what became of
the input, as "refused", and raises whatever must not happen. A process that dies or hangs is
laid to the seed that it was at, and another one goes on behind it. README.md has more.
"""

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOM = 4 << 30  # bytes that a process may take beyond what its libraries have when they are loaded
PATIENCE = 60  # seconds of the processor for one input
WAITING = 20  # times as long may pass where the processor has other things to do
BATCH = 5000  # inputs of a process, so that what libraries keep does not add up


def attempt_all(target: str, seeds: range, log: Path) -> None:
    """Try seeds in this process, and write a line to the log before and after each."""
    module = importlib.import_module(target)
    attempt = module.attempt
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    room = pages * resource.getpagesize() + getattr(module, "ROOM", ROOM)
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    with open(log, "ab", buffering=0) as lines:
        for seed in seeds:
            lines.write(f"{seed}\t".encode())
            try:
                outcome = attempt(seed)
            except BaseException as error:  # pytest's own are no Exception
                outcome = f"FAILED {type(error).__name__}: {str(error)[:500]!r}"
            lines.write(f"{outcome}\n".encode())


def run(target: str, seeds: range, directory: Path) -> tuple[Counter, dict[int, str]]:
    """Try seeds in second processes, one after the other.

    Parameters
    ----------
    target
        Name of a module beside this one.
    seeds
        To try.
    directory
        In which to leave the log, and for files of the target.

    Returns
    -------
    Counter
        How many inputs had each outcome.
    dict
        By seed, what must not happen but did.
    """
    outcomes, failures = Counter(), {}
    directory.mkdir(parents=True, exist_ok=True)
    todo, batch = seeds, 0
    while todo:
        log = directory / f"{target}.{seeds.start}.{batch}.log"
        batch += 1
        log.unlink(missing_ok=True)
        end = _watch(target, todo[:BATCH], log)
        lines = log.read_text(encoding="utf-8").split("\n") if log.exists() else [""]
        done = dict(line.split("\t", 1) for line in lines if "\t" in line)
        if not done:
            raise RuntimeError(f"{target} cannot be started: {end}")
        last = int(list(done)[-1])
        if done[str(last)] == "":
            done[str(last)] = f"FAILED {end}"
        for seed, outcome in done.items():
            outcomes[outcome if not outcome.startswith("FAILED") else "failed"] += 1
            if outcome.startswith("FAILED"):
                failures[int(seed)] = outcome
        todo = range(last + 1, seeds.stop)
    return outcomes, failures


def _watch(target: str, seeds: range, log: Path) -> str:
    """Run a process to its end or kill it when it hangs; return how it ended."""
    command = [sys.executable, __file__, target, f"--within={log}"]
    command += [f"--first={seeds.start}", f"--count={len(seeds)}"]
    errors = log.with_suffix(".stderr")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with open(errors, "w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, cwd=log.parent, env=environment
        )
        size, since, used = -1, 0.0, 0.0
        while process.poll() is None:
            time.sleep(0.2)
            now = log.stat().st_size if log.exists() else 0
            if now != size:
                size, since, used = now, time.monotonic(), _processor_seconds(process.pid)
            elif (
                _processor_seconds(process.pid) - used > PATIENCE
                or time.monotonic() - since > PATIENCE * WAITING
            ):
                process.kill()
                process.wait()
                return f"it hung for {PATIENCE} s"
    with open(errors, "rb") as output:
        output.seek(max(0, errors.stat().st_size - 3000))
        tail = output.read().decode(errors="replace").strip().splitlines()[-4:]
    return f"exit status {process.returncode}: {tail}"


def _processor_seconds(pid: int) -> float:
    """Return what a process has used; 0 if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Parse arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", help="name of a module beside this script: operators, ...")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--count", type=int, default=1000, help="number of seeds")
    parser.add_argument("--directory", type=Path, help="for logs; default: a new one")
    parser.add_argument("--within", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.count)
    if options.within:
        sys.path[:] = [HERE, HERE.parent, *(p for p in sys.path if p and Path(p) != HERE)]
        sys.path[:] = [str(entry) for entry in sys.path]
        attempt_all(options.target, seeds, options.within)
        return
    directory = options.directory or Path(tempfile.mkdtemp(prefix="fuzz-"))
    outcomes, failures = run(options.target, seeds, directory.resolve())
    print(json.dumps({"target": options.target, "outcomes": dict(outcomes.most_common())}))
    for seed, failure in failures.items():
        print(f"seed {seed}: {failure}")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
