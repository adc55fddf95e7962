# SPDX-License-Identifier: LGPL-3.0-or-later
"""What evaluates a model in regions, made from a user's arguments."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from openmm import app, unit

from ..shared.paths import Paths
from .arguments import indices, unit_in
from .force import DPTerm
from .labels import Labels
from .layout import lay_out
from .options import Options

if TYPE_CHECKING:
    from .dp_region import DPRegion


def make_term(
    model: Paths,
    topology: app.Topology,
    regions: Sequence["DPRegion"],
    options: Options,
) -> DPTerm:
    """Make what `dp_force` hands to OpenMM; arguments and errors are those of it.

    A smooth edge needs no reference here.
    """
    system, candidates, periodic = options.system, options.candidates, options.periodic
    labels = Labels.of(topology, options.types, system)
    if candidates is not None:
        candidates = indices(candidates, topology.getNumAtoms(), "candidates").tolist()
        if not candidates:
            raise ValueError("dp_force: candidates has no atom; None is for all")
    laid_out = [lay_out(region, labels, candidates) for region in regions]
    path = _real_paths(model)
    if periodic is None:
        periodic = topology.getPeriodicBoxVectors() is not None
        periodic |= system is not None and system.usesPeriodicBoundaryConditions()
    if not isinstance(periodic, bool):
        raise ValueError(f"dp_force: periodic is {periodic!r}; give True, False or None")
    if not isinstance(options.scale, str) or not options.scale:
        msg = f"dp_force: scale is {options.scale!r}; it is the name of a global parameter"
        raise ValueError(msg)
    visible = None
    if candidates is not None or all(region.fixed is not None for region in laid_out):
        visible = np.unique(np.concatenate([region.possible() for region in laid_out]))
    term = DPTerm(
        path,
        laid_out,
        labels,
        visible,
        periodic,
        options.scale,
        unit_in(options.length_unit, unit.nanometer, "length_unit"),
        unit_in(options.energy_unit, unit.kilojoule_per_mole, "energy_unit"),
        options.device,
        options.precision,
    )
    term.load()
    for region in laid_out:
        term.check(region, region.certain())
        term.check_links(region, region.certain_links())
    term.check_weights()
    return term


def _real_paths(model: Any) -> str | tuple[str, ...]:
    """Return the path of a model, or those of a committee."""
    is_one = isinstance(model, str | os.PathLike)
    given = list(model) if np.iterable(model) and not is_one else [model]
    for one in given:
        if not isinstance(one, str | os.PathLike):
            what = repr(one) if is_one or not np.iterable(model) else f"a list with {one!r}"
            msg = f"dp_force: the model is {what}; give the path of a frozen model, or of several"
            raise ValueError(msg)
    paths = tuple(map(os.path.realpath, given))  # Path.resolve raises what it likes at a loop
    return paths[0] if len(paths) == 1 else paths
