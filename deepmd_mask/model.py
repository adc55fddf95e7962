# SPDX-License-Identifier: LGPL-3.0-or-later
"""The energy model of a masked system: DeePMD-kit's, but virtual atoms have no say in it."""

from typing import Any

import numpy as np
from deepmd.common import j_get_type
from deepmd.tf.descriptor.descriptor import Descriptor
from deepmd.tf.env import tf
from deepmd.tf.model.ener import EnerModel
from deepmd.tf.model.model import StandardModel
from deepmd.utils.path import DPPath

from .descriptor import DescrptMask


class MaskEnerModel(EnerModel):
    """EnerModel whose statistics and whose bias count real atoms only."""

    def build_descrpt(self, *args: Any, suffix: str = "", **kwargs: Any) -> tf.Tensor:
        """Build the descriptor, D [real atoms, M1 * M2].

        Unlike other models it has no node o_descriptor, which DeePMD-kit takes to have a row
        for each slot.
        """
        if kwargs.pop("frz_model", None) or kwargs.pop("ckpt_meta", None):
            msg = (
                "se_a_mask: training cannot go on from a compressed model; start from the original"
            )
            raise ValueError(msg)
        kwargs.pop("ckpt_meta", None)
        return self.descrpt.build(*args, suffix=suffix, **kwargs)

    def _apply_out_bias_std(self, output: tf.Tensor, *args: Any, **kwargs: Any) -> tf.Tensor:
        atoms = self.descrpt.real_atoms
        biased = super()._apply_out_bias_std(output, *args, **kwargs)
        nloc = args[1][0]  # natoms[0]
        mask = atoms.to_slots(tf.cast(atoms.weight, biased.dtype))[:, :nloc]
        return biased * tf.reshape(mask, tf.shape(biased))

    def _compute_output_stat(
        self,
        all_stat: dict,
        mixed_type: bool = False,
        stat_file_path: DPPath | None = None,
    ) -> None:
        counts = [
            [real_natoms(types, mask, self.ntypes) for types, mask in zip(*batches, strict=True)]
            for batches in zip(all_stat["type"], all_stat["aparam"], strict=True)
        ]
        super()._compute_output_stat(
            {**all_stat, "real_natoms_vec": counts}, mixed_type, stat_file_path
        )


def real_natoms(types: np.ndarray, mask: np.ndarray, ntypes: int) -> np.ndarray:
    """Count real atoms the way that DeePMD-kit counts atoms.

    Parameters
    ----------
    types
        [nframes, nslots] or, the same for all frames, [nslots].
    mask
        [nframes, nslots]
    ntypes
        Number of types.

    Returns
    -------
    np.ndarray
        [nframes, 2 + ntypes] int32: twice the number of slots, then the real atoms of each type.
    """
    mask = np.reshape(mask, (len(mask), -1))
    types = np.broadcast_to(types, mask.shape)
    real = [np.sum((types == t) & (mask != 0), axis=1) for t in range(ntypes)]
    slots = np.full(len(mask), mask.shape[1])
    return np.stack([slots, slots, *real], axis=1).astype(np.int32)


class MaskStandardModel(StandardModel):
    """StandardModel that is a MaskEnerModel for an energy model with se_a_mask."""

    def __new__(cls, *args: Any, **kwargs: Any) -> StandardModel:
        """Choose the class of the model."""
        if cls is not MaskStandardModel:
            return super().__new__(cls)
        model = StandardModel.__new__(StandardModel, *args, **kwargs)
        if isinstance(model, EnerModel) and _is_masked(kwargs["descriptor"]):
            return MaskEnerModel.__new__(MaskEnerModel)
        return model


def _is_masked(descriptor: dict | Descriptor) -> bool:
    if isinstance(descriptor, Descriptor):
        return isinstance(descriptor, DescrptMask)
    return Descriptor.get_class_by_type(j_get_type(descriptor, "descriptor")) is DescrptMask
