# SPDX-License-Identifier: LGPL-3.0-or-later
"""Against the built-in se_a_mask, which runs in a second process with DP_MASK=builtin.

For each choice of options both start from one model, frozen by the plugin after one step.
The built-in needs as many slots as sum(sel), and takes one frame at a time.
"""

from concurrent.futures import ThreadPoolExecutor

import helpers
import jobs
import numpy as np
import pytest

SEL = (4, 3)
TYPE_MAP = helpers.TYPE_MAP[:2]
STEPS = 10
# Forces and energies, relative to the largest.
TOLERANCE = {"float64": 1e-10, "float32": 2e-5}
# Parameters after ten steps, relative to the largest of each tensor. In float32 a gradient is
# known to about 1e-6 of the largest, and where it is no larger than that, Adam, which divides by
# its size, still makes a full step of 2e-3, in one direction or the other.
PARAMETER_TOLERANCE = {"float64": 1e-6, "float32": 2e-3}


def options(one_side, resnet_dt, exclude, activation, neuron, precision="float64"):
    return {
        "descriptor": {
            "type_one_side": one_side,
            "resnet_dt": resnet_dt,
            "exclude_types": exclude,
            "activation_function": activation,
            "neuron": neuron,
            "precision": precision,
        },
        "fitting_net": {"precision": precision, "resnet_dt": resnet_dt},
    }


GRID = {
    "one-plain-tanh": options(True, False, [], "tanh", [5, 10, 10]),
    "one-dt-gelu": options(True, True, [], "gelu", [3, 6, 6, 9]),
    "one-excluded-softplus": options(True, False, [[0, 1]], "softplus", [7, 14]),
    "one-dt-excluded-tanh": options(True, True, [[1, 1]], "tanh", [5, 10, 10]),
    "two-plain-gelu": options(False, False, [], "gelu", [7, 14]),
    "two-dt-softplus": options(False, True, [], "softplus", [5, 10, 10]),
    "two-excluded-tanh": options(False, False, [[0, 0]], "tanh", [3, 6, 6, 9]),
    "two-dt-excluded-gelu": options(False, True, [[0, 1]], "gelu", [5, 10]),
    "one-dt-tanh-float32": options(True, True, [], "tanh", [5, 10, 10], "float32"),
    "one-softplus-float32": options(True, False, [[0, 0]], "softplus", [7, 14], "float32"),
    "two-gelu-float32": options(False, False, [[0, 1]], "gelu", [3, 6, 6], "float32"),
}
FROZEN = "frozen.pb"


def train_and_freeze(directory, *start, steps=STEPS):
    """Return the jobs, after the input of that name has been written."""
    return [
        [directory, "train", f"input{steps}.json", *start],
        [directory, "freeze", "-o", FROZEN],
    ]


class Grid:
    """Directories of all runs: start, plugin and both of the built-in, for each choice."""

    def __init__(self, root):
        self.root = root
        self.frames = helpers.random_frames(slots=SEL, nframes=3)
        self.system = helpers.write_system(root / "system", self.frames, TYPE_MAP)
        for choice, chosen in GRID.items():
            for run in ("start", "same", "plugin", "builtin"):
                for steps in (0, 1, STEPS):
                    helpers.write_input(
                        root / choice / run, self.input(chosen, steps), f"input{steps}.json"
                    )

    def input(self, chosen, steps):
        return helpers.make_input(
            [self.system], steps=steps, sel=SEL, model={"type_map": TYPE_MAP},
            training={"disp_freq": 100}, **chosen,
        )  # fmt: skip

    def start_of(self, choice):
        return self.root / choice / "start" / FROZEN

    def make(self):
        """Run everything, the built-in beside the plugin."""
        jobs.run([j for c in GRID for j in train_and_freeze(self.root / c / "start", steps=1)])
        with ThreadPoolExecutor() as pool:
            builtin = pool.submit(helpers.run_jobs, self.of_builtin(), self.root, builtin=True)
            jobs.run([j for c in GRID for j in self.from_start(c, "plugin")])
            builtin.result()
        return self

    def of_builtin(self):
        same = [j for c in GRID for j in self.from_start(c, "same", steps=0)]
        evaluate = [[self.root / c / "same", "eval", FROZEN, self.system] for c in GRID]
        return [*same, *evaluate, *(j for c in GRID for j in self.from_start(c, "builtin"))]

    def from_start(self, choice, run, steps=STEPS):
        start = ["--init-frz-model", self.start_of(choice)]
        return train_and_freeze(self.root / choice / run, *map(str, start), steps=steps)

    def evaluate(self, model):
        return jobs.evaluate(model, self.frames.coord, self.frames.types, self.frames.mask)

    def parameters(self, choice, run):
        return helpers.parameters(self.root / choice / run / FROZEN)

    def of_builtin_evaluated(self, choice):
        with np.load(self.root / choice / "same" / f"{FROZEN}.npz") as found:
            return dict(found)


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    return Grid(tmp_path_factory.mktemp("builtin")).make()


def precision_of(choice):
    return GRID[choice]["descriptor"]["precision"]


def assert_agree(found, wanted, tolerance):
    """Within the tolerance times the largest number wanted."""
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def assert_parameters_agree(found, wanted, tolerance):
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype
        assert_agree(found[name], array, tolerance)


@pytest.mark.parametrize("choice", GRID)
def test_forces_and_atomic_energies_agree(grid, choice):
    wanted = grid.of_builtin_evaluated(choice)
    found = grid.evaluate(grid.start_of(choice))
    tolerance = TOLERANCE[precision_of(choice)]
    real = grid.frames.mask[..., None]
    assert np.abs(wanted["force"]).max() > 1e-4
    assert_agree(found["force"], wanted["force"], tolerance)
    assert_agree(found["atom_energy"], wanted["atom_energy"] * real, tolerance)
    np.testing.assert_array_equal(found["atom_energy"][real == 0], 0)
    of_virtual_atoms = np.sum(wanted["atom_energy"] * (1 - real), axis=1)
    assert np.abs(of_virtual_atoms).max() > 1
    assert_agree(found["energy"] + of_virtual_atoms, wanted["energy"], tolerance)


@pytest.mark.parametrize("choice", GRID)
def test_builtin_starts_from_the_same_parameters(grid, choice):
    """What the comparison of forces rests on."""
    assert_parameters_agree(grid.parameters(choice, "same"), grid.parameters(choice, "start"), 0)


@pytest.mark.parametrize("choice", GRID)
def test_ten_steps_agree(grid, choice):
    start, found, wanted = (grid.parameters(choice, run) for run in ("start", "plugin", "builtin"))
    assert_parameters_agree(found, wanted, PARAMETER_TOLERANCE[precision_of(choice)])
    moved = [np.abs(found[n] - start[n]).max() for n in found if n.split("/")[0] != "final"]
    assert np.median(moved) > 1e-3
