# SPDX-License-Identifier: LGPL-3.0-or-later
"""Labels: ASE calculators for a frame."""

from ase import Atoms
from tblite.ase import TBLite

CHARGE = 2  # of zinc with its waters


def gfn2(atoms: Atoms) -> TBLite:
    """Return GFN2-xTB, which the models shall learn."""
    return TBLite(method="GFN2-xTB", charge=CHARGE, verbosity=0)


def gfn1(atoms: Atoms) -> TBLite:
    """Return GFN1-xTB, which explores as long as there are no models."""
    return TBLite(method="GFN1-xTB", charge=CHARGE, verbosity=0)
