# SPDX-License-Identifier: LGPL-3.0-or-later
"""The force on regions: a PythonForce that evaluates a model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import openmm
from openmm import app

from ..shared.paths import Paths
from .dp_region import DPRegion
from .layout_of_edge import require_reference
from .options import Options, showing_options
from .term import make_term


@showing_options
def dp_force(
    model: Paths,
    topology: app.Topology,
    regions: DPRegion | Sequence[DPRegion],
    **options: Any,
) -> openmm.PythonForce:
    """Make a force for ``System.addForce`` that adds a model's energy for each region.

    Parameters
    ----------
    model
        A frozen model of se_a_mask, or several, a committee: forces and energies are their means,
        and reporters tell how far they differ.
    topology
        Of the system, atom for atom.
    regions
        One region or several. An atom that is in two of them counts twice.
    candidates
        Atoms whose residues can become members; by default all. OpenMM hands over only these,
        which is faster in large systems. Fixed regions do not need it.
    periodic
        Whether the system has a box; by default whether the topology has one, or the system if it
        is given. Without one no images are looked for, so members beyond the box's border would be
        missed.
    types
        What the model's type map calls an atom: "element"; "name", the atom's name; a dict from
        names of atoms to types, where others go by their element; or a function of an atom of the
        topology. A dict or function gives None for a virtual site, which is left out.
    system
        The system, to tell virtual sites from atoms whose element the topology does not know, and
        to see that masses are those of the elements. Without it only the sites of water models
        are known, and another atom without element that may be a member is an error.
    scale
        Name of a global parameter, 1 at first, that multiplies energy and forces.
    length_unit, energy_unit
        The model's units, of OpenMM; an energy is per particle (eV) or per mole (kJ/mol).
    device
        Where the model is evaluated: "cpu"; "cuda", a GPU; or "auto", a GPU where there is one,
        whatever OpenMM itself computes on.
    precision
        Of the `Potential`: "mixed", or None for the model's own.

    Raises
    ------
    ValueError
        If an argument is none that can be meant, there is no region, one does not fit the topology,
        the model has no type for an atom that will be a member for certain, an atom that may be
        one has no element, or a smooth edge has no reference, or the model no weights.
    RuntimeError
        If there is no GPU that was asked for.
    """
    term = make_term(model, topology, _regions(regions), Options.of(options))
    for region in term.regions:
        require_reference(region)
    visible = [] if term.visible is None else term.visible.tolist()
    force = openmm.PythonForce(term, {term.scale: 1.0}, visible)
    force.setUsesPeriodicBoundaryConditions(term.periodic)
    force.setName("DPForce")
    return force


def _regions(regions: Any) -> list[DPRegion]:
    found = [regions] if isinstance(regions, DPRegion) else regions
    found = list(found) if np.iterable(found) else [found]
    if not found:
        raise ValueError("dp_force: there is no region; give one or several")
    for region in found:
        if not isinstance(region, DPRegion):
            msg = f"dp_force: {region!r} is no region; give a DPRegion, or a list of them"
            raise ValueError(msg)
    return found
