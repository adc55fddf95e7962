# SPDX-License-Identifier: LGPL-3.0-or-later
"""The real atoms of a batch, in the graph."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from deepmd.tf.env import tf


@contextmanager
def on_host(*beside: tf.Tensor) -> Iterator[None]:
    """Build on the host, also where TensorFlow computes on a GPU, and beside other tensors.

    So is built what is known of the real atoms before anything is computed for them: the host
    checks it and needs their numbers. Freezing drops the devices of a model's nodes, but not what
    they are beside. Inputs or outputs of the operator RealAtoms therefore belong into `beside`: it
    has a kernel for the host alone, and what is beside it follows.
    """
    with ExitStack() as stack:
        for tensor in beside:
            stack.enter_context(tf.get_default_graph().colocate_with(tensor.op))
        stack.enter_context(tf.device("/CPU:0"))
        yield


class RealAtoms(NamedTuple):
    """The real atoms of a batch, as op/kernels/atoms.h describes them, for the graph.

    Attributes
    ----------
    slot
        [size] int64, frame * nslots + slot, sorted by type, then frame, then slot.
    weight
        [size] float64, the mask of each atom.
    first
        [ntypes * nframes + 1] int64, the row of the first atom of each type in each frame.
    types
        [nframes, nslots] int32, of all slots.
    """

    slot: tf.Tensor
    weight: tf.Tensor
    first: tf.Tensor
    types: tf.Tensor

    @property
    def nframes(self) -> tf.Tensor:
        """Number of frames."""
        return tf.shape(self.types)[0]

    def frame(self) -> tf.Tensor:
        """[size] int64, the frame of each atom."""
        with on_host(self.slot):
            return self.slot // tf.shape(self.types, out_type=tf.int64)[1]

    def type_first(self) -> tf.Tensor:
        """[ntypes + 1] int64, the row of the first atom of each type."""
        with on_host(self.first):
            return self.first[:: self.nframes]

    def of_type(self, values: tf.Tensor) -> tf.Tensor:
        """[size], of values [ntypes] that of each atom's type."""
        with on_host(self.slot):
            type_of_atom = tf.gather(tf.reshape(self.types, [-1]), self.slot)
        return tf.gather(values, type_of_atom)

    def to_slots(self, values: tf.Tensor) -> tf.Tensor:
        """Spread values [size] over all slots, [nframes, nslots]; virtual atoms get 0."""
        with on_host(self.types):
            nslots = tf.size(self.types)  # of all frames
        # Each slot has one atom at most; scatter_nd takes ten times as long.
        spread = tf.math.unsorted_segment_sum(values, self.slot, nslots)
        return tf.reshape(spread, tf.shape(self.types))

    def sum_of_frames(self, values: tf.Tensor) -> tf.Tensor:
        """Add up values [size] to [nframes], in an order that padding does not change."""
        return tf.math.unsorted_segment_sum(values, self.frame(), self.nframes)
