# SPDX-License-Identifier: LGPL-3.0-or-later
"""The energy fitting net on real atoms only, e_i = F_{t_i}(D_i) + b_{t_i}."""

from typing import Any

import numpy as np
from deepmd.tf.env import GLOBAL_TF_FLOAT_PRECISION, tf
from deepmd.tf.fit.ener import EnerFitting

from .descriptor import RealAtoms


class MaskEnerFitting(EnerFitting):
    """EnerFitting that skips virtual atoms, if the descriptor is se_a_mask; else EnerFitting."""

    def build(
        self,
        inputs: tf.Tensor,
        natoms: tf.Tensor,
        input_dict: dict[str, Any] | None = None,
        reuse: bool | None = None,
        suffix: str = "",
    ) -> tf.Tensor:
        """Build the graph of the atomic energies.

        Parameters
        ----------
        inputs
            D [real atoms, M1 * M2], sorted by type.
        natoms
            Its first entry is the number of slots with energies, nloc.
        input_dict
            "real_atoms" as DescrptMask sets it; "fparam" and "aparam" if the net takes them.
        reuse
            Whether to reuse variables.
        suffix
            End of the scopes' names.

        Returns
        -------
        tf.Tensor
            e [nframes * nloc]; 0 for virtual atoms.
        """
        atoms = (input_dict or {}).get("real_atoms")
        if atoms is None:
            return super().build(inputs, natoms, input_dict, reuse=reuse, suffix=suffix)
        self._attribute_variables(suffix, reuse)
        fparam, aparam = self._frame_and_atom_parameters(atoms, input_dict, suffix, reuse)
        D, fparam, aparam = (atoms.by_type(values) for values in (inputs, fparam, aparam))
        energies = [
            self._energy_of_type(t, D[t], fparam[t], aparam[t], suffix, reuse)
            for t in range(self.ntypes)
        ]
        e = tf.cast(tf.concat(energies, axis=0), GLOBAL_TF_FLOAT_PRECISION)
        if self.tot_ener_zero:
            e -= self._mean_of_frame(atoms, e)
        tf.summary.histogram("fitting_net_output", e)
        weighted = e * tf.cast(atoms.weight, e.dtype)
        return tf.reshape(atoms.to_slots(weighted)[:, : natoms[0]], [-1])

    def _energy_of_type(
        self,
        t: int,
        D: tf.Tensor,
        fparam: tf.Tensor | None,
        aparam: tf.Tensor | None,
        suffix: str,
        reuse: bool | None,
    ) -> tf.Tensor:
        """Return e [atoms of the type].

        DeePMD-kit's layers take [frames, atoms, M1 * M2]; here each atom is a frame of its own,
        so that it gets the frame parameters of its real frame.
        """

        def layers(D: tf.Tensor, reuse: bool | None) -> tf.Tensor:
            out = self._build_lower(
                0,
                1,
                D[:, None],
                fparam,
                aparam,
                type_suffix=f"_type_{t}",
                suffix=suffix,
                reuse=reuse,
            )
            return tf.reshape(out, [-1])

        e = layers(D, reuse)
        if t < len(self.atom_ener) and self.atom_ener[t] is not None:
            e -= layers(tf.zeros_like(D), reuse=True)  # the bias is then the atom in vacuum
        return e + self.t_bias_atom_e[t]

    def _mean_of_frame(self, atoms: RealAtoms, e: tf.Tensor) -> tf.Tensor:
        """Return, for each atom, the mean of e over the real atoms of its frame."""
        frame = atoms.frame()
        total = tf.math.unsorted_segment_mean(e, frame, atoms.nframes)
        return tf.gather(total, frame)

    def _attribute_variables(self, suffix: str, reuse: bool | None) -> None:
        """Create what every frozen energy model carries."""
        with tf.variable_scope(f"fitting_attr{suffix}", reuse=reuse):
            tf.constant(self.numb_fparam, name="dfparam", dtype=tf.int32)
            tf.constant(self.numb_aparam, name="daparam", dtype=tf.int32)
            self.t_bias_atom_e = _fixed("t_bias_atom_e", self.bias_atom_e)

    def _frame_and_atom_parameters(
        self, atoms: RealAtoms, input_dict: dict[str, Any], suffix: str, reuse: bool | None
    ) -> tuple[tf.Tensor | None, tf.Tensor | None]:
        """Return the normalised parameters of each real atom, each None if the net has none."""
        fparam = aparam = None
        with tf.variable_scope(f"fitting_attr{suffix}", reuse=reuse):
            if self.numb_fparam > 0:
                fparam = tf.reshape(input_dict["fparam"], [-1, self.numb_fparam])
                fparam = tf.gather(
                    _normalised("fparam", fparam, self.fparam_avg, self.fparam_inv_std),
                    atoms.frame(),
                )
            if self.numb_aparam > 0 and not self.use_aparam_as_mask:
                aparam = tf.reshape(input_dict["aparam"], [-1, self.numb_aparam])
                aparam = tf.gather(
                    _normalised("aparam", aparam, self.aparam_avg, self.aparam_inv_std), atoms.slot
                )
        return fparam, aparam


def _fixed(name: str, value: np.ndarray) -> tf.Variable:
    """Create a variable that training leaves alone."""
    return tf.get_variable(
        name,
        np.shape(value),
        GLOBAL_TF_FLOAT_PRECISION,
        tf.constant_initializer(value),
        trainable=False,
    )


def _normalised(
    name: str, values: tf.Tensor, average: np.ndarray | None, inverse_std: np.ndarray | None
) -> tf.Tensor:
    """Return (values - average) / standard deviation, over the last axis of values [:, width]."""
    width = values.shape[1]
    average = np.zeros(width) if average is None else np.reshape(average, width)
    inverse_std = np.ones(width) if inverse_std is None else np.reshape(inverse_std, width)
    shift = _fixed(f"t_{name}_avg", average)
    scale = _fixed(f"t_{name}_istd", inverse_std)
    return (values - shift) * scale
