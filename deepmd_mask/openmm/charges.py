# SPDX-License-Identifier: LGPL-3.0-or-later
"""The charge that a force field gives a region."""

import numpy as np
import openmm
from openmm import unit

WHOLE = 1e-3  # e; so near to a whole number is one


class Charges:
    """Charges of a system, in e, by its NonbondedForce.

    Parameters
    ----------
    system
        The system.
    """

    def __init__(self, system: openmm.System) -> None:
        forces = [f for f in system.getForces() if isinstance(f, openmm.NonbondedForce)]
        self._charges: np.ndarray | None = None
        if len(forces) == 1:
            self._charges = _charges(forces[0])
        sites = [k for k in range(system.getNumParticles()) if system.isVirtualSite(k)]
        self._sites = {site: _parents(system.getVirtualSite(site)) for site in sites}

    def of(self, atoms: np.ndarray) -> int | None:
        """Return the charge of some atoms and the virtual sites on them.

        Parameters
        ----------
        atoms
            [n] int

        Returns
        -------
        int or None
            None if it is no whole number, or is not known: without a NonbondedForce, with several,
            or where a parameter of the simulation changes a charge.
        """
        if self._charges is None:
            return None
        members = set(atoms.tolist())
        on_them = [k for k, on in self._sites.items() if k not in members and on <= members]
        total = self._charges[[*members, *on_them]].sum()
        if not abs(total - round(total) if np.isfinite(total) else np.inf) < WHOLE:
            return None
        return round(float(total))


def _charges(force: openmm.NonbondedForce) -> np.ndarray:
    """Return the charges [nparticles]; NaN where an offset changes them."""
    particles = range(force.getNumParticles())
    found = np.array(
        [force.getParticleParameters(k)[0].value_in_unit(unit.elementary_charge) for k in particles]
    )
    for k in range(force.getNumParticleParameterOffsets()):
        _, particle, by_charge, *_ = force.getParticleParameterOffset(k)
        if by_charge != 0:
            found[particle] = np.nan
    return found


def _parents(site: openmm.VirtualSite) -> set[int]:
    return {site.getParticle(k) for k in range(site.getNumParticles())}
