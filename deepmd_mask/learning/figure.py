# SPDX-License-Identifier: LGPL-3.0-or-later
"""The figure of a loop: deviations, shares and errors by iteration."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .select import SHARES

COLORS = {"accurate": "tab:green", "candidate": "tab:orange", "failed": "tab:red"}


def draw(
    path: Path,
    form: str,
    deviations: dict[int, np.ndarray],
    judged: dict[int, dict[str, Any]],
    trust: tuple[float, float],
) -> None:
    """Draw it.

    Parameters
    ----------
    path, form
        Of the file.
    deviations
        By iteration, max_devi_f of the explored frames in eV/Å.
    judged
        By iteration, what the stage judge has found.
    trust
        trust_lo and trust_hi.
    """
    figure = Figure(figsize=(13, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _draw_deviations(left, deviations, trust)
    _draw_shares(middle, {k: found for k, found in judged.items() if found["accurate"] is not None})
    _draw_errors(right, {k: found for k, found in judged.items() if found["force_error"]})
    figure.savefig(path, format=form, dpi=150)


def _draw_deviations(axes: Any, deviations: dict[int, np.ndarray], trust: tuple) -> None:
    for number, values in deviations.items():
        share = np.arange(1, len(values) + 1) / len(values)
        axes.plot(np.sort(values), share, label=f"iteration {number}")
    for bound in trust:
        axes.axvline(bound, color="grey", linestyle="--")
    axes.set(xlabel="max_devi_f (eV/Å)", ylabel="share of frames below", ylim=(0, 1))
    axes.set_xlim(left=0)
    if deviations:
        axes.legend()


def _draw_shares(axes: Any, judged: dict[int, dict[str, Any]]) -> None:
    bottom = np.zeros(len(judged))
    for name in SHARES:
        heights = np.array([found[name] for found in judged.values()])
        axes.bar(list(judged), heights, bottom=bottom, color=COLORS[name], label=name)
        bottom = bottom + heights
    axes.set(xlabel="iteration", ylabel="share of explored frames", ylim=(0, 1))
    if judged:
        axes.legend()
        axes.set_xticks(list(judged))


def _draw_errors(axes: Any, judged: dict[int, dict[str, Any]]) -> None:
    for name, label in {"force_error": "error", "deviation": "deviation"}.items():
        axes.plot(list(judged), [found[name] for found in judged.values()], "o-", label=label)
    axes.set(xlabel="iteration", ylabel="force, held-out frames (eV/Å)")
    axes.set_ylim(bottom=0)
    if judged:
        axes.legend()
        axes.set_xticks(list(judged))
