# SPDX-License-Identifier: LGPL-3.0-or-later
"""Masked systems: made, read, checked. Nothing here needs TensorFlow, but an input's options."""

from .evaluate import evaluate
from .findings import Finding
from .metrics import Errors, Evaluation, Metrics
from .pack import Packed, pack
from .systems import Chunk, System, open_system
from .training import Summary, scan_systems
from .unpack import unpack

__all__ = [
    "Chunk",
    "Errors",
    "Evaluation",
    "Finding",
    "Metrics",
    "Packed",
    "Summary",
    "System",
    "evaluate",
    "open_system",
    "pack",
    "scan_systems",
    "unpack",
]
