# SPDX-License-Identifier: LGPL-3.0-or-later
"""Graphs of small models that are ready sooner, since building them is what takes time.

Without the means and histograms of each variable, which only TensorBoard shows: a third of the
operations. And run as they are built: TensorFlow's optimizer of graphs takes longer than the few
steps that it makes faster. Where the operators of this package are what is tested, it stays.
What DeePMD-kit allows in an input, ten thousand arguments, is made once, not for each input.
"""

from contextlib import contextmanager
from functools import cache

from deepmd.tf.train import trainer
from deepmd.tf.utils.network import variable_summaries
from deepmd.utils import argcheck

argcheck.gen_args = cache(argcheck.gen_args)  # nobody changes it, and defaults are copied

_CODE = variable_summaries.__code__
_session_config = trainer.get_tf_session_config


def _nothing(var, name):
    """Take the place of variable_summaries."""


def leave_out_summaries(leave_out=True):
    """Let variable_summaries add nothing, whatever name a module has for it; or let it be."""
    variable_summaries.__code__ = _nothing.__code__ if leave_out else _CODE


def _plain_session_config():
    config = _session_config()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config


@contextmanager
def as_built():
    """Let training run graphs as they are built."""
    trainer.get_tf_session_config = _plain_session_config
    try:
        yield
    finally:
        trainer.get_tf_session_config = _session_config
