# SPDX-License-Identifier: LGPL-3.0-or-later
"""deepmd-mask: the se_a_mask descriptor of DeePMD-kit on operators that follow the real atoms."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("deepmd-mask")
