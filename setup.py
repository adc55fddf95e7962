# SPDX-License-Identifier: LGPL-3.0-or-later
"""What builds this package, and all about it, is in pyproject.toml; pip reads that alone."""

import sys

sys.exit(f"Run this in its place: {sys.executable} -m pip install .")
