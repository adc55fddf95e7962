# SPDX-License-Identifier: LGPL-3.0-or-later
"""The loss is DeePMD-kit's of frames with as many slots as sel allows, however they are padded."""

import numpy as np
import pytest
from deepmd.tf.env import tf
from deepmd.tf.loss.ener import EnerStdLoss

from deepmd_mask.graph.loss import MaskEnerLoss

SEL = np.array([6, 5, 3])
NFRAMES = 2
ALL = {f"{when}_pref_{term}": 0.7 for when in ("start", "limit") for term in ("e", "f", "v", "ae")}
LOSSES = {
    "standard": {**ALL, "start_pref_pf": 2.0, "limit_pref_pf": 1.0},
    "intensive": {**ALL, "intensive_ener_virial": True},
    "huber": {**ALL, "use_huber": True, "huber_delta": 0.1},
    "relative": {**ALL, "relative_f": 0.3},
    "coefficients": {**ALL, "enable_atom_ener_coeff": True},
    "generalized": {"start_pref_gf": 1.0, "limit_pref_gf": 1.0, "numb_generalized_coord": 2},
}
WIDTHS = {"force": 3, "atom_ener": 1, "atom_pref": 3, "atom_ener_coeff": 1, "drdq": 6, "aparam": 1}


def given(slots):
    """Return what a model gives and labels, the same in any slots, [nframes, slots * width]."""
    rng = np.random.default_rng(1)
    real = rng.integers(1, np.minimum(SEL, (5, 4, 2)) + 1, size=(NFRAMES, 3))
    first = np.cumsum([0, *slots[:-1]])

    def placed(width):
        array = np.zeros((NFRAMES, sum(slots), width))
        for frame, counts in enumerate(real):
            for t, count in enumerate(counts):
                array[frame, first[t] : first[t] + count] = rng.normal(size=(count, width))
        return array.reshape(NFRAMES, -1)

    model = {name: placed(WIDTHS[name]) for name in ("force", "atom_ener")}
    labels = {name: placed(width) for name, width in WIDTHS.items()}
    labels["aparam"] = (labels["aparam"] != 0).astype(float)
    for each in (model, labels):
        each |= {"energy": rng.normal(size=NFRAMES), "virial": rng.normal(size=(NFRAMES, 9))}
    return model, labels


def evaluate(loss, slots):
    """Return the loss, its gradients and what is displayed."""
    model, labels = given(slots)
    with tf.Graph().as_default(), tf.Session() as session:
        inputs = {
            name: tf.placeholder(tf.float64, [None, *a.shape[1:]]) for name, a in model.items()
        }
        found = {f"find_{name}": 1.0 for name in labels}
        natoms = np.array([sum(slots), sum(slots), *slots])
        total, _ = loss.build(1e-3, tf.constant(natoms), inputs, {**labels, **found}, "")
        gradients = tf.gradients(total, list(inputs.values()), unconnected_gradients="zero")
        feed = dict(zip(inputs.values(), model.values(), strict=True))
        values = session.run([total, *gradients], feed)
        displayed = loss.eval(session, feed, natoms)
    total, gradients = values[0], dict(zip(inputs, values[1:], strict=True))
    at_real = np.repeat(labels["aparam"] != 0, 3).reshape(NFRAMES, -1)
    return total, gradients["force"][at_real], gradients["energy"], displayed


@pytest.mark.parametrize("slots", [(5, 4, 2), (9, 7, 4)])
@pytest.mark.parametrize("name", LOSSES)
def test_padding_has_no_say(name, slots):
    options = {"starter_learning_rate": 2e-3, **LOSSES[name]}
    wanted = evaluate(EnerStdLoss(**options), tuple(SEL))
    masked = MaskEnerLoss(use_default_pf=False, nslots=int(SEL.sum()), **options)
    found = evaluate(masked, slots)
    assert found[0] > 0 and np.any(found[1])
    for one, other in zip(found[:3], wanted[:3], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)
    assert found[3] == pytest.approx(wanted[3], rel=1e-12)


def test_missing_weights_are_the_mask():
    options = {"starter_learning_rate": 2e-3, **LOSSES["standard"], "nslots": int(SEL.sum())}
    loss = MaskEnerLoss(use_default_pf=True, **options)
    model, labels = given((5, 4, 2))
    found = []
    for there, weights in ((1.0, np.repeat(labels["aparam"], 3)), (0.0, 0 * labels["atom_pref"])):
        with tf.Graph().as_default(), tf.Session() as session:
            given_labels = {**labels, "atom_pref": weights.reshape(NFRAMES, -1)}
            marks = {f"find_{name}": 1.0 for name in labels} | {"find_atom_pref": there}
            natoms = tf.constant([11, 11, 5, 4, 2])
            tensors = {name: tf.constant(array) for name, array in model.items()}
            total, _ = loss.build(1e-3, natoms, tensors, {**given_labels, **marks}, "")
            found.append(session.run(total))
    assert found[0] == found[1] > 0
