# SPDX-License-Identifier: LGPL-3.0-or-later
"""DP/MM in OpenMM: a model of se_a_mask as a force on regions of an ordinary System."""

from .deviation import DeviationError
from .dp_region import DPRegion, LinkedCut
from .edge import Reference
from .frames import FrameReporter
from .making import dp_force
from .region import Cut
from .reporter import RegionReporter

__all__ = [
    "Cut",
    "DPRegion",
    "DeviationError",
    "FrameReporter",
    "LinkedCut",
    "Reference",
    "RegionReporter",
    "dp_force",
]
