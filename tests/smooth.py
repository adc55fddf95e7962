# SPDX-License-Identifier: LGPL-3.0-or-later
"""What tests of regions with a smooth edge share."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from regions import EV

from deepmd_mask.openmm import DPRegion, dp_force
from deepmd_mask.openmm.labels import Labels
from deepmd_mask.openmm.layout import lay_out
from deepmd_mask.openmm.options import Options
from deepmd_mask.openmm.term import make_term

SEEDS = Path(__file__).parent / "fuzz" / "seeds"
MODEL = SEEDS / "plain-frozen.pb"
TYPES = {"types": {"Zn": "C"}}  # the model knows C and O
REFERENCE = {"CO": (20.0, -1.5), "ZN": (3.0, 0.5)}
SMOOTH = DPRegion([0], 0.47, buffer=0.3, reference=REFERENCE)
ABRUPT = replace(SMOOTH, buffer=None, reference=None)
BOUND = 1e-6 * EV * 10  # 1e-6 eV/Å in kJ/mol/nm
REGIONS = {
    "one centre": SMOOTH,
    "two centres": replace(SMOOTH, centres=[0, 9], radius=0.4),
    "two regions": [SMOOTH, DPRegion([9], 0.42, buffer=0.25, reference=REFERENCE, name="other")],
    "heavy atoms": replace(SMOOTH, hydrogens=False, always=[12]),
    "single atoms": replace(
        SMOOTH, whole_residues=False, reference={"C": (20, -1), "O": (8.0, 0.3)}
    ),
}


def laid_out(solvated, region):
    return lay_out(region, Labels.of(solvated.topology, **TYPES))


def force_of(solvated, regions, **options):
    return dp_force(MODEL, solvated.topology, regions, **TYPES, **options)


def grouped(force):
    force.setForceGroup(1)
    return force


def frames_of(solvated, number=8, seed=3):
    rng = np.random.default_rng(seed)
    shape = (number, len(solvated.positions), 3)
    return solvated.positions + rng.normal(scale=0.02, size=shape)


def costs_of(solvated, region, frames):
    """Return W, and what residues in the buffer pay for entering, in all frames."""
    term = make_term(MODEL, solvated.topology, [region], Options(**TYPES))
    found = [next(term.parts(positions, solvated.box)).entering for positions in frames]
    kind = term.regions[0].edge.kinds.index("CO")
    W = np.repeat([one.W[kind] for one in found], [len(one.costs) for one in found])
    return W, np.concatenate([one.costs for one in found])
