# SPDX-License-Identifier: LGPL-3.0-or-later
"""The loss of energies and forces, where weights of forces may be missing."""

from typing import Any

from deepmd.tf.env import tf
from deepmd.tf.loss.ener import EnerStdLoss


class MaskEnerLoss(EnerStdLoss):
    """EnerStdLoss whose weights, where atom_pref.npy is missing, are 1 for real atoms.

    That is what DeePMD-kit's option use_default_pf asks for; its TensorFlow backend lacks it.
    """

    def __init__(self, *args: Any, use_default_pf: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.use_default_pf = use_default_pf

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
        if self.use_default_pf:
            found, weights = label_dict["find_atom_pref"], label_dict["atom_pref"]
            mask = tf.repeat(tf.reshape(label_dict["aparam"], [-1]), 3)  # x, y, z of each slot
            missing = tf.cast(1 - found, weights.dtype)
            weights = tf.reshape(weights, [-1]) + missing * tf.cast(mask, weights.dtype)
            label_dict = {
                **label_dict,
                "atom_pref": weights,
                "find_atom_pref": tf.ones_like(found),
            }
        return super().build(learning_rate, natoms, model_dict, label_dict, suffix)
