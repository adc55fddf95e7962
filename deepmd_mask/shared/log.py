# SPDX-License-Identifier: LGPL-3.0-or-later
"""The log, which is shown as DeePMD-kit's own messages are."""

import logging

log = logging.getLogger("deepmd.mask")
