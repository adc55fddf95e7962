# SPDX-License-Identifier: LGPL-3.0-or-later
"""Masked systems: made, read, checked. Nothing here needs TensorFlow or DeePMD-kit."""

from .balance import NetForceWarning
from .checking.check import Checked, check
from .checking.statistics import Statistics
from .findings import Finding
from .packing.pack import Packed, pack
from .packing.unpack import unpack
from .systems import Chunk, System, open_system
from .training import Summary, scan_systems

__all__ = [
    "Checked",
    "Chunk",
    "Finding",
    "NetForceWarning",
    "Packed",
    "Statistics",
    "Summary",
    "System",
    "check",
    "open_system",
    "pack",
    "scan_systems",
    "unpack",
]
