# SPDX-License-Identifier: LGPL-3.0-or-later
"""The real atoms of a batch, in the graph."""

from typing import NamedTuple

from deepmd.tf.env import tf

# What is known of the real atoms before anything is computed for them stays with the host, which
# checks it and needs their numbers, also where TensorFlow computes on a GPU.
HOST = "/CPU:0"


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
    nframes, nslots
        Scalars.
    ntypes
        Number of types.
    """

    slot: tf.Tensor
    weight: tf.Tensor
    first: tf.Tensor
    nframes: tf.Tensor
    nslots: tf.Tensor
    ntypes: int

    def frame(self) -> tf.Tensor:
        """[size] int64, the frame of each atom."""
        with tf.device(HOST):
            return self.slot // tf.cast(self.nslots, tf.int64)

    def type_first(self) -> tf.Tensor:
        """[ntypes + 1] int64, the row of the first atom of each type."""
        with tf.device(HOST):
            return self.first[:: self.nframes]

    def type(self) -> tf.Tensor:
        """[size] int32, the type of each atom."""
        type_first = self.type_first()
        with tf.device(HOST):
            return tf.repeat(tf.range(self.ntypes), type_first[1:] - type_first[:-1])

    def to_slots(self, values: tf.Tensor) -> tf.Tensor:
        """Spread values [size] over all slots, [nframes, nslots]; virtual atoms get 0."""
        size = tf.cast(self.nframes, tf.int64) * tf.cast(self.nslots, tf.int64)
        spread = tf.scatter_nd(self.slot[:, None], values, size[None])
        return tf.reshape(spread, [self.nframes, self.nslots])

    def from_slots(self, values: tf.Tensor) -> tf.Tensor:
        """Pick values [size] of the real atoms out of [nframes, nslots]."""
        return tf.gather(tf.reshape(values, [-1]), self.slot)

    def sum_of_frames(self, values: tf.Tensor) -> tf.Tensor:
        """Add up values [size] to [nframes], in an order that padding does not change."""
        return tf.math.unsorted_segment_sum(values, self.frame(), self.nframes)
