# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a model's energies have beside F(D), put into the last layers of F and a bias of each type.

The energy of an atom of type t is std_t (F_t(D) - F_t(0) + b_t) + shift_t: F_t(0) only where the
energy of an atom in vacuum was given, std and shift where DeePMD-kit has them, from version 3 on.
A graph on this package's operators tells all of it; for one of the built-in, its training input and
the names of its variables do.
"""

import numpy as np

from .._kernels import Fitting32, Fitting64
from ..frozen.description import Description
from ..frozen.model_file import FrozenModel
from .energy_formula import EnergyFormula
from .parts import Nets, Parts


def energy_terms(
    model: FrozenModel, found: Description, parts: Parts
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the parameters of fitting nets and the bias that give a model's energies.

    Parameters
    ----------
    model, found, parts
        The model.

    Returns
    -------
    parameters : list of np.ndarray
        In the order of op/kernels/fitting.h.
    bias : np.ndarray
        [ntypes] float64

    Raises
    ------
    ValueError
        If it lacks a variable, or has one of another size.
    """
    terms = _Terms(model, len(found.sel or ()))
    fitting = terms.without_mask_as_input(parts.fitting)
    ninputs = parts.embedding.neuron[-1] * parts.M2
    std = terms.of_output("t_out_std", 1.0)
    if found.operators == "deepmd-mask":
        formula = EnergyFormula(model, terms.ntypes, lambda: terms.of_vacuum(fitting, ninputs))
        scale, bias = formula.evaluate()
        std = std if scale is None else scale
    else:
        bias = terms.of_types("fitting_attr/t_bias_atom_e")
        given = found.fitting_options["atom_ener"]
        assigned = [t < len(given) and given[t] is not None for t in range(terms.ntypes)]
        if any(assigned):
            bias = bias - np.where(assigned, terms.of_vacuum(fitting, ninputs), 0.0)
        bias = bias * std + terms.of_output("t_out_bias", 0.0)
    of_net = terms.of_net(fitting)
    parameters = [
        # Matrix and bias of the last layer end a net's list.
        p * std[k // of_net].astype(p.dtype) if k % of_net >= of_net - 2 else p
        for k, p in enumerate(fitting.parameters)
    ]
    return parameters, bias.astype(np.float64)


class _Terms:
    """The terms of one model."""

    def __init__(self, model: FrozenModel, ntypes: int) -> None:
        self.model, self.ntypes = model, ntypes

    def of_types(self, name: str) -> np.ndarray:
        """Return a constant that is [ntypes]."""
        values = self.model.constant(name)
        if values is None or values.size != self.ntypes:
            size = "not there" if values is None else f"of size {values.size}"
            raise ValueError(f"{name} is {size}, but there are {self.ntypes} types")
        return values.ravel()

    def of_output(self, name: str, default: float) -> np.ndarray:
        """Return the scale or the shift of each type."""
        found = [node for node in self.model.nodes if node.endswith(f"/{name}")]
        return self.of_types(found[0]) if found else np.full(self.ntypes, default)

    def of_net(self, nets: Nets) -> int:
        """Return how many parameters a net has."""
        of_net, rest = divmod(len(nets.parameters), self.ntypes)
        if rest or of_net < 2:
            raise ValueError(f"it has {len(nets.parameters)} parameters of {self.ntypes} nets")
        return of_net

    def without_mask_as_input(self, nets: Nets) -> Nets:
        """Return nets of D alone; the mask, where they take it besides, is always 1."""
        mean = self.model.number("fitting_attr/t_aparam_avg")
        inverse_std = self.model.number("fitting_attr/t_aparam_istd")
        if mean is None or inverse_std is None:
            return nets
        parameters = list(nets.parameters)
        for k in range(0, len(parameters), self.of_net(nets)):
            matrix, bias = parameters[k : k + 2]
            value = bias.dtype.type((1.0 - mean) * inverse_std)
            parameters[k : k + 2] = matrix[:-1], bias + matrix[-1] * value
        return nets._replace(parameters=parameters)

    def of_vacuum(self, nets: Nets, ninputs: int) -> np.ndarray:
        """Return F(0) of each type, [ntypes]."""
        matrix = nets.parameters[0]
        if len(matrix) != ninputs:
            raise ValueError(f"its fitting nets have {len(matrix)} inputs, and D {ninputs} numbers")
        single = matrix.dtype == np.float32
        kernels = (Fitting32 if single else Fitting64)(
            np.arange(self.ntypes + 1),
            np.zeros((self.ntypes, ninputs), matrix.dtype),
            neuron=nets.neuron,
            resnet_dt=nets.resnet_dt,
            activation=nets.activation,
            parameters=nets.parameters,
        )
        return kernels.energies()[0].astype(np.float64)
