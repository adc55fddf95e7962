# SPDX-License-Identifier: LGPL-3.0-or-later
"""The potential: frozen models evaluated without TensorFlow and DeePMD-kit."""

from .deviation import ForceDeviation
from .potential import Potential, Prediction

__all__ = ["ForceDeviation", "Potential", "Prediction"]
