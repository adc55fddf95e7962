# SPDX-License-Identifier: LGPL-3.0-or-later
"""Readers of files: which one reads what, and what has to be true of what it reads."""
