# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frozen models as files: read, and described, without TensorFlow."""

from .report import info, info_text

__all__ = ["info", "info_text"]
