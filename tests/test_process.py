# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models after a fork: Potential evaluates; TensorFlow would wait, so that it is an error."""

import os
import select
import signal

import ase
import numpy as np
import pytest
from helpers import TYPE_MAP, run_python

from deepmd_mask import Potential
from deepmd_mask.ase import MaskedDP
from deepmd_mask.evaluation import evaluate


def in_forked_child(function):
    """Return what a function gives in a child, or the error that it raises; fail if it hangs."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # whatever happens, nothing of pytest may go on here
        try:
            text = str(function())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    try:
        assert select.select([reader], [], [], 60)[0], "the child hangs"
        return os.read(reader, 10_000).decode()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)


@pytest.fixture(scope="module")
def evaluations(trained):
    """Return ways to evaluate, loaded and used before the fork or loaded after it."""
    potential, calculator = Potential(trained.model, threads=2), MaskedDP(trained.model)
    types, positions = np.array([0, 1]), np.eye(3)[:2]
    atoms = ase.Atoms([TYPE_MAP[t].capitalize() for t in types], positions)

    def of_potential(potential=potential):
        return potential.evaluate(types, positions).forces.tobytes()

    def of_calculator():
        calculator.calculate(atoms)
        return calculator.results["forces"].tobytes()

    found = {
        "potential": of_potential,
        "calculator": of_calculator,
        "new potential": lambda: of_potential(Potential(trained.model)),
        "dp-mask test": lambda: evaluate(trained.model, trained.directory / "system").as_text(),
    }
    return {name: (evaluation, str(evaluation())) for name, evaluation in found.items()}


@pytest.mark.parametrize("name", ["potential", "calculator", "new potential", "dp-mask test"])
def test_forked_child_evaluates(evaluations, name):
    """With the bits of its parent, in which TensorFlow has a model, too."""
    evaluation, wanted = evaluations[name]
    assert in_forked_child(evaluation) == wanted
    assert str(evaluation()) == wanted


def test_forked_child_is_refused_by_deep_pot(trained):
    trained.evaluate()
    message = in_forked_child(trained.evaluate)
    assert message.startswith("RuntimeError: this process, ")
    assert f"was forked from process {os.getpid()}" in message
    assert 'multiprocessing.get_context("spawn")' in message


# In a process of its own, since in this one a model has been evaluated. ``use`` is all that the
# child does with what its parent has loaded.
LOADED = """
import sys
sys.path.insert(0, {tests!r})
import ase, numpy as np
from deepmd.calculator import DP
from deepmd.infer import DeepPot
from test_process import in_forked_child
model, positions, mask = sys.argv[1], np.eye(3)[:2], np.ones((1, 2))
{loaded}
print(in_forked_child(lambda: {use}))
"""
ATOMS = "ase.Atoms('CO', positions, info={'aparam': mask[0]}, calculator={calculator})"
CALCULATOR = "DP(model, type_dict={'C': 0, 'O': 1})"
POTENTIAL = "loaded = DeepPot(model)"


@pytest.mark.parametrize(
    ("loaded", "use"),
    [
        (POTENTIAL, "loaded.eval(positions.reshape(1, -1), None, [0, 1], aparam=mask)"),
        (f"loaded = {ATOMS.replace('{calculator}', CALCULATOR)}", "loaded.get_potential_energy()"),
        (POTENTIAL, "DeepPot(model)"),
    ],
    ids=["DeepPot", "DP", "another DeepPot"],
)
def test_loaded_but_not_used_before_the_fork(trained, tmp_path, loaded, use):
    script = LOADED.format(tests=os.path.dirname(__file__), loaded=loaded, use=use)
    output = run_python(["-c", script, trained.model], tmp_path, forked=True)
    assert "RuntimeError: this process, " in output
    assert 'multiprocessing.get_context("spawn")' in output
