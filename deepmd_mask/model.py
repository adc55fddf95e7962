# SPDX-License-Identifier: LGPL-3.0-or-later
"""The energy model of a masked system: DeePMD-kit's, but virtual atoms have no say in it."""

from typing import Any, NoReturn

import numpy as np
from deepmd.common import j_get_type
from deepmd.tf.descriptor.descriptor import Descriptor
from deepmd.tf.env import (
    GLOBAL_TF_FLOAT_PRECISION,
    MODEL_VERSION,
    global_cvt_2_ener_float,
    tf,
)
from deepmd.tf.model.ener import EnerModel
from deepmd.tf.model.model import StandardModel
from deepmd.utils.path import DPPath

from .descriptor import DescrptMask
from .real_atoms import on_host


class MaskEnerModel(EnerModel):
    """EnerModel whose statistics, bias and energy count real atoms only."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for option, value in (("use_srtab", self.srtab), ("type_embedding", self.typeebd)):
            if value is not None:
                msg = f"se_a_mask does not go with {option}; take it out of the model"
                raise ValueError(msg)

    def build(
        self,
        coord_: tf.Tensor,
        atype_: tf.Tensor,
        natoms: tf.Tensor,
        box: tf.Tensor,
        mesh: tf.Tensor,
        input_dict: dict,
        frz_model: str | None = None,
        ckpt_meta: str | None = None,
        suffix: str = "",
        reuse: bool | None = None,
    ) -> dict[str, tf.Tensor]:
        """Build the model's graph, with the output nodes that DeePMD-kit freezes and reads.

        There is no node o_descriptor, which would have a row for each slot.

        Parameters
        ----------
        coord_, atype_, box
            Coordinates, types and box of nframes * nslots atoms.
        natoms
            The slots of this process, all slots, and the slots of each type.
        mesh
            Its size tells whether the input is periodic.
        input_dict
            More inputs; "aparam" is the mask.
        frz_model, ckpt_meta
            A compressed model to start from; refused.
        suffix
            End of the nodes' names.
        reuse
            Whether to reuse variables.

        Returns
        -------
        dict of str to tf.Tensor
            What the loss reads.

        Raises
        ------
        ValueError
            If the start is a compressed model.
        """
        if frz_model or ckpt_meta:
            msg = "se_a_mask: training cannot start from a compressed model; take the original"
            raise ValueError(msg)
        with tf.variable_scope(f"model_attr{suffix}", reuse=reuse):
            tf.constant(" ".join(self.type_map), name="tmap", dtype=tf.string)
            tf.constant(self.model_type, name="model_type", dtype=tf.string)
            tf.constant(MODEL_VERSION, name="model_version", dtype=tf.string)
            self.init_out_stat(suffix=suffix)
        with on_host():
            coord = tf.reshape(coord_, [-1, natoms[1] * 3])
            atype = tf.reshape(atype_, [-1, natoms[1]])
        inputs = (coord, atype, natoms, box, mesh)
        options = {"suffix": suffix, "reuse": reuse}
        if self._is_one_operator():
            self.descrpt.build_atoms(*inputs, input_dict, **options)
            outputs = self._potential(**options)
            energy, self.atom_ener, force, virial, atom_virial = outputs
        else:
            D = self.descrpt.build(*inputs, input_dict, **options)
            atoms = self.descrpt.real_atoms
            e = self.fitting.build(D, natoms, input_dict, **options)
            e = self._with_out_bias(e)
            self.atom_ener = atoms.to_slots(e)
            energy = atoms.sum_of_frames(global_cvt_2_ener_float(e))
            force, virial, atom_virial = self.descrpt.prod_force_virial(e, natoms)
        return {
            "energy": tf.identity(energy, name=f"o_energy{suffix}"),
            "force": tf.identity(force, name=f"o_force{suffix}"),
            "virial": tf.identity(virial, name=f"o_virial{suffix}"),
            "atom_ener": tf.identity(self.atom_ener, name=f"o_atom_energy{suffix}"),
            "atom_virial": tf.identity(atom_virial, name=f"o_atom_virial{suffix}"),
            "coord": coord,
            "atype": atype,
        }

    def _is_one_operator(self) -> bool:
        """Return whether one operator does it all: in compressed models, which are not trained."""
        return (
            self.descrpt.table is not None
            and self.fitting.takes_only_D()
            and self.fitting.fitting_precision == self.descrpt.filter_precision
        )

    def _potential(self, **options: Any) -> list[tf.Tensor]:
        """Return energy, atomic energies, force, virial and atomic virial by that operator.

        The model's variables for scale and shift go into the last layers and the bias, which
        TensorFlow does once when it loads the model.
        """
        nets, bias = self.fitting.build_nets(**options)
        std, shift = self.t_out_std[0, :, 0], self.t_out_bias[0, :, 0]
        of_net = len(nets) // self.ntypes
        nets = [
            # Matrix and bias of the last layer end a net's list.
            x * tf.cast(std[k // of_net], x.dtype.base_dtype) if k % of_net >= of_net - 2 else x
            for k, x in enumerate(nets)
        ]
        bias = tf.cast(bias * std + shift, tf.float64)
        energy, *others = self.descrpt.potential(nets, bias, self.fitting.net_attributes())
        others = [tf.cast(output, GLOBAL_TF_FLOAT_PRECISION) for output in others]
        return [global_cvt_2_ener_float(energy), *others]

    def _with_out_bias(self, e: tf.Tensor) -> tf.Tensor:
        """Scale and shift the energies [real atoms] by the model's variables for that."""
        atoms = self.descrpt.real_atoms
        std = atoms.of_type(self.t_out_std[0, :, 0])
        bias = atoms.of_type(self.t_out_bias[0, :, 0])
        return e * std + bias * tf.cast(atoms.weight, e.dtype)

    def change_energy_bias(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: DeePMD-kit would count virtual atoms."""
        msg = (
            "se_a_mask: neither fine-tuning nor dp change-bias knows the mask; go on from the "
            "model with --init-model or --init-frz-model"
        )
        raise NotImplementedError(msg)

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
        # A bias in stat_file_path may be the built-in's, which is of all atoms.
        super()._compute_output_stat({**all_stat, "real_natoms_vec": counts}, mixed_type)


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
        if not _is_masked(kwargs["descriptor"]):
            return model
        if not isinstance(model, EnerModel):
            msg = 'se_a_mask is for energies only, "type": "ener" in fitting_net'
            raise ValueError(msg)
        return MaskEnerModel.__new__(MaskEnerModel)


def _is_masked(descriptor: dict | Descriptor) -> bool:
    if isinstance(descriptor, Descriptor):
        return isinstance(descriptor, DescrptMask)
    return Descriptor.get_class_by_type(j_get_type(descriptor, "descriptor")) is DescrptMask
