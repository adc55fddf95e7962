# SPDX-License-Identifier: LGPL-3.0-or-later
"""The process that labels a task's frames, given the task's folder and that of the user's files."""

import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..shared.reason import reason_of
from .files import put_file_in_place, read_json, write_json
from .frames import write_frames
from .label import NOW, frames_of, kept_label, kept_reason
from .levels import LevelOfTheory, evaluate, load
from .tasks import KEPT, TASK, Task

if TYPE_CHECKING:
    from ase import Atoms


def label_all(task: Task) -> None:
    """Label those that have neither label nor reason why not."""
    settings, kept = task.settings, task.folder / KEPT
    levels = load(settings["levels"], task.common)
    for number, (_, atoms) in enumerate(frames_of(task)):
        label, reason = kept_label(kept, number), kept_reason(kept, number)
        if label.exists() or reason.exists():
            continue
        write_json(kept / NOW, number)
        try:
            found = labelled(atoms, levels, kept / f"{number:04d}", settings.get("largest_force"))
        except Exception as error:  # of the user's calculator, whatever it is
            traceback.print_exc()
            write_json(reason, {"reason": f"{type(error).__name__}: {reason_of(error)}"})
            continue
        part = label.with_name(f".{os.getpid()}.{label.name}")
        write_frames(part, [found])
        put_file_in_place(part, label)


def labelled(
    atoms: "Atoms", levels: list[LevelOfTheory], folder: Path, largest_force: float | None
) -> "Atoms":
    """Return a copy of a frame with energy and forces.

    Raises
    ------
    ValueError
        If a force is larger than is wanted; and whatever a calculator raises.
    """
    from ase.calculators.singlepoint import SinglePointCalculator  # noqa: PLC0415

    energy, forces = evaluate(levels, atoms, folder)
    lengths = np.linalg.norm(forces, axis=1)
    if largest_force is not None and lengths.max() > largest_force:
        raise ValueError(
            f"the force on atom {lengths.argmax()} is {lengths.max():.4g} eV/Å, more than "
            f"largest_force, {largest_force:g}"
        )
    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, energy=energy, forces=forces)
    return copy


def main(folder: Path, common: Path) -> None:
    """Label the frames of the task in a folder."""
    sys.path.insert(0, str(common))
    label_all(Task(folder, common, folder, read_json(folder / TASK)["settings"]))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
