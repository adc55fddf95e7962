# SPDX-License-Identifier: LGPL-3.0-or-later
"""The potential among threads and processes: what it takes of memory, what it leaves behind."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import LIMITS, run_python

TESTS = Path(__file__).parent
is_sanitized = pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="sanitizers")
BEGIN = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
import numpy as np
from test_potential_kernel import Molecules, assert_same, kernels, potential_of, random_model

def frames(nreal, natoms=70, seed=1):
    molecules = Molecules(nreal, natoms, seed)
    return molecules.types, molecules.positions, molecules.weights
"""


def run_script(text, tmp_path, **environment):
    """Run a script in a process of its own; return what it printed."""
    script = tmp_path / "script.py"
    script.write_text(BEGIN + text)
    return run_python([script], tmp_path, **environment)


@pytest.fixture(scope="module")
def counter(tmp_path_factory):
    """Compile count_memory.c, and return the library."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no gcc")
    library = tmp_path_factory.mktemp("counter") / "count_memory.so"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    source = TESTS / "count_memory.c"
    subprocess.run([compiler, *flags, source, "-o", library, "-ldl"], check=True, **LIMITS)
    return library


@is_sanitized
@pytest.mark.parametrize("threads", [1, 3])
def test_repeated_evaluations_take_no_memory_and_begin_no_thread(threads, counter, tmp_path):
    """Nor do others of compositions that have been seen."""
    printed = run_script(
        f"""
import ctypes
counter = ctypes.CDLL({str(counter)!r})
counter.count_from_now_on()
models = [random_model(0), random_model(1, precision="float32", one_side=False)]
committee, near = potential_of(*models, threads={threads}), potential_of(
    random_model(2, min_distance=1e4, fitting_neuron=(32, 32)), threads={threads})
batches = [frames((60,)), frames((40, 50)), frames((3,))]

def evaluate(times):
    for _ in range(times):
        for batch in batches:
            for potential in (committee, near):
                for virial in (False, True):
                    potential.evaluate(*batch, virial)

evaluate(1)
assert counter.count_memories() > 0, "counts nothing"
assert counter.count_threads() == {2 * (threads - 1)}
# Each thread has memory of its own for what it meets first, which may be late on a busy machine.
calm, before = 0, counter.count_memories()
for _ in range(200):
    evaluate(5)
    now = counter.count_memories()
    calm, before = calm + 1 if now == before else 0, now
    if calm == 10:
        break
assert calm == 10, before
assert counter.count_threads() == {2 * (threads - 1)}
print("fine")
""",
        tmp_path,
        LD_PRELOAD=str(counter),
    )
    assert printed.endswith("fine\n")


def test_threads_sleep_after_evaluations(tmp_path):
    """Also after one that ends with an error."""
    printed = run_script(
        """
import os
import time
potential = potential_of(random_model(0), threads=3)
types, positions, weights = frames((60,))
bad = weights.copy()
bad[0, 1] = 0.5
awake, refused = 0, 0

def time_of_workers():
    threads = {int(name) for name in os.listdir("/proc/self/task")} - {os.getpid()}
    return sum(time.clock_gettime(~thread << 3 | 6) for thread in threads)  # its processor time

for given in 100 * [weights, bad]:
    try:
        potential.evaluate(types, positions, given)
    except kernels.AtomError:
        refused += 1
    before = time_of_workers()
    time.sleep(0.005)
    awake += time_of_workers() - before
# They look out for 50 microseconds after each; while an evaluation lasts, for a millisecond.
assert awake < 0.15, awake
print(refused)
""",
        tmp_path,
    )
    assert printed == "100\n"


def test_threads_of_python_get_the_same_bits(tmp_path):
    """And a bad molecule of one does not disturb the others."""
    run_script(
        """
import threading
potential = potential_of(random_model(0), random_model(1, one_side=False), threads=2)
batches = [frames((k + 20,), 40, k) for k in range(8)]
wanted = [potential.evaluate(*batch, True) for batch in batches]
bad = [array.copy() for array in batches[0]]
bad[2][0, 3] = 0.5
failures = []

def work(k):
    try:
        for _ in range(40):
            assert_same(potential.evaluate(*batches[k], True), wanted[k])
            try:
                potential.evaluate(*bad)
            except kernels.AtomError as error:
                assert error.fault.atom == 3
            else:
                raise AssertionError("no error")
    except BaseException as error:
        failures.append(error)

threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures
""",
        tmp_path,
    )


# AddressSanitizer's allocator, unlike that of glibc, stays locked in a process that is forked while
# another thread allocates.
@pytest.mark.parametrize("busy", [False, pytest.param(True, marks=is_sanitized)])
def test_forked_processes_get_the_same_bits(busy, tmp_path):
    """Forked while another thread evaluates, too, and without waiting for threads that are gone.

    A child ends by itself, with all that it inherited.
    """
    run_script(
        f"is_over = {not busy}"
        """
import os
import signal
import threading
potential = potential_of(random_model(0), random_model(1, one_side=False), threads=3)
unused = potential_of(random_model(2), threads=2)
batch = frames((60, 50))
wanted, of_unused = potential.evaluate(*batch, True), unused.evaluate(*frames((4,)))

def work():
    while not is_over:
        potential.evaluate(*batch)

thread = threading.Thread(target=work)
thread.start()
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        signal.alarm(600)
        status = 1
        try:
            for _ in range(5):
                assert_same(potential.evaluate(*batch, True), wanted)
            grandchild = os.fork()
            if grandchild == 0:
                assert_same(unused.evaluate(*frames((4,)))[:3], of_unused[:3])
            else:
                assert os.waitpid(grandchild, 0)[1] == 0
            del potential, unused
            status = 0
        finally:
            os._exit(status)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
is_over = True
thread.join()
assert_same(potential.evaluate(*batch, True), wanted)
""",
        tmp_path,
    )


def test_an_interpreter_that_ends_leaves_nothing_waiting(tmp_path):
    """With threads that evaluate, and with potentials that nobody has deleted."""
    run_script(
        """
import threading
import time
potential = potential_of(random_model(0), threads=3)
batch = frames((60, 50))

def work():
    while True:
        potential.evaluate(*batch)

for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
""",
        tmp_path,
    )


@is_sanitized
def test_memory_does_not_grow(tmp_path):
    """However often the composition changes."""
    run = [sys.executable, TESTS / "fuzz" / "evaluations.py", "--number", "4000"]
    done = subprocess.run(run, check=False, capture_output=True, text=True, **LIMITS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4000 evaluations" in done.stdout
