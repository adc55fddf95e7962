# SPDX-License-Identifier: LGPL-3.0-or-later
"""Masked systems: made, read, checked. Nothing here needs TensorFlow."""

from .findings import Finding
from .scan import Summary, scan_systems
from .systems import Chunk, System, open_system

__all__ = ["Chunk", "Finding", "Summary", "System", "open_system", "scan_systems"]
