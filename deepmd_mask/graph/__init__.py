# SPDX-License-Identifier: LGPL-3.0-or-later
"""What DeePMD-kit builds graphs from: descriptor, fitting net, model, and their operators."""
