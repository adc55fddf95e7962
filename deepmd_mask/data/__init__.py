# SPDX-License-Identifier: LGPL-3.0-or-later
"""Masked systems: made, read, checked. Nothing here needs TensorFlow, but an input's options."""

from .findings import Finding
from .pack import Packed, pack
from .systems import Chunk, System, open_system
from .training import Summary, scan_systems
from .unpack import unpack

__all__ = [
    "Chunk",
    "Finding",
    "Packed",
    "Summary",
    "System",
    "open_system",
    "pack",
    "scan_systems",
    "unpack",
]
