# SPDX-License-Identifier: LGPL-3.0-or-later
"""Which embedding net serves which pair of types."""

from typing import NamedTuple

import numpy as np


class PairNets(NamedTuple):
    """Which net serves which pair of types.

    Attributes
    ----------
    ntypes
        Number of types.
    one_side
        Whether nets depend on the type of the neighbour alone.
    excluded
        Pairs that have none.
    """

    ntypes: int
    one_side: bool
    excluded: set[tuple[int, int]]

    def names(self) -> list[tuple[str, int]]:
        """Return for each net what its variables are called after: two types, or "all" and one."""
        if self.one_side:
            return [("all", j) for j in range(self.ntypes)]
        pairs = np.ndindex(self.ntypes, self.ntypes)
        return [(str(i), j) for i, j in pairs if (i, j) not in self.excluded]

    def of_pairs(self) -> list[int]:
        """Return the number of the net of each (t_i, t_j), t_j running faster; -1 if excluded."""
        number = {name: k for k, name in enumerate(self.names())}
        return [
            -1 if (i, j) in self.excluded else number["all" if self.one_side else str(i), j]
            for i, j in np.ndindex(self.ntypes, self.ntypes)
        ]
