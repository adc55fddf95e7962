# SPDX-License-Identifier: LGPL-3.0-or-later
"""Against the built-in se_a_mask, which runs in a second process with DP_MASK=builtin.

For each choice of options both begin with the same numbers, which the seed gives. The built-in
needs as many slots as sum(sel), and takes one frame at a time.
"""

from concurrent.futures import ThreadPoolExecutor

import deepmd
import helpers
import jobs
import numpy as np
import pytest
from deepmd.tf.env import tf
from deepmd.tf.utils.argcheck import normalize
from deepmd.tf.utils.compat import update_deepmd_input
from frozen_models import assert_potential_agrees
from keeping import kept_path

from deepmd_mask import Potential
from deepmd_mask.hooks.start import Start
from deepmd_mask.plugin import check

SEL = (4, 3)
TYPE_MAP = helpers.TYPE_MAP[:2]
STEPS = 10
SAVED = 5  # step of a checkpoint on the way
# Forces and energies, relative to the largest.
TOLERANCE = {"float64": 1e-10, "float32": 2e-5}
# Parameters after ten steps, relative to the largest of each tensor. float32 rounds to 6e-8, and
# Adam divides a gradient by its size, so that rounding of a gradient moves its parameter by as
# much, relative to the step; 4e-7 is what is seen, and other machines round otherwise.
PARAMETER_TOLERANCE = {"float64": 1e-6, "float32": 2e-5}


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


GRID = {  # each option, with and without skips of layers, each pair of two sorts of options
    "one-plain-tanh": options(True, False, [], "tanh", [5, 10, 10]),
    "one-dt-excluded-gelu": options(True, True, [[1, 1]], "gelu", [3, 6, 6, 9]),
    "one-excluded-gelu_tf": options(True, False, [[0, 1]], "gelu_tf", [7, 13]),
    "two-dt-softplus": options(False, True, [], "softplus", [5, 10, 10]),
    "two-excluded-tanh": options(False, False, [[0, 0]], "tanh", [7, 14]),
    "one-dt-softplus-float32": options(True, True, [[0, 0]], "softplus", [5, 10, 10], "float32"),
    "two-gelu-float32": options(False, False, [[0, 1]], "gelu", [3, 6, 6], "float32"),
}
FROZEN = "frozen.pb"
DETAILED = "two-dt-softplus"  # goes through more than the others


def train_and_freeze(directory, *start, steps=STEPS):
    """Return the jobs, for an input of that many steps."""
    return [
        [directory, "train", f"input{steps}.json", *map(str, start)],
        [directory, "freeze", "-o", FROZEN],
    ]


class Grid:
    """The directories of all runs: choice of options, then name of the run."""

    def __init__(self, root, choices):
        self.root, self.choices = root, choices
        # Energies are 0, and so is what both make of them before they begin; the built-in counts
        # virtual atoms, too.
        self.frames = helpers.random_frames(slots=SEL, nframes=3)._replace(energy=np.zeros(3))
        self.system = helpers.write_system(root / "system", self.frames, TYPE_MAP)

    def directory(self, choice, run):
        """Return the directory of a run, with its inputs."""
        directory = self.place(choice, run)
        for steps in (0, STEPS, STEPS + 2):
            jdata = self.input(choice, steps)
            if not run.startswith("builtin"):  # which knows no other start
                jdata["model"]["descriptor"]["start"] = "normal"
            helpers.write_input(directory, jdata, f"input{steps}.json")
        return directory

    def place(self, choice, run):
        """Return where a run is: the built-in's is kept for the next run of pytest."""
        kept = None
        if run == "builtin":
            givens = f"{choice} {deepmd.__version__}"
            kept = kept_path("builtin", givens, ("test_builtin.py", "helpers.py"))
        return kept or self.root / choice / run

    def input(self, choice, steps):
        common = {"steps": steps, "sel": SEL, "model": {"type_map": TYPE_MAP}}
        return helpers.make_input(
            [self.system],
            **common,
            training={"disp_freq": SAVED, "save_freq": SAVED},  # only what is displayed is saved
            **GRID[choice],
        )

    def frozen(self, choice, run):
        return self.place(choice, run) / FROZEN

    def checkpoint(self, choice, run):
        return self.place(choice, run) / "model.ckpt"

    def from_scratch(self, choice, run):
        return train_and_freeze(self.directory(choice, run))

    def restart(self, run):
        checkpoint = self.checkpoint(DETAILED, "builtin")
        return train_and_freeze(
            self.directory(DETAILED, run), "--restart", checkpoint, steps=STEPS + 2
        )

    def make(self):
        """Run everything, the built-in beside the plugin."""
        with ThreadPoolExecutor() as pool:
            wanted = [*self.of_builtin()]
            if wanted:
                builtin = pool.submit(helpers.run_jobs, wanted, self.root, builtin=True)
            jobs.run(job for c in self.choices for job in self.from_scratch(c, "plugin"))
            if wanted:
                builtin.result()
        return self

    def of_builtin(self):
        for choice in sorted(self.choices, key=lambda choice: choice != DETAILED):
            if not (self.place(choice, "builtin") / f"{FROZEN}.npz").exists():
                yield from self.from_scratch(choice, "builtin")
                yield [self.directory(choice, "builtin"), "eval", FROZEN, self.system]
        if len(self.choices) == len(GRID):  # for a test that names none
            yield from self.restart("builtin-restart")

    def evaluate(self, model, **options):
        frames = self.frames
        return jobs.evaluate(model, frames.coord, frames.types, frames.mask, **options)

    def evaluated_by_builtin(self, choice):
        with np.load(f"{self.frozen(choice, 'builtin')}.npz") as found:
            return dict(found)

    def parameters(self, choice, run):
        return helpers.parameters(self.frozen(choice, run))

    def parameters_on_the_way(self, choice, run):
        saved = tf.train.load_checkpoint(f"{self.checkpoint(choice, run)}-{SAVED}")
        return {name: saved.get_tensor(name) for name in self.parameters(choice, run)}

    def parameters_after(self, run, *start, steps=0):
        """Train the detailed choice with the plugin, in this process."""
        jobs.run(train_and_freeze(self.directory(DETAILED, run), *start, steps=steps))
        return self.parameters(DETAILED, run)


@pytest.fixture(scope="module")
def grid(request, tmp_path_factory):
    """Run all choices, or those alone that the tests name that have been selected."""
    named = set()
    for item in request.session.items:
        if "grid" in getattr(item, "fixturenames", ()):
            parameters = item.callspec.params if hasattr(item, "callspec") else {}
            named |= {parameters["choice"]} if "choice" in parameters else set(GRID)
    choices = [choice for choice in GRID if choice in named]
    return Grid(tmp_path_factory.mktemp("builtin"), choices).make()


def precision_of(choice):
    return GRID[choice]["descriptor"]["precision"]


def assert_agree(found, wanted, tolerance):
    """Within the tolerance times the largest number wanted."""
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def assert_parameters_agree(found, wanted, tolerance=0.0):
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype
        assert_agree(found[name], array, tolerance)


@pytest.mark.parametrize("choice", GRID)
def test_forces_and_atomic_energies_agree(grid, choice):
    """After the ten steps, of which each side has made its own."""
    wanted = grid.evaluated_by_builtin(choice)
    found = grid.evaluate(grid.frozen(choice, "plugin"))
    tolerance = TOLERANCE[precision_of(choice)]
    real = grid.frames.mask[..., None]
    assert np.abs(wanted["force"]).max() > 1e-4
    assert_agree(found["force"], wanted["force"], tolerance)
    assert_agree(found["atom_energy"], wanted["atom_energy"] * real, tolerance)
    np.testing.assert_array_equal(found["atom_energy"][real == 0], 0)
    of_virtual_atoms = np.sum(wanted["atom_energy"] * (1 - real), axis=1)
    assert np.abs(of_virtual_atoms).max() > 0.01
    assert_agree(found["energy"] + of_virtual_atoms, wanted["energy"], tolerance)


@pytest.mark.parametrize("choice", GRID)
def test_ten_steps_agree(grid, choice):
    found, wanted = (grid.parameters(choice, run) for run in ("plugin", "builtin"))
    assert_parameters_agree(found, wanted, PARAMETER_TOLERANCE[precision_of(choice)])
    for name, before in grid.parameters_on_the_way(choice, "plugin").items():
        if not name.startswith("final") or name.endswith("matrix"):  # forces ignore the last bias
            assert np.abs(found[name] - before).max() > 1e-4, name


def test_command_line_does_the_same(grid):
    """The runs above share processes, but for the built-in's first; this one has its own."""
    [[directory, *args], freeze] = grid.from_scratch(DETAILED, "plugin-alone")
    helpers.run_dp(args, directory, forked=True)
    jobs.run([freeze])
    alone, shared = (grid.parameters(DETAILED, run) for run in ("plugin-alone", "plugin"))
    assert_parameters_agree(alone, shared, 1e-13)


def test_restart_from_a_checkpoint_of_the_builtin(grid):
    wanted = grid.parameters(DETAILED, "builtin-restart")
    jobs.run(grid.restart("plugin-restart"))
    assert_parameters_agree(grid.parameters(DETAILED, "plugin-restart"), wanted, 1e-6)
    before = grid.parameters(DETAILED, "builtin")
    assert max(np.abs(before[name] - wanted[name]).max() for name in wanted) > 1e-3


def test_init_model_from_a_checkpoint_of_the_builtin(grid):
    start = "--init-model", grid.checkpoint(DETAILED, "builtin")
    wanted = grid.parameters(DETAILED, "builtin")
    assert_parameters_agree(grid.parameters_after("init-model", *start), wanted)


@pytest.mark.parametrize("side", ["builtin", "plugin"])
def test_init_frz_model_from_a_frozen_model(grid, side):
    """Although that of the built-in lacks the timesteps that no layer uses."""
    start = "--init-frz-model", grid.frozen(DETAILED, side)
    wanted = grid.parameters(DETAILED, side)
    assert_parameters_agree(grid.parameters_after(f"init-frz-model-{side}", *start), wanted)


@pytest.mark.parametrize("option", ["--init-frz-model", "--init-model", "--restart"])
def test_energies_after_a_start_from_the_builtin(grid, option, caplog):
    """Its constants of virtual atoms are worth a warning, if energies are in the loss."""
    of = grid.frozen if option == "--init-frz-model" else grid.checkpoint
    for side, preference in (("builtin", 1.0), ("builtin", 0.0), ("plugin", 1.0)):
        jdata = grid.input(DETAILED, STEPS)
        jdata["loss"]["start_pref_e"] = preference
        caplog.clear()
        check(normalize(jdata), Start(option, of(DETAILED, side)))
        warned = "a constant for each virtual atom" in caplog.text
        assert warned == (side == "builtin" and preference != 0)


@pytest.mark.parametrize("option", ["--init-frz-model", "--init-model", "--restart"])
def test_start_from_another_model_of_the_builtin_is_refused(grid, option):
    """Each choice from the model of each other one; test_start.py has one difference at a time."""
    of = grid.frozen if option == "--init-frz-model" else grid.checkpoint
    for choice, other in zip(GRID, [*list(GRID)[1:], next(iter(GRID))], strict=True):
        jdata = normalize(update_deepmd_input(grid.input(choice, STEPS), warning=False))
        check(jdata, Start(option, of(choice, "builtin")))
        with pytest.raises(ValueError, match="would mean something else"):
            check(jdata, Start(option, of(other, "builtin")))
    jdata["model"] |= {"type_map": TYPE_MAP[::-1]}
    jdata["model"]["descriptor"]["sel"] = [4, 4]
    wanted = r'(?s)type_map: \["C", "O"\] there, \["O", "C"\] in.*sum of sel: 7 there, 8 in'
    with pytest.raises(ValueError, match=wanted):
        check(jdata, Start(option, of(choice, "builtin")))


@pytest.mark.parametrize("choice", GRID)
def test_potential_of_a_frozen_model_of_the_builtin(grid, choice):
    """What virtual atoms add to the energy is left out."""
    wanted = grid.evaluated_by_builtin(choice)
    model = grid.frozen(choice, "builtin")
    assert_potential_agrees(model, grid.frames, TOLERANCE[precision_of(choice)], wanted)


def test_potential_needs_no_slots(grid):
    """Of real atoms in any order, and of more than the built-in has slots for."""
    frames, frame = grid.frames, 1
    real = np.random.default_rng(0).permutation(np.flatnonzero(frames.mask[frame]))
    molecule = frames.types[real], frames.coord[frame, real]
    assert len(real) < sum(SEL)
    potential = Potential(grid.frozen(DETAILED, "builtin"))
    wanted = potential.evaluate(frames.types, frames.coord[frame], frames.mask[frame])
    found = potential.evaluate(*molecule)
    assert_agree(found.forces, wanted.forces[real], 1e-14)
    assert found.energy == pytest.approx(wanted.energy, rel=1e-14)
    more = potential.evaluate(np.zeros(5, int), 2.0 * np.arange(15).reshape(5, 3))
    assert np.isfinite(more.forces).all()


@pytest.mark.parametrize("choice", GRID)
def test_frozen_model_of_the_builtin_runs_beside_the_plugin(grid, choice):
    wanted = grid.evaluated_by_builtin(choice)
    found = grid.evaluate(grid.frozen(choice, "builtin"), batch=1)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
