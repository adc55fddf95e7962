# SPDX-License-Identifier: LGPL-3.0-or-later
"""Options that se_a_mask does not have: refused in words, before training writes a file."""

import re
import shutil

import helpers
import jobs
import numpy as np
import pytest
from deepmd.tf.model.model import Model
from deepmd.tf.utils.compat import update_deepmd_input
from deepmd.tf.utils.graph import get_tensor_by_name
from deepmd.utils.argcheck import normalize
from helpers import SLOTS

from deepmd_mask.plugin import check
from deepmd_mask.shared.options import REFUSALS, check_options


@pytest.fixture
def system(tmp_path):
    return helpers.write_system(tmp_path / "water", helpers.random_frames(nreal=[[3, 2, 1]]))


REFUSED = {
    'unknown activation function "foo"': {"descriptor": {"activation_function": "foo"}},
    'unknown activation function "tanhh"': {"fitting_net": {"activation_function": "tanhh"}},
    "axis_neuron \\(99\\) is larger": {"sel": "auto", "descriptor": {"axis_neuron": 99}},
    "precision of fitting_net": {"fitting_net": {"precision": "bfloat16"}},
    "instead of mixed_precision": {
        "training": {"mixed_precision": {"output_prec": "float32", "compute_prec": "float16"}}
    },
    "does not go with type_embedding": {"model": {"type_embedding": {"neuron": [2]}}},
    "numb_aparam to 1": {"fitting_net": {"numb_aparam": 0}},
}


@pytest.mark.parametrize("message", REFUSED)
def test_option_is_refused(system, message):
    jdata = helpers.make_input([system], **REFUSED[message])
    with pytest.raises((ValueError, RuntimeError), match=message):
        check(normalize(update_deepmd_input(jdata, warning=False)))


EXAMPLES = {
    "part": {"model": {"type": "frozen", "descriptor": {"type": "se_a_mask"}}},
    "fitting": {"fitting_net": {"type": "dipole"}},
    "mask": {"fitting_net": {"numb_aparam": 2}},
    "spin": {"model": {"spin": {"use_spin": [True, False, False]}}},
    "type_embedding": {"model": {"type_embedding": {"neuron": [2]}}},
    "use_srtab": {"model": {"use_srtab": "pairs.txt"}},
    "mixed_precision": {"training": {"mixed_precision": {"output_prec": "float32"}}},
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_refused_is_refused_alone(name):
    """An example of each: no other refusal holds for it, and none for an input without."""
    jdata = helpers.make_input(["system"], **EXAMPLES[name])
    assert [other for other, refusal in REFUSALS.items() if refusal.holds(jdata)] == [name]
    with pytest.raises(ValueError, match=re.escape(REFUSALS[name].message)):
        check_options(jdata)
    jdata = helpers.make_input(["system"])
    assert not any(refusal.holds(jdata) for refusal in REFUSALS.values())


def test_auto_sel_binds_the_validation_data(tmp_path, system):
    crowded = helpers.write_system(
        tmp_path / "crowded", helpers.random_frames(slots=[9, 2, 1], nreal=[[9, 2, 1]])
    )
    jdata = helpers.make_input([system], validation=[crowded], descriptor={"sel": "auto:1.0"})
    with pytest.raises(ValueError, match=r"9 real atoms of type 0 .*, but sel allows 4"):
        check(normalize(update_deepmd_input(jdata, warning=False)))


PLAIN = {"type": "se_e2_a", "sel": [5, 4, 2], "rcut": 3.0, "neuron": [5]}


def models_that_contain_it(model):
    """Return models of which a masked one is a part."""
    descriptor, fitting_net = model["descriptor"], model["fitting_net"]
    common = {"type_map": model["type_map"]}
    parts = [
        {**common, "descriptor": part, "fitting_net": fitting_net} for part in (descriptor, PLAIN)
    ]
    hybrid = {"type": "hybrid", "list": [PLAIN, descriptor]}
    return {
        "hybrid": {**common, "descriptor": hybrid, "fitting_net": fitting_net},
        "linear": {**common, "type": "linear_ener", "models": parts, "weights": "sum"},
        "pairwise": {
            **common,
            "type": "pairwise_dprc",
            "qm_model": parts[0],
            "qmmm_model": parts[1],
        },
    }


@pytest.mark.parametrize("kind", ["hybrid", "linear", "pairwise"])
def test_part_of_another_model_is_refused(tmp_path, system, kind):
    jdata = helpers.make_input([system])
    jdata["model"] = models_that_contain_it(jdata["model"])[kind]
    helpers.write_input(tmp_path, jdata)
    with pytest.raises(ValueError, match="must be the descriptor of a model by itself"):
        jobs.run([[tmp_path, "train", "input.json"]])
    assert {path.name for path in tmp_path.iterdir()} == {"input.json", "water"}


def test_other_fitting_nets_are_refused(system):
    model = helpers.make_input([system])["model"]
    model["fitting_net"] = {"type": "dos", "neuron": [4], "numb_dos": 3}
    with pytest.raises(ValueError, match="for energies only"):
        Model(**model)


@pytest.mark.parametrize("output", ["model.yaml", "model.dp"])
def test_other_backends_are_refused(tmp_path, trained, output):
    with pytest.raises(NotImplementedError, match="no other backend of DeePMD-kit knows the mask"):
        jobs.run([[tmp_path, "convert-backend", str(trained.model), output]])
    assert not list(tmp_path.iterdir())


def test_deserialized_model_is_refused():
    """Whoever wrote it; DeePMD-kit's TensorFlow backend does not write one."""
    data = {"@version": 2, "type": "standard", "type_map": ["C"], "fitting": {}}
    with pytest.raises(NotImplementedError, match="no backend of DeePMD-kit but TensorFlow"):
        Model.deserialize({**data, "descriptor": {"type": "se_a_mask"}})


class TestChangeBias:
    """It must not count virtual atoms; but what the user gives is the user's."""

    @pytest.fixture
    def copied(self, tmp_path, trained):
        for path in trained.directory.iterdir():
            if path.is_file() and not path.name.endswith(".pb"):
                shutil.copy(path, tmp_path)
        return tmp_path

    @pytest.mark.parametrize("checkpoint", [".", "model.ckpt", "model.ckpt.meta"])
    def test_from_data_is_refused(self, copied, trained, checkpoint):
        before = {path: path.read_bytes() for path in copied.iterdir()}
        system = str(trained.directory / "system")
        with pytest.raises(NotImplementedError, match="would count virtual atoms"):
            jobs.run([[copied, "change-bias", checkpoint, "-s", system, "-o", "f.pb"]])
        assert {path: path.read_bytes() for path in copied.iterdir()} == before

    def test_frozen_model_beside_a_checkpoint_is_none(self, copied):
        """DeePMD-kit's own word on frozen models, which may have no mask."""
        (copied / "other.pb").touch()
        with pytest.raises(NotImplementedError, match="frozen models is not yet implemented"):
            jobs.run([[copied, "change-bias", "other.pb", "-o", "f.pb"]])

    def test_given_ones_shift_energies_of_real_atoms(self, copied, trained):
        """It takes its systems from the working directory then."""
        shutil.copytree(trained.directory / "system", copied / "system")
        given = ["-b", "1.0", "-2.0", "5.0"]
        jobs.run([[copied, "change-bias", "model.ckpt", *given, "-o", "changed.pb"]])
        frames = trained.frames
        found = jobs.evaluate(copied / "changed.pb", frames.coord, frames.types, frames.mask)
        bias = get_tensor_by_name(str(trained.model), "fitting_attr/t_bias_atom_e")
        shift = frames.counts() @ (np.array([1.0, -2.0, 5.0]) - bias)
        wanted = trained.evaluate()
        np.testing.assert_allclose(
            found["energy"][:, 0], wanted["energy"][:, 0] + shift, rtol=1e-12
        )
        np.testing.assert_array_equal(found["force"], wanted["force"])


def test_wrong_instruction_set_is_an_error_of_the_operator(tmp_path, trained):
    code = f"""
import numpy as np
from deepmd.infer import DeepPot
potential = DeepPot({str(trained.model)!r})
frames = 1, {sum(SLOTS)}
potential.eval(np.zeros((*frames, 3)), None, np.repeat(range(3), {SLOTS}), aparam=np.zeros(frames))
"""
    options = {"succeeds": False, "forked": True, "DP_MASK_ISA": "foo"}
    output = helpers.run_python(["-c", code], tmp_path, **options)
    assert 'deepmd-mask: DP_MASK_ISA is "foo"' in output
