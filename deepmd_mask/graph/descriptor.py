# SPDX-License-Identifier: LGPL-3.0-or-later
"""The descriptor se_a_mask, D_i = X_i^T X_i[:, :M2]."""

import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NoReturn

import numpy as np
from deepmd.tf import __version__ as deepmd_version
from deepmd.tf.common import get_precision
from deepmd.tf.descriptor.se import DescrptSe
from deepmd.tf.env import GLOBAL_TF_FLOAT_PRECISION, tf
from deepmd.tf.utils.graph import get_embedding_net_variables_from_graph_def
from deepmd.utils.data_system import DeepmdDataSystem

from ..data.training import auto_sel, scan_systems
from ..shared.input_arguments import SPREAD, STARTS
from ..shared.options import REFUSALS, require_descriptor_options
from ..shared.pair_nets import PairNets
from . import ops
from .embedding_net import NetShape, Seed, net_variables
from .real_atoms import RealAtoms, on_host
from .spread import Span, spans
from .table import Table, table_of_model

VERSIONS = {"deepmd-mask": version("deepmd-mask"), "DeePMD-kit": deepmd_version}


class DescrptMask(DescrptSe):
    """DeepPot-SE without cutoff, on the real atoms of padded frames.

    Parameters are those of DeePMD-kit's ``se_a_mask``; its documentation explains them.

    Parameters
    ----------
    sel
        Largest number of real atoms of each type; their sum is the normalisation n.
    neuron
        Width of each layer of the embedding nets.
    axis_neuron
        M2, the number of columns of X_i in the second factor of D_i.
    resnet_dt
        Whether skip connections have a trained timestep.
    trainable
        Whether training changes the embedding nets.
    type_one_side
        One net for each type of neighbour, instead of one for each pair of types.
    exclude_types
        Pairs of types that do not see each other.
    seed
        Of the nets' first parameters.
    activation_function
        Of the embedding nets.
    precision
        Of the embedding nets: "float64", "float32" or "default".
    uniform_seed
        Whether all variables share one seed, for old inputs.
    start
        How the nets' first layers are drawn: "spread" over the distances that occur in the data,
        or "normal", with the numbers that the built-in draws.
    even_steps
        Whether training steps the first layers of the fitting nets in coordinates in which D
        spreads evenly.
    ntypes, spin, kwargs
        What DeePMD-kit adds.

    Raises
    ------
    ValueError
        If an option is not one that se_a_mask has.
    """

    def __init__(
        self,
        sel: Sequence[int] | str,
        neuron: Sequence[int] = (24, 48, 96),
        axis_neuron: int = 8,
        resnet_dt: bool = False,
        trainable: bool = True,
        type_one_side: bool = False,
        exclude_types: Sequence[Sequence[int]] = (),
        seed: int | None = None,
        activation_function: str | None = "tanh",
        precision: str = "default",
        uniform_seed: bool = False,
        start: str = SPREAD,
        even_steps: bool = False,
        ntypes: int | None = None,
        spin: Any = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(sel, str):
            msg = (
                f'se_a_mask: sel is "{sel}", but the neighbour statistics that set it were '
                "skipped; write a list, or leave out --skip-neighbor-stat"
            )
            raise ValueError(msg)
        if spin is not None:
            raise ValueError(REFUSALS["spin"].message)
        require_descriptor_options(
            sel, ntypes or 0, neuron, axis_neuron, activation_function, precision, exclude_types
        )
        if start not in STARTS:
            raise ValueError(f'se_a_mask: start is "{start}"; it is one of {", ".join(STARTS)}')
        self.sel_a = list(sel)
        self.ntypes = len(sel)
        self.filter_precision = get_precision(precision)
        self.n_axis_neuron = axis_neuron
        excluded = {(i, j) for pair in exclude_types for i, j in (pair, pair[::-1])}
        self.pair_nets = PairNets(self.ntypes, type_one_side, excluded)
        self.shape = NetShape(
            list(neuron), resnet_dt, activation_function or "none", self.filter_precision, trainable
        )
        self.seed = Seed(seed, uniform_seed)
        self.start = start
        self.even_steps = even_steps
        self.spans: list[Span] | None = None  # unknown until there are data
        self.embedding_net_variables: dict[str, np.ndarray] | None = None
        self.table: Table | None = None  # of a compressed model

    # ---- What DeePMD-kit asks of a descriptor --------------------------------------------------

    def get_rcut(self) -> float:
        """Return -1, as the built-in does: there is no cutoff."""
        return -1.0

    def get_ntypes(self) -> int:
        """Return the number of types."""
        return self.ntypes

    def get_dim_out(self) -> int:
        """Return M1 * M2, the length of D_i."""
        return self.shape.neuron[-1] * self.n_axis_neuron

    def compute_input_stats(
        self,
        coord: list[np.ndarray],
        box: list[np.ndarray],
        types: list[np.ndarray],
        natoms: list[np.ndarray],
        mesh: list[np.ndarray],
        inputs: dict[str, list[np.ndarray]],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Find what nets start from; the environment matrix of se_a_mask is not normalised."""
        if self.start == SPREAD:
            self.spans = spans(self.pair_nets, coord, types, inputs["aparam"])

    def enable_mixed_precision(self, mixed_prec: dict | None = None) -> NoReturn:
        """Refuse mixed precision."""
        raise NotImplementedError(REFUSALS["mixed_precision"].message)

    @classmethod
    def deserialize(cls, data: dict, suffix: str = "") -> NoReturn:
        """Refuse: what DeePMD-kit's backends share has no mask."""
        msg = "se_a_mask: no backend of DeePMD-kit but TensorFlow has it; take the .pb file"
        raise NotImplementedError(msg)

    @classmethod
    def update_sel(
        cls, train_data: DeepmdDataSystem, type_map: list[str] | None, local_jdata: dict
    ) -> tuple[dict, float | None]:
        """Find the shortest distance between real atoms and, for "auto", set sel from the data.

        Parameters
        ----------
        train_data
            The training systems.
        type_map
            Of the model.
        local_jdata
            The descriptor's section of the input; not changed.

        Returns
        -------
        dict
            The section with a list as sel.
        float
            The shortest distance; None if no frame has two real atoms.
        """
        summary = scan_systems(train_data.system_dirs, type_map)
        local_jdata = dict(local_jdata)
        if isinstance(local_jdata["sel"], str):
            local_jdata["sel"] = auto_sel(local_jdata["sel"], summary.max_count)
        shortest = summary.min_distance
        return local_jdata, shortest if np.isfinite(shortest) else None

    # ---- Graph ---------------------------------------------------------------------------------

    def build(
        self,
        coord_: tf.Tensor,
        atype_: tf.Tensor,
        natoms: tf.Tensor,
        box_: tf.Tensor,
        mesh: tf.Tensor,
        input_dict: dict[str, Any],
        reuse: bool | None = None,
        suffix: str = "",
    ) -> tf.Tensor:
        """Build the descriptor's graph.

        Parameters
        ----------
        coord_, atype_, natoms, box_, mesh, input_dict, reuse, suffix
            As in build_atoms.

        Returns
        -------
        tf.Tensor
            D [real atoms, M1 * M2], in the precision of the embedding nets.
        """
        self.build_atoms(coord_, atype_, natoms, box_, mesh, input_dict, reuse, suffix)
        self.X = ops.embed(*self._embed_inputs, self._parameters, **self._attributes())
        tf.summary.histogram("X", self.X)
        self.D = ops.contract(self.X, self.X, M2=self.n_axis_neuron)
        tf.summary.histogram("embedding_net_output", self.D)
        return self.D

    def build_atoms(
        self,
        coord_: tf.Tensor,
        atype_: tf.Tensor,
        natoms: tf.Tensor,
        box_: tf.Tensor,
        mesh: tf.Tensor,
        input_dict: dict[str, Any],
        reuse: bool | None = None,
        suffix: str = "",
    ) -> None:
        """Build the graph of what comes before X, the real atoms and the series of the nets.

        Parameters
        ----------
        coord_
            Coordinates; any shape of nframes * nslots * 3.
        atype_
            Types; any shape of nframes * nslots.
        natoms
            Its first two entries are the slots of this process and all slots, which the operator
            requires to be the same.
        box_
            Without effect: there are no periodic images.
        mesh
            Its size tells whether the input is periodic, which the operator refuses.
        input_dict
            "aparam" is the mask; "real_atoms" is set for the fitting net.
        reuse
            Whether to reuse variables.
        suffix
            End of the scopes' names.
        """
        # MD engines know the mask of their own atoms, not that of ghosts. So they are told that it
        # needs no more, and ops.real_atoms can say what is wrong with ghosts.
        tf.constant(False, name=f"fitting_attr{suffix}/aparam_nall")
        with tf.variable_scope(f"descrpt_attr{suffix}", reuse=reuse):
            tf.constant(self.get_rcut(), name="rcut", dtype=GLOBAL_TF_FLOAT_PRECISION)
            tf.constant(self.ntypes, name="ntypes", dtype=tf.int32)
            sel = tf.constant(self.sel_a, name="sel", dtype=tf.int32)
            made_by = tf.constant(json.dumps(VERSIONS), name="made_by", dtype=tf.string)
        # Freezing keeps what others depend on; t_box, sel and made_by are read by name.
        with on_host(coord_), tf.control_dependencies([sel, made_by, box_]):
            coord = tf.reshape(coord_, [-1, natoms[1] * 3])
        with on_host(atype_):
            types = tf.reshape(atype_, [-1, natoms[1]])
        with on_host():
            mask = tf.reshape(input_dict["aparam"], [-1, natoms[0]])
        with on_host(coord, types, mask):
            coord, mask = (tf.cast(x, tf.float64) for x in (coord, mask))
            sizes = tf.stack([natoms[0], tf.size(mesh)])
            self._frames = coord, types, mask, sizes
            slot, weight, first = ops.real_atoms(*self._frames, sel=self.sel_a)
            self.real_atoms = RealAtoms(slot, weight, first, types)
        input_dict["real_atoms"] = self.real_atoms
        atoms = [coord, *self.real_atoms[:3]]
        if self.table is None:
            self._parameters = self._variables(suffix, reuse)
            series = ops.fit_series(*atoms, self._parameters, **self._attributes())
        else:
            self._parameters = []
            series = self.table.constants(f"descrpt_attr{suffix}", self.real_atoms.first)
        self._embed_inputs = [*atoms, *series]

    def prod_force_virial(
        self, atom_ener: tf.Tensor, natoms: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Build the graph of forces and virials.

        Parameters
        ----------
        atom_ener
            The atomic energies.
        natoms
            Not used.

        Returns
        -------
        force : tf.Tensor
            [nframes, nslots * 3]
        virial : tf.Tensor
            [nframes, 9]
        atom_virial : tf.Tensor
            [nframes, nslots * 9]
        """
        [A] = tf.gradients(atom_ener, self.X)
        tf.summary.histogram("net_derivative", A)
        outputs = ops.force(*self._embed_inputs, A, self._parameters, **self._attributes())
        for name, output in zip(("force", "virial", "atom_virial"), outputs, strict=True):
            tf.summary.histogram(name, output)
        return tuple(tf.cast(output, GLOBAL_TF_FLOAT_PRECISION) for output in outputs)

    def potential(
        self, nets: list[tf.Tensor], bias: tf.Tensor, attributes: dict[str, Any]
    ) -> tuple[tf.Tensor, ...]:
        """Build the graph of energies and forces as one operator, without gradients.

        Parameters
        ----------
        nets
            The parameters of the fitting nets, in the order of op/kernels/fitting.h.
        bias
            [ntypes] float64, what an atom of each type has beside F(D).
        attributes
            Of the fitting nets.

        Returns
        -------
        tuple of tf.Tensor
            The operator's outputs: energy, atom_energy, force, virial, atom_virial.
        """
        return ops.potential(
            *self._embed_inputs,
            bias,
            nets,
            self._parameters,
            **self._potential_attributes(attributes),
        )

    def weighted_potential(
        self, groups: tf.Tensor, nets: list[tf.Tensor], bias: tf.Tensor, attributes: dict[str, Any]
    ) -> tuple[tf.Tensor, ...]:
        """Build the same for atoms of groups, whose weights may be fractions.

        Parameters
        ----------
        groups
            The group of each atom; any shape of nframes * nslots, int64.
        nets, bias, attributes
            As in potential.

        Returns
        -------
        tuple of tf.Tensor
            Those of potential, and weight_gradient, dE/dw [nframes, nslots].
        """
        with on_host(*self._frames):
            groups = tf.reshape(groups, tf.shape(self._frames[1]))
            *atoms, group = ops.real_atoms_of_groups(*self._frames, groups, sel=self.sel_a)
        coord, *series = self._embed_inputs[0], *self._embed_inputs[len(atoms) + 1 :]
        return ops.weighted_potential(
            coord,
            *atoms,
            *series,
            bias,
            group,
            nets,
            self._parameters,
            **self._potential_attributes(attributes),
        )

    def _potential_attributes(self, of_fitting: dict[str, Any]) -> dict[str, Any]:
        """Return the attributes of the operators for a whole model."""
        fitting = {f"fitting_{name}": value for name, value in of_fitting.items()}
        return {"M2": self.n_axis_neuron, **self._attributes(), **fitting}

    def _attributes(self) -> dict[str, Any]:
        """Return the operators' attributes."""
        return {
            "neuron": self.shape.neuron,
            "resnet_dt": self.shape.resnet_dt,
            "activation": self.shape.activation,
            "net": self.pair_nets.of_pairs(),
            "n": float(sum(self.sel_a)),
        }

    def _variables(self, suffix: str, reuse: bool | None) -> list[tf.Variable]:
        """Create the variables of all nets, under the names of the built-in."""
        variables = []
        names = self.pair_nets.names()
        unknown: list[Span | None] = [None] * len(names)
        for (i, j), span in zip(names, self.spans or unknown, strict=True):
            with tf.variable_scope(f"filter_type_{i}{suffix}", reuse=reuse):
                variables += net_variables(
                    self.shape, f"_{j}", self.seed, self.embedding_net_variables, span
                )
        return variables

    # ---- Starting from a frozen model --------------------------------------------------------

    def init_variables(self, graph: tf.Graph, graph_def: tf.GraphDef, suffix: str = "") -> None:
        """Take the parameters of a frozen model as those to start from.

        Parameters
        ----------
        graph, graph_def
            The frozen model, of this plugin or of the built-in; start.py has compared it.
        suffix
            End of the scopes' names.
        """
        self.embedding_net_variables = get_embedding_net_variables_from_graph_def(
            graph_def, suffix=suffix
        )

    # ---- Compression -------------------------------------------------------------------------

    def enable_compression(
        self,
        min_nbor_dist: float,
        graph: tf.Graph,
        graph_def: tf.GraphDef,
        table_extrapolate: float = 5,
        table_stride_1: float = 0.01,
        table_stride_2: float = 0.1,
        check_frequency: int = -1,
        suffix: str = "",
    ) -> None:
        """Put a table in the place of the embedding nets of a frozen model.

        Parameters
        ----------
        min_nbor_dist
            The shortest distance between two real atoms of the training data, in the length unit.
        graph, graph_def
            The frozen model.
        table_extrapolate
            The table ends at this times 1/min_nbor_dist.
        table_stride_1
            No panel of the table is narrower than this, in 1/(length unit).
        table_stride_2, check_frequency
            Without effect: the table has no coarser part, and a defined course beyond its end.
        suffix
            End of the scopes' names.

        Raises
        ------
        ValueError
            If min_nbor_dist is not a distance, or the model has no embedding nets.
        """
        self.init_variables(graph, graph_def, suffix)
        with tf.Graph().as_default():  # for the names, in their order
            names = [variable.op.name for variable in self._variables(suffix, reuse=None)]
        self.table = table_of_model(
            self.shape,
            names,
            self.embedding_net_variables or {},
            min_nbor_dist,
            table_extrapolate,
            table_stride_1,
        )
