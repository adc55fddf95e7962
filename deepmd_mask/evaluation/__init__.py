# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frozen models on masked systems: against labels, and among themselves."""

from .against_labels import evaluate
from .among_models import model_deviation
from .deviations import Deviations
from .errors_by_deviation import Correlation, ErrorsByDeviation
from .metrics import Errors, Evaluation, Metrics, Place

__all__ = [
    "Correlation",
    "Deviations",
    "Errors",
    "ErrorsByDeviation",
    "Evaluation",
    "Metrics",
    "Place",
    "evaluate",
    "model_deviation",
]
