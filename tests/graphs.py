# SPDX-License-Identifier: LGPL-3.0-or-later
"""Graphs without the means and histograms of each variable, which only TensorBoard shows.

They are a third of the operations of a small model's graph, and building it is what takes time.
"""

from deepmd.tf.utils.network import variable_summaries

_CODE = variable_summaries.__code__


def _nothing(var, name):
    """Take the place of variable_summaries."""


def leave_out_summaries(leave_out=True):
    """Let variable_summaries add nothing, whatever name a module has for it; or let it be."""
    variable_summaries.__code__ = _nothing.__code__ if leave_out else _CODE
