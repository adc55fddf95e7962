# SPDX-License-Identifier: LGPL-3.0-or-later
"""The real atoms of a batch, in the graph."""

from typing import NamedTuple

from deepmd.tf.env import tf


class RealAtoms(NamedTuple):
    """The real atoms of a batch, as op/kernels.h describes them, for the graph.

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
        return self.slot // tf.shape(self.types, out_type=tf.int64)[1]

    def type_first(self) -> tf.Tensor:
        """[ntypes + 1] int64, the row of the first atom of each type."""
        return self.first[:: self.nframes]

    def of_type(self, values: tf.Tensor) -> tf.Tensor:
        """[size], of values [ntypes] that of each atom's type."""
        return tf.gather(values, tf.gather(tf.reshape(self.types, [-1]), self.slot))

    def to_slots(self, values: tf.Tensor) -> tf.Tensor:
        """Spread values [size] over all slots, [nframes, nslots]; virtual atoms get 0."""
        nslots = tf.size(self.types, out_type=tf.int64)  # of all frames
        spread = tf.scatter_nd(self.slot[:, None], values, nslots[None])
        return tf.reshape(spread, tf.shape(self.types))

    def sum_of_frames(self, values: tf.Tensor) -> tf.Tensor:
        """Add up values [size] to [nframes], in an order that padding does not change."""
        return tf.math.unsorted_segment_sum(values, self.frame(), self.nframes)
