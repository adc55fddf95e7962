# SPDX-License-Identifier: LGPL-3.0-or-later
"""What evaluates a model in regions, made from a user's arguments."""

import os
from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from openmm import app, unit

from .arguments import indices, unit_in
from .force import DPTerm
from .labels import Labels
from .layout import lay_out
from .options import Options

if TYPE_CHECKING:
    from .dp_region import DPRegion


def make_term(
    model: str | PathLike,
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
    path = os.path.realpath(_path(model))  # Path.resolve raises what it likes at a loop
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


def _path(model: Any) -> str | PathLike:
    if not isinstance(model, str | PathLike):
        raise ValueError(f"dp_force: the model is {model!r}; give the path of a frozen model")
    return model
