# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frozen models: what they are, and the same ones on other operators."""

from .report import info, info_text

__all__ = ["info", "info_text"]
