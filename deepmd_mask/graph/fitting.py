# SPDX-License-Identifier: LGPL-3.0-or-later
"""The energy fitting net on real atoms only, e_i = F_{t_i}(D_i) + b_{t_i}."""

from itertools import pairwise, product
from typing import Any

import numpy as np
from deepmd.tf.env import GLOBAL_TF_FLOAT_PRECISION, tf
from deepmd.tf.fit.ener import EnerFitting
from deepmd.tf.utils.network import variable_summaries

from ..shared.options import require_precision
from . import ops
from .real_atoms import RealAtoms

MASK_FITTING = "ener_of_real_atoms"  # in DeePMD-kit's registry; in inputs it is "ener"


class MaskEnerFitting(EnerFitting):
    """EnerFitting on the real atoms of se_a_mask."""

    def build(
        self,
        inputs: tf.Tensor,
        natoms: tf.Tensor,
        input_dict: dict[str, Any],
        reuse: bool | None = None,
        suffix: str = "",
    ) -> tf.Tensor:
        """Build the graph of the atomic energies.

        Parameters
        ----------
        inputs
            D [real atoms, M1 * M2], sorted by type.
        natoms
            Without effect.
        input_dict
            "real_atoms" as DescrptMask sets it; "fparam" and "aparam" if the net takes them.
        reuse
            Whether to reuse variables.
        suffix
            End of the scopes' names.

        Returns
        -------
        tf.Tensor
            e [real atoms], times the mask.

        Raises
        ------
        ValueError
            If the precision is neither float64 nor float32.
        """
        atoms = input_dict["real_atoms"]
        require_precision(self.fitting_precision.name, "fitting_net")
        self._attribute_variables(suffix, reuse)
        per_atom = self._frame_and_atom_parameters(atoms, input_dict, suffix, reuse)
        width = self.dim_descrpt + sum(int(values.shape[1]) for values in per_atom)
        parameters = self._parameters(width, suffix, reuse)
        first = atoms.type_first()
        e = self._energies(first, parameters, [inputs, *per_atom])
        if self.atom_ener:  # the energy bias is then that of the atom in vacuum
            vacuum = self._energies(first, parameters, [tf.zeros_like(inputs), *per_atom])
            e -= vacuum * atoms.of_type(self._assigned())
        e += atoms.of_type(self.t_bias_atom_e)
        if self.tot_ener_zero:
            frame = atoms.frame()
            e -= tf.gather(tf.math.unsorted_segment_mean(e, frame, atoms.nframes), frame)
        tf.summary.histogram("fitting_net_output", e)
        return e * tf.cast(atoms.weight, e.dtype)

    def takes_only_D(self) -> bool:
        """Return whether the energy of an atom is F(D) and a constant of its type."""
        takes_aparam = self.numb_aparam > 0 and not self.use_aparam_as_mask
        return not (self.numb_fparam > 0 or takes_aparam or self.tot_ener_zero)

    def build_nets(
        self, reuse: bool | None = None, suffix: str = ""
    ) -> tuple[list[tf.Variable], tf.Tensor]:
        """Build the graph of what the energies are made of, if takes_only_D.

        Parameters
        ----------
        reuse
            Whether to reuse variables.
        suffix
            End of the scopes' names.

        Returns
        -------
        parameters : list of tf.Variable
            Of the nets F, in the order of op/kernels/fitting.h.
        bias : tf.Tensor
            [ntypes], which F(D) is to be shifted by.
        """
        self._attribute_variables(suffix, reuse)
        parameters = self._parameters(self.dim_descrpt, suffix, reuse)
        bias = self.t_bias_atom_e
        if self.atom_ener:
            D = tf.zeros([self.ntypes, self.dim_descrpt], self.fitting_precision)
            vacuum = self._energies(tf.range(self.ntypes + 1, dtype=tf.int64), parameters, [D])
            bias = bias - vacuum * self._assigned()
        return parameters, bias

    def net_attributes(self) -> dict[str, Any]:
        """Return the operators' attributes of the nets."""
        return {
            "neuron": self.n_neuron,
            "resnet_dt": self.resnet_dt,
            "activation": self.activation_function_name or "none",
        }

    def _assigned(self) -> tf.Tensor:
        """[ntypes], 1 for types whose energy in vacuum is given, 0 for the others."""
        given = [
            t < len(self.atom_ener) and self.atom_ener[t] is not None for t in range(self.ntypes)
        ]
        return tf.constant(given, GLOBAL_TF_FLOAT_PRECISION)

    def _energies(
        self, type_first: tf.Tensor, parameters: list[tf.Variable], inputs: list[tf.Tensor]
    ) -> tf.Tensor:
        """Return F, [size], of inputs D and more, each [size, width]."""
        inputs = [tf.cast(values, self.fitting_precision) for values in inputs]
        e, _, _ = ops.energies(
            type_first,
            tf.concat(inputs, axis=1) if len(inputs) > 1 else inputs[0],
            parameters,
            ntypes=self.ntypes,
            **self.net_attributes(),
        )
        return tf.cast(e, GLOBAL_TF_FLOAT_PRECISION)

    def _parameters(self, width: int, suffix: str, reuse: bool | None) -> list[tf.Variable]:
        """Create the variables of all types, under the names and with the seeds of EnerFitting.

        Their order is that of op/kernels/fitting.h.
        """
        sizes = list(pairwise([width, *self.n_neuron, 1]))
        parameters, self.first_layers = [], []
        for t, (k, (inputs, outputs)) in product(range(self.ntypes), enumerate(sizes)):
            name, reuse_layer = self._name_of(k, t, suffix, reuse)
            seed = self._seed_of(k, t)
            has_timestep = self.resnet_dt and 0 < k < len(self.n_neuron) and inputs == outputs
            with tf.variable_scope(name, reuse=reuse_layer):
                spread = 1 / np.sqrt(inputs + outputs)
                parameters += [
                    self._variable(k, "matrix", [inputs, outputs], (0.0, spread), seed[0]),
                    self._variable(k, "bias", [outputs], (0.0, 1.0), seed[1]),
                ]
                if k == 0:
                    self.first_layers.append(tuple(parameters[-2:]))  # matrix and bias
                if has_timestep:
                    idt = self._variable(k, "idt", [outputs], (0.1, 0.001), seed[2])
                    parameters.append(idt)
        return parameters

    def _name_of(self, k: int, t: int, suffix: str, reuse: bool | None) -> tuple[str, bool | None]:
        """Return the scope of layer k of type t, and whether to reuse its variables."""
        shared = self.layer_name[k] if self.layer_name else None
        if shared is not None:
            return f"share_{shared}_type_{t}", tf.AUTO_REUSE
        layer = f"layer_{k}" if k < len(self.n_neuron) else "final_layer"
        return f"{layer}_type_{t}{suffix}", reuse

    def _seed_of(self, k: int, t: int) -> list[int | None]:
        """Return the seeds of matrix, bias and timestep of layer k of type t."""
        if self.seed is None or self.uniform_seed:
            return [self.seed] * 3
        first = self.seed + self.seed_shift * (t * (len(self.n_neuron) + 1) + k)
        return [first, first + 1, first + 2]

    def _variable(
        self, k: int, name: str, size: list[int], normal: tuple[float, float], seed: int | None
    ) -> tf.Variable:
        """Create a parameter of layer k in the current scope.

        Its start is drawn with the given mean and standard deviation, or is that of the frozen
        model to start from.
        """
        initializer = tf.random_normal_initializer(*normal, seed=seed)
        if self.fitting_net_variables is not None:
            start = self.fitting_net_variables[f"{tf.get_variable_scope().name}/{name}"]
            initializer = tf.constant_initializer(start)
        created = tf.get_variable(
            name, size, self.fitting_precision, initializer, trainable=self.trainable[k]
        )
        variable_summaries(created, name)
        return created

    def _attribute_variables(self, suffix: str, reuse: bool | None) -> None:
        """Create what every frozen energy model carries."""
        with tf.variable_scope(f"fitting_attr{suffix}", reuse=reuse):
            tf.constant(self.numb_fparam, name="dfparam", dtype=tf.int32)
            tf.constant(self.numb_aparam, name="daparam", dtype=tf.int32)
            self.t_bias_atom_e = _fixed("t_bias_atom_e", self.bias_atom_e)

    def _frame_and_atom_parameters(
        self, atoms: RealAtoms, input_dict: dict[str, Any], suffix: str, reuse: bool | None
    ) -> list[tf.Tensor]:
        """Return the normalised parameters that the net takes beside D, each [size, width]."""
        found = []
        with tf.variable_scope(f"fitting_attr{suffix}", reuse=reuse):
            if self.numb_fparam > 0:
                values = tf.reshape(input_dict["fparam"], [-1, self.numb_fparam])
                values = _normalised("fparam", values, self.fparam_avg, self.fparam_inv_std)
                found.append(tf.gather(values, atoms.frame()))
            if self.numb_aparam > 0 and not self.use_aparam_as_mask:
                values = tf.reshape(input_dict["aparam"], [-1, self.numb_aparam])
                values = _normalised("aparam", values, self.aparam_avg, self.aparam_inv_std)
                found.append(tf.gather(values, atoms.slot))
        return found


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
