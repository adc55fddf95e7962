# SPDX-License-Identifier: LGPL-3.0-or-later
"""The loss of energies and forces, in which padding has no say and weights may be missing."""

from typing import Any

import numpy as np
from deepmd.tf.env import tf
from deepmd.tf.loss.ener import EnerStdLoss

# What has numbers of each slot.
RESULTS = ("force", "atom_ener")
LABELS = (*RESULTS, "atom_pref", "atom_ener_coeff", "drdq")


class MaskEnerLoss(EnerStdLoss):
    """EnerStdLoss of frames with as many slots as sel allows, whichever they have.

    EnerStdLoss takes means over slots. So a frame would count the less, the more virtual atoms the
    frames of its system are padded with.

    Parameters
    ----------
    *args, **kwargs
        DeePMD-kit's.
    use_default_pf
        Whether weights, where atom_pref.npy is missing, are 1 for real atoms. That is what
        DeePMD-kit's option asks for; its TensorFlow backend lacks it.
    nslots
        The sum of sel.
    """

    def __init__(self, *args: Any, use_default_pf: bool, nslots: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.use_default_pf = use_default_pf
        self.nslots = nslots

    def build(
        self,
        learning_rate: tf.Tensor,
        natoms: tf.Tensor,
        model_dict: dict[str, tf.Tensor],
        label_dict: dict[str, tf.Tensor],
        suffix: str,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Build the graph of the loss.

        Parameters
        ----------
        learning_rate, natoms, model_dict, suffix
            As DeePMD-kit has them.
        label_dict
            Labels, and "aparam", the mask. Where "find_atom_pref" is 0, "atom_pref" is 0, too.

        Returns
        -------
        loss : tf.Tensor
            The loss.
        parts : dict of str to tf.Tensor
            What it is made of.
        """
        mask = tf.reshape(label_dict["aparam"], [-1, natoms[0]])
        if self.use_default_pf:
            label_dict = _with_weights(label_dict, mask)
        labels = [name for name in LABELS if name in label_dict]
        arrays = [*(model_dict[name] for name in RESULTS), *(label_dict[name] for name in labels)]
        arrays = self._in_slots(arrays, mask)
        model_dict = {**model_dict, **dict(zip(RESULTS, arrays[: len(RESULTS)], strict=True))}
        label_dict = {**label_dict, **dict(zip(labels, arrays[len(RESULTS) :], strict=True))}
        natoms = tf.concat([[self.nslots, self.nslots], natoms[2:]], 0)
        return super().build(learning_rate, natoms, model_dict, label_dict, suffix)

    def _in_slots(self, arrays: list[tf.Tensor], mask: tf.Tensor) -> list[tf.Tensor]:
        """Return arrays of frames that are padded to the loss's slots.

        Parameters
        ----------
        arrays
            Any shape of nframes * slots * numbers of a slot.
        mask
            [nframes, slots]

        Returns
        -------
        list of tf.Tensor
            [nframes, nslots * numbers of a slot]
        """
        nframes, slots = tf.unstack(tf.shape(mask))

        def as_they_are() -> list[tf.Tensor]:
            return [tf.reshape(x, [nframes, -1]) for x in arrays]

        def moved() -> list[tf.Tensor]:
            more = [0, tf.maximum(self.nslots - slots, 0)]
            real = tf.pad(mask, [[0, 0], more])
            real_first = tf.argsort(real, axis=1, direction="DESCENDING", stable=True)
            first = tf.shape(real)[1] * tf.range(nframes)[:, None]
            kept = first + real_first[:, : self.nslots]
            of_slots = [tf.reshape(x, [nframes, slots, -1]) for x in arrays]
            padded = [tf.pad(x, [[0, 0], more, [0, 0]]) for x in of_slots]
            of_all_frames = [tf.reshape(x, [-1, tf.shape(x)[2]]) for x in padded]
            return [tf.reshape(tf.gather(x, kept), [nframes, -1]) for x in of_all_frames]

        return tf.cond(tf.equal(slots, self.nslots), as_they_are, moved)

    def eval(self, sess: tf.Session, feed_dict: dict, natoms: np.ndarray) -> dict[str, float]:
        """Return the errors that are displayed, of as many slots as the loss has.

        Parameters
        ----------
        sess, feed_dict
            DeePMD-kit's.
        natoms
            Its first entry is the slots of this system.

        Returns
        -------
        dict of str to float
            By name.
        """
        return super().eval(sess, feed_dict, np.array([self.nslots, *natoms[1:]]))


def _with_weights(label_dict: dict[str, tf.Tensor], mask: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return labels whose weights, where they are missing, are the mask [nframes, slots]."""
    found, weights = label_dict["find_atom_pref"], label_dict["atom_pref"]
    of_mask = tf.repeat(tf.reshape(mask, [-1]), 3)  # x, y, z of each slot
    missing = tf.cast(1 - found, weights.dtype)
    weights = tf.reshape(weights, [-1]) + missing * tf.cast(of_mask, weights.dtype)
    return {**label_dict, "atom_pref": weights, "find_atom_pref": tf.ones_like(found)}
