# SPDX-License-Identifier: LGPL-3.0-or-later
"""Some seeds of each target of fuzz/, and what random input has found."""

import shutil

import helpers
import pytest
from c_library import LIBRARIES

FUZZ = helpers.TESTS / "fuzz"
COUNT = {"bindings": 180, "operators": 350, "commands": 60, "models": 60, "potentials": 400}
COUNT |= {"c_potentials": 400} if LIBRARIES else {}


@pytest.mark.parametrize("target", COUNT)
def test_some_seeds(target, trained, tmp_path):
    if target in ("models", "potentials"):
        (tmp_path / "models").mkdir()
        shutil.copytree(trained.directory / "system", tmp_path / "models" / "system")
        for model in (trained.model, trained.compressed, trained.single):
            shutil.copy(model, tmp_path / "models")
    arguments = [target, "--count", COUNT[target], "--directory", tmp_path]
    print(helpers.run_python([FUZZ / "run.py", *arguments], tmp_path))


OPERATORS = """
import numpy as np
import tensorflow as tf
from deepmd_mask.graph import ops

def huge(*shape, dtype=tf.float64):
    return tf.zeros(tf.constant(shape, tf.int64), dtype)

def embed(coord=np.arange(6.0)[None], slot=(0, 1), panels=((0.5, 0.5),), **changes):
    options = {"neuron": [3], "resnet_dt": False, "activation": "tanh", "net": [0], "n": 2.0}
    return ops.embed(
        coord=coord, slot=np.array(slot, np.int64), weight=np.ones(len(slot)),
        first=np.array([0, len(slot)], np.int64), series_first=np.array([0, 1], np.int64),
        panels=np.array(panels), c=np.ones((1, 16, 3)), parameters=[np.ones((1, 3)), np.ones(3)],
        **{**options, **changes})

def potential(neuron):
    return ops.potential(
        coord=np.zeros((1, 0)), slot=np.zeros(0, np.int64), weight=np.zeros(0),
        first=np.zeros(2, np.int64), series_first=np.zeros(1, np.int64), panels=np.zeros((0, 2)),
        c=np.zeros((0, 16, 3)), bias=np.zeros(1), parameters=[], fitting_parameters=[np.zeros(1)],
        neuron=neuron, resnet_dt=False, activation="tanh", net=[-1], n=1.0, M2=1,
        fitting_neuron=[], fitting_resnet_dt=False, fitting_activation="tanh")

def in_graph(**changes):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        return session.run(embed(**changes))

embed()
calls = {
    "a product of shapes": lambda: ops.contract(x=huge(0, 4, 2**62), y=huge(0, 4, 2**62), M2=7),
    "real atoms of many slots": lambda: ops.real_atoms(
        coord=huge(0, 3), type=huge(0, 2**62, dtype=tf.int32), mask=huge(0, 2**62), sizes=[0, 0],
        sel=[1]),
    "real atoms of many frames": lambda: ops.real_atoms(
        coord=huge(2**62, 0), type=huge(2**62, 0, dtype=tf.int32), mask=huge(2**62, 0),
        sizes=[0, 0], sel=[1] * 4),
    "frames by types": lambda: embed(coord=huge(2**62, 0), net=[0] * 4),
    "rows without columns": lambda: ops.energies(
        type_first=np.array([0, 2**62]), d=huge(2**62, 0), ntypes=1, neuron=[], resnet_dt=False,
        parameters=[np.zeros((0, 1)), np.zeros(1)], activation="tanh"),
    "a slot outside": lambda: embed(slot=[0, 2]),
    "a slot below": lambda: embed(slot=[-1, 0]),
    "a slot far away": lambda: embed(slot=[0, 2**40]),
    "a net below": lambda: embed(net=[-2]),
    "n": lambda: embed(n=np.inf),
    "a panel of no width": lambda: embed(panels=[(0.5, 0.0)]),
    "a panel of negative width": lambda: embed(panels=[(0.5, -0.5)]),
    "a panel that is no number": lambda: embed(panels=[(np.nan, 0.5)]),
    "widths": lambda: embed(neuron=[-3]),
    "widths, in a graph": lambda: in_graph(neuron=[-3]),
    "widths of a potential": lambda: potential([-(2**31), 4]),
    "no widths of a potential": lambda: potential([0]),
}
for name, call in calls.items():
    try:
        call()
        print(name, "PASSED")
    except (tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError, ValueError) as error:
        print(name, "refused:", str(error).splitlines()[0])
"""


def test_operators_refuse_what_took_the_process_down(tmp_path):
    output = helpers.run_python(["-c", OPERATORS], tmp_path, forked=True)
    refused = [line for line in output.splitlines() if " refused: " in line]
    assert len(refused) == OPERATORS.count("lambda: "), output
    assert "PASSED" not in output
