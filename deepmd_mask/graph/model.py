# SPDX-License-Identifier: LGPL-3.0-or-later
"""The energy model of a masked system: DeePMD-kit's, but virtual atoms have no say in it."""

from inspect import signature
from typing import Any, NoReturn

import numpy as np
from deepmd.tf.descriptor.descriptor import Descriptor
from deepmd.tf.env import (
    GLOBAL_TF_FLOAT_PRECISION,
    MODEL_VERSION,
    global_cvt_2_ener_float,
    tf,
)
from deepmd.tf.fit.fitting import Fitting
from deepmd.tf.loss.loss import Loss
from deepmd.tf.model.ener import EnerModel
from deepmd.tf.model.model import StandardModel
from deepmd.tf.utils.learning_rate import LearningRateSchedule
from deepmd.utils.path import DPPath

from ..shared.options import REFUSALS
from .descriptor import DescrptMask
from .fitting import MASK_FITTING, MaskEnerFitting
from .loss import MaskEnerLoss
from .real_atoms import on_host

# DeePMD-kit 3.1 fits its bias to means over systems, and by real atoms only where types are mixed.
FITS_FRAMES = "stat_file_path" in signature(EnerModel._compute_output_stat).parameters


# Of models that take weights between 0 and 1.
WEIGHTED = [
    "o_weighted_energy",
    "o_weighted_atom_energy",
    "o_weighted_force",
    "o_weighted_virial",
    "o_weighted_atom_virial",
    "o_weight_gradient",
]


class MaskEnerModel(EnerModel):
    """EnerModel whose statistics, bias and energy count real atoms only."""

    def __init__(
        self, descriptor: dict | Descriptor, fitting_net: dict | Fitting, **kwargs: Any
    ) -> None:
        if isinstance(fitting_net, dict) and fitting_net.get("type") == "ener":
            fitting_net = {**fitting_net, "type": MASK_FITTING}
        elif not isinstance(fitting_net, MaskEnerFitting):
            raise ValueError(REFUSALS["fitting"].message)
        super().__init__(descriptor=descriptor, fitting_net=fitting_net, **kwargs)
        for option, value in (("use_srtab", self.srtab), ("type_embedding", self.typeebd)):
            if value is not None:
                raise ValueError(REFUSALS[option].message)

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

    def get_loss(self, loss: dict, lr: LearningRateSchedule) -> Loss:
        """Return the loss.

        Parameters
        ----------
        loss
            Section of the input.
        lr
            The learning rate.

        Returns
        -------
        Loss
            That of energies and forces for frames with as many slots as sel allows.
        """
        if loss.get("type", "ener") != "ener":
            return super().get_loss(loss, lr)
        options = {name: value for name, value in loss.items() if name != "type"}
        options.setdefault("use_default_pf", False)
        nslots = sum(self.descrpt.sel_a)
        return MaskEnerLoss(starter_learning_rate=lr.start_lr(), nslots=nslots, **options)

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
        self._terms = nets, bias, self.fitting.net_attributes()
        return _of_model_precision(self.descrpt.potential(*self._terms))

    def add_weights(self) -> list[str]:
        """Add to the graph of a compressed model, once built, what fractions need.

        That is an input, t_groups, and outputs that nothing else in the graph depends on.

        Returns
        -------
        list of str
            Names of the outputs.

        Raises
        ------
        ValueError
            If the model is not one whose energies and forces are one operator.
        """
        if not self._is_one_operator():
            raise ValueError(
                "weights between 0 and 1 are for compressed models, whose fitting nets have the "
                "precision of the embedding nets and take the descriptor alone"
            )
        groups = tf.placeholder(tf.int64, [None], name="t_groups")
        outputs = _of_model_precision(self.descrpt.weighted_potential(groups, *self._terms))
        for name, output in zip(WEIGHTED, outputs, strict=True):
            tf.identity(output, name=name)
        return WEIGHTED

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

    def serialize(self, suffix: str = "") -> NoReturn:
        """Refuse: what DeePMD-kit's backends share has no mask."""
        msg = (
            "se_a_mask: dp convert-backend cannot take this model, since no other backend of "
            "DeePMD-kit knows the mask; it stays a .pb file, which dp-mask convert can change"
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
        if not FITS_FRAMES:
            energies = [e for batches in all_stat["energy"] for batch in batches for e in batch]
            of_frames = [n for batches in counts for batch in batches for n in batch]
            each_a_system = {
                "energy": [[[np.reshape(e, -1)]] for e in energies],
                "real_natoms_vec": [[[n]] for n in of_frames],
            }
            super()._compute_output_stat(each_a_system, mixed_type=True)
            return
        # A bias in stat_file_path may be the built-in's, which is of all atoms.
        super()._compute_output_stat({**all_stat, "real_natoms_vec": counts}, mixed_type)


def _of_model_precision(outputs: tuple[tf.Tensor, ...]) -> list[tf.Tensor]:
    """Return energy and what comes with it in DeePMD-kit's precision of results."""
    energy, *others = outputs
    others = [tf.cast(output, GLOBAL_TF_FLOAT_PRECISION) for output in others]
    return [global_cvt_2_ener_float(energy), *others]


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


def hook_models() -> None:
    """Make DeePMD-kit build a MaskEnerModel where the descriptor is se_a_mask.

    Nothing else changes: no class of DeePMD-kit's is replaced, and other models do not notice.
    """
    new = StandardModel.__new__

    def choose(cls: type[StandardModel], *args: Any, **kwargs: Any) -> StandardModel:
        if cls is StandardModel and _is_masked(kwargs.get("descriptor")):
            cls = MaskEnerModel
        return new(cls, *args, **kwargs)

    StandardModel.__new__ = staticmethod(choose)


def _is_masked(descriptor: dict | Descriptor | None) -> bool:
    if isinstance(descriptor, dict):
        return descriptor.get("type") == "se_a_mask"
    return isinstance(descriptor, DescrptMask)
