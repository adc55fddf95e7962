# SPDX-License-Identifier: LGPL-3.0-or-later
"""What evaluates a model in regions, made from a user's arguments."""

import os
from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import openmm
from openmm import app, unit

from ..shared.elements import Types
from .arguments import indices, unit_in
from .force import DPTerm
from .labels import Labels
from .layout import lay_out

if TYPE_CHECKING:
    from .dp_region import DPRegion


def make_term(
    model: str | PathLike,
    topology: app.Topology,
    regions: Sequence["DPRegion"],
    *,
    candidates: Sequence[int] | None = None,
    periodic: bool | None = None,
    types: Types = "element",
    system: openmm.System | None = None,
    scale: str = "dp_scale",
    length_unit: Any = unit.angstrom,
    energy_unit: Any = unit.ev,
    device: str = "auto",
    precision: str | None = None,
) -> DPTerm:
    """Make what `dp_force` hands to OpenMM; arguments and errors are those of it.

    A smooth edge needs no reference here.
    """
    labels = Labels.of(topology, types, system)
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
    if not isinstance(scale, str) or not scale:
        raise ValueError(f"dp_force: scale is {scale!r}; it is the name of a global parameter")
    visible = None
    if candidates is not None or all(region.fixed is not None for region in laid_out):
        visible = np.unique(np.concatenate([region.possible() for region in laid_out]))
    term = DPTerm(
        path,
        laid_out,
        labels,
        visible,
        periodic,
        scale,
        unit_in(length_unit, unit.nanometer, "length_unit"),
        unit_in(energy_unit, unit.kilojoule_per_mole, "energy_unit"),
        device,
        precision,
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
