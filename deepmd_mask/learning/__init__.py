# SPDX-License-Identifier: LGPL-3.0-or-later
"""Concurrent learning, ``dp-mask learn``: explore, select, label, pack, train, judge, again."""
