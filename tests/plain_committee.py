# SPDX-License-Identifier: LGPL-3.0-or-later
"""Four models that differ, without TensorFlow, and what they are in OpenMM, by definition."""

import csv

import numpy as np
import pytest
from md import solvate
from plain_models import random_nets, write_model

from deepmd_mask import Potential

TYPE_MAP = ["C", "O", "ZN", "H"]
SHAPE = {"neuron": [6, 12], "M2": 4, "fitting_neuron": [12]}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return paths of four models of one type map."""
    folder = tmp_path_factory.mktemp("models")
    nets = {f"{k}.pb": random_nets(4, seed=k, **SHAPE) for k in range(4)}
    # As large forces as water has, in eV/Å, so that models differ by much of them.
    for one in nets.values():
        one["fitting_parameters"] = [60 * p if p.shape[-1:] == (1,) else p
                                     for p in one["fitting_parameters"]]  # fmt: skip
    return [write_model(folder / name, one, TYPE_MAP) for name, one in nets.items()]


@pytest.fixture(scope="module")
def solvated():
    return solvate(30)


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def of_definition(models, solvated, atoms, positions):
    """Return the deviation of each atom of a region, from models that are evaluated alone."""
    types = [TYPE_MAP.index(a.element.symbol.upper()) for a in solvated.topology.atoms()]
    r = 10 * (positions[atoms] - positions[0])
    box = 10 * solvated.box.diagonal()
    first = atoms - (atoms > 0) * ((atoms - 1) % 2)  # of each molecule
    r_first = 10 * (positions[first] - positions[0])
    r -= np.rint(r_first / box) * box
    r -= np.rint((r - r_first + np.rint(r_first / box) * box) / box) * box
    forces = [Potential(m, "cpu").evaluate(np.array(types)[atoms], r).forces for m in models]
    return np.sqrt(((forces - np.mean(forces, axis=0)) ** 2).sum(axis=2).mean(axis=0))
