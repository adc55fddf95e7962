# SPDX-License-Identifier: LGPL-3.0-or-later
"""The commands `dp-mask pack` and `dp-mask unpack`: frames into systems and out of them."""
