# SPDX-License-Identifier: LGPL-3.0-or-later
"""What residues give on entering a region with a smooth edge, fitted to a model's dE/dw."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from openmm import app

from ..shared.paths import Paths
from .arguments import box_vectors, plain, topology_of, vectors
from .edge import Reference
from .options import Options
from .term import make_term

if TYPE_CHECKING:
    from .dp_region import DPRegion

LEAST = 10  # residues in the buffer, over all frames, to fit alpha and beta to
NARROWEST = 0.1  # range of W that gives a slope


def calibrated(
    region: "DPRegion",
    model: Paths,
    topology: app.Topology,
    frames: Iterable,
    box: Any,
    options: dict[str, Any],
) -> dict[str, Reference]:
    """Return a reference for each kind of residue; arguments are those of DPRegion.calibrate.

    Raises
    ------
    ValueError
        As of DPRegion.calibrate.
    """
    if region.buffer is None or region.atoms is not None:
        what = "fixed atoms do not enter" if region.atoms is not None else "it has no buffer"
        raise ValueError(f"{region.name}: calibrate is for a region with a smooth edge; {what}")
    natoms = topology_of(topology, "topology").getNumAtoms()
    default = topology.getPeriodicBoxVectors()
    if default is None and box is not None:
        options = {"periodic": True, **options}
    # Without a reference that it may have, which could lack what enters now.
    term = make_term(model, topology, [replace(region, reference=None)], Options.of(options))
    (laid_out,) = term.regions
    found: dict[str, list[tuple[float, float]]] = {}
    number = 0
    for frame, its_box in _with_boxes(frames, default if box is None else box, region.name):
        what = f"{region.name}: frame {number}"
        positions = vectors(frame, (natoms, 3), f"{what}: positions")
        around = box_vectors(its_box, f"{what}: box") if term.periodic else None
        if term.periodic and around is None:
            raise ValueError(f"{what} has no box, but the system is periodic; give the box, too")
        for entered in (part.entering for part in term.parts(positions, around)):
            if entered is None or laid_out.edge is None:
                continue
            kinds = laid_out.edge.kind[entered.residues]
            for kind, slope in zip(kinds, entered.gradients, strict=True):
                pair = float(entered.W[kind]), float(slope)
                found.setdefault(laid_out.edge.kinds[kind], []).append(pair)
        number += 1
    if not found:
        msg = (
            f"{region.name}: in {number} frames no residue is in the buffer, between "
            "radius - buffer and radius; give more frames, of a simulation without the region, say"
        )
        raise ValueError(msg)
    return {kind: _fit(region.name, kind, found[kind]) for kind in sorted(found)}


def _with_boxes(frames: Any, box: Any, name: str) -> Iterable[tuple[Any, Any]]:
    """Return frames, each with its box, the same for all or its own."""
    frames = plain(frames)
    if not np.iterable(frames):
        msg = f"{name}: frames is a {type(frames).__name__}; give a list of positions"
        raise ValueError(msg)
    rows = None if box is None else [plain(row) for row in plain(box)]
    if rows is None or all(np.ndim(plain(row)) <= 1 for row in rows):
        return ((frame, box) for frame in frames)
    frames = list(frames)
    if len(frames) != len(rows):
        msg = f"{name}: {len(rows)} boxes for {len(frames)} frames; give one for each, or one"
        raise ValueError(msg)
    return zip(frames, rows, strict=True)


def _fit(name: str, kind: str, found: list[tuple[float, float]]) -> Reference:
    """Fit alpha + beta W to slopes of the energy at these W."""
    W, slopes = np.array(found).T
    if len(W) < LEAST or np.ptp(W) < NARROWEST:
        msg = (
            f"{name}: {len(W)} residues {kind} are in the buffer, over all frames, at W from "
            f"{W.min():.3g} to {W.max():.3g}, too few or too alike to tell how what one gives on "
            "entering depends on W; give more frames, farther apart"
        )
        raise ValueError(msg)
    beta, alpha = np.polyfit(W, slopes, 1)
    return Reference(float(alpha), float(beta), float(W.min()), float(W.max()))
