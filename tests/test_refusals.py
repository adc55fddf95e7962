# SPDX-License-Identifier: LGPL-3.0-or-later
"""Options that se_a_mask does not have: refused in words, before training writes a file."""

import helpers
import pytest
from deepmd.tf.utils.compat import update_deepmd_input
from deepmd.utils.argcheck import normalize
from helpers import SLOTS

from deepmd_mask.plugin import check


@pytest.fixture
def system(tmp_path):
    return helpers.write_system(tmp_path / "water", helpers.random_frames(nreal=[[3, 2, 1]]))


REFUSED = {
    "not a valid activation": {"descriptor": {"activation_function": "foo"}},
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


def test_auto_sel_binds_the_validation_data(tmp_path, system):
    crowded = helpers.write_system(
        tmp_path / "crowded", helpers.random_frames(slots=[9, 2, 1], nreal=[[9, 2, 1]])
    )
    jdata = helpers.make_input([system], validation=[crowded], descriptor={"sel": "auto:1.0"})
    with pytest.raises(ValueError, match=r"9 real atoms of type 0 .*, but sel allows 4"):
        check(normalize(update_deepmd_input(jdata, warning=False)))


def test_wrong_instruction_set_is_an_error_of_the_operator(tmp_path, trained):
    code = f"""
import numpy as np
from deepmd.infer import DeepPot
potential = DeepPot({str(trained.model)!r})
frames = 1, {sum(SLOTS)}
potential.eval(np.zeros((*frames, 3)), None, np.repeat(range(3), {SLOTS}), aparam=np.zeros(frames))
"""
    output = helpers.run_python(["-c", code], tmp_path, succeeds=False, DP_MASK_ISA="foo")
    assert 'deepmd-mask: DP_MASK_ISA is "foo"' in output
