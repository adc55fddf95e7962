# SPDX-License-Identifier: LGPL-3.0-or-later
"""Masked systems: made, read, checked. Nothing here needs TensorFlow, but an input's options."""

from .check import Checked, check
from .deviation import model_deviation
from .deviations import Deviations
from .evaluate import evaluate
from .findings import Finding
from .metrics import Errors, Evaluation, Metrics
from .pack import Packed, pack
from .statistics import Statistics
from .systems import Chunk, System, open_system
from .training import Summary, scan_systems
from .unpack import unpack

__all__ = [
    "Checked",
    "Chunk",
    "Deviations",
    "Errors",
    "Evaluation",
    "Finding",
    "Metrics",
    "Packed",
    "Statistics",
    "Summary",
    "System",
    "check",
    "evaluate",
    "model_deviation",
    "open_system",
    "pack",
    "scan_systems",
    "unpack",
]
