# SPDX-License-Identifier: LGPL-3.0-or-later
"""Run ``dp`` with the built-in se_a_mask, given the one thing that a comparison needs.

The built-in cannot start from a frozen model: it looks for statistics that it never wrote,
and for timesteps that freezing has removed because no layer uses them.
"""

import os
from collections import defaultdict

os.environ["DP_MASK"] = "builtin"

from deepmd.main import main
from deepmd.tf.descriptor.se_a_mask import DescrptSeAMask
from deepmd.tf.utils.graph import get_embedding_net_variables_from_graph_def


def init_variables(self, graph, graph_def, suffix=""):
    found = get_embedding_net_variables_from_graph_def(graph_def, suffix=suffix)
    self.embedding_net_variables = defaultdict(float, found)


DescrptSeAMask.init_variables = init_variables

if __name__ == "__main__":
    main()
