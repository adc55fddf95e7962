# SPDX-License-Identifier: LGPL-3.0-or-later
"""Link atoms: the hydrogen atoms that end bonds which a region cuts.

A link atom L lies on the bond from the inner atom I, a member, to the outer atom O, which is none,
at a fixed distance l from I, as OpenMM-ML places it:

    r_L = r_I + l u,    u = (r_O - r_I) / |r_O - r_I|.

Its force is felt by both, by the chain rule: F_O = l / |r_O - r_I| (1 - u u^T) F_L, and
F_I = F_L - F_O.
"""

from typing import NamedTuple

import numpy as np

# Distances are sums of covalent radii, in pm: P. Pyykkö, M. Atsumi, Chem. Eur. J. 15, 186 (2009),
# 12770 (2009), as OpenMM-ML has them. Metals have none here: to end a bond of theirs with hydrogen
# is seldom meant.
RADII = {
    "H": 32, "B": 77, "C": 75, "N": 71, "O": 63, "F": 64, "Si": 104, "P": 110, "S": 102, "Cl": 99,
    "Ge": 109, "As": 114, "Se": 110, "Br": 113, "I": 132,
}  # fmt: skip
LENGTHS = {symbol: (radius + RADII["H"]) / 1000 for symbol, radius in RADII.items()}  # nm


class PlacedLinks(NamedTuple):
    """Link atoms in one configuration.

    Attributes
    ----------
    row
        [m] int, the row of each one's inner atom among the members.
    outer
        [m] int, the outer atoms.
    coordinates
        [m, 3], in the frame of the members.
    direction
        [m, 3], u.
    share
        [m], l / |r_O - r_I|.
    """

    row: np.ndarray
    outer: np.ndarray
    coordinates: np.ndarray
    direction: np.ndarray
    share: np.ndarray

    def on_outer(self, forces: np.ndarray) -> np.ndarray:
        """Return what of the forces on link atoms [m, 3] is felt by outer atoms [m, 3]."""
        along = np.einsum("mi,mi->m", forces, self.direction)
        return self.share[:, None] * (forces - along[:, None] * self.direction)


class Links(NamedTuple):
    """The bonds that leave a region, and how long their ends are.

    Attributes
    ----------
    row, outer
        As in PlacedLinks.
    lengths
        [m], l.
    """

    row: np.ndarray
    outer: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(
        cls, bonds: np.ndarray, row: np.ndarray, lengths: np.ndarray | None, name: str
    ) -> "Links":
        """Find the links; none without lengths.

        Parameters
        ----------
        bonds
            [m, 2] int, the bonds that leave the region, atoms.
        row
            [natoms] int, the row of each atom among the members, -1 if it is none.
        lengths
            As of a Region's link_lengths.
        name
            The region's, for messages.

        Raises
        ------
        ValueError
            As of `Region.links`.
        """
        bonds = bonds[:0] if lengths is None else np.unique(np.sort(bonds, axis=1), axis=0)
        first_inside = row[bonds[:, 0]] >= 0
        inner = np.where(first_inside, *bonds.T)
        outer = np.where(first_inside, *bonds.T[::-1])
        found, counts = np.unique(outer, return_counts=True)
        for atom in found[counts > 1][:1]:
            msg = (
                f"{name}: atom {atom} is no member, but has bonds to the members "
                f"{', '.join(map(str, inner[outer == atom]))}, whose link atoms would be too near "
                "to each other; make it a member, or leave one of those out"
            )
            raise ValueError(msg)
        lengths = np.zeros(0) if lengths is None else lengths[inner]
        for k in np.flatnonzero(np.isnan(lengths))[:1]:
            msg = (
                f"{name}: the bond of atom {inner[k]} to atom {outer[k]} leaves the region, and "
                "there is no usual length for a hydrogen atom in its place; make that one a "
                "member, with always, or give a length, as in link_atoms={'Zn': 0.15}"
            )
            raise ValueError(msg)
        return cls(row[inner], outer, lengths)

    def place(self, coordinates: np.ndarray, between: np.ndarray) -> PlacedLinks:
        """Place the link atoms.

        Parameters
        ----------
        coordinates
            [n, 3], of the members.
        between
            [m, 3], from inner to outer atoms.
        """
        distance = np.linalg.norm(between, axis=1)
        direction = between / distance[:, None]
        placed = coordinates[self.row] + self.lengths[:, None] * direction
        return PlacedLinks(self.row, self.outer, placed, direction, self.lengths / distance)
