# SPDX-License-Identifier: LGPL-3.0-or-later
"""The rules for labels: energies, forces and preferences of a system's frames."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .findings import Level, Report
from .systems import Chunk, System


class LabelRule(NamedTuple):
    """What a label must not be.

    Attributes
    ----------
    level, code
        Of the finding.
    key
        Name of the file without its suffix.
    field
        The field of a Chunk that has its numbers.
    is_wrong
        From these numbers and from where atoms are virtual [nframes, nslots], tells which are
        wrong, [nframes] or [nframes, nslots].
    says
        The message on one number, or three of a force; whether its atom is virtual is known.
    """

    level: Level
    code: str
    key: str
    field: str
    is_wrong: Callable[[np.ndarray, np.ndarray], np.ndarray]
    says: Callable[[np.ndarray, bool], str]


def _not_finite(force: np.ndarray) -> np.ndarray:
    return ~np.isfinite(force).all(axis=2)


def _no_weight(preference: np.ndarray) -> np.ndarray:
    return ~(preference >= 0) | np.isinf(preference)


def _vector(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


RULES = (
    LabelRule(
        "error", "label", "energy", "energy",
        lambda energy, _: ~np.isfinite(energy),
        lambda energy, _: f"energy is {energy}, not a finite number; take the frame out",
    ),
    LabelRule(
        "error", "label", "force", "force",
        lambda force, _: _not_finite(force),
        lambda force, is_virtual: f"force is {_vector(force)}, not finite; take the frame out"
        + (" or set the force to 0, as the atom is virtual" if is_virtual else ""),
    ),
    LabelRule(
        "warning", "virtual-force", "force", "force",
        lambda force, virtual: virtual & force.any(axis=2) & ~_not_finite(force),
        lambda force, _: f"force {_vector(force)} on a virtual atom; set it to 0, or the mask to 1 "
        "if the atom is real",
    ),
    LabelRule(
        "error", "preference", "atom_pref", "preference",
        lambda preference, _: _no_weight(preference),
        lambda preference, _: f"preference is {preference:g}; it must be 0 or a positive number",
    ),
    LabelRule(
        "warning", "virtual-preference", "atom_pref", "preference",
        lambda preference, virtual: virtual & (preference != 0) & ~_no_weight(preference),
        lambda preference, _: f"preference {preference:g} of a virtual atom; set it to 0, or the "
        "mask to 1 if the atom is real",
    ),
)  # fmt: skip


def check_labels(system: System, chunk: Chunk, report: Report) -> None:
    """Check energies, forces and preferences; one finding for each rule and frame."""
    virtual = chunk.mask == 0
    for rule in RULES:
        values = getattr(chunk, rule.field)
        if values is None:
            continue
        wrong = rule.is_wrong(values, virtual)
        file = f"{chunk.set_name}/{rule.key}.npy"
        for frame in np.flatnonzero(wrong.reshape(len(chunk), -1).any(axis=1)).tolist():
            atom = int(np.argmax(wrong[frame])) if wrong.ndim == 2 else None
            value = values[frame] if atom is None else values[frame, atom]
            message = rule.says(value, atom is not None and bool(virtual[frame, atom]))
            place = chunk.set_name, chunk.first + frame
            report(system.finding(rule.level, rule.code, message, file, place, atom))
