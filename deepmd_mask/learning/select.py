# SPDX-License-Identifier: LGPL-3.0-or-later
"""The stage select: which frames are accurate, candidates, failed; and which are labelled."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.frame import Keys
from ..data.packing.preferences import Preference
from ..data.packing.readers.header_units import stated_units
from ..potential import Potential
from ..potential.deviation import ForceDeviation
from ..shared.elements import types_of_names
from ..shared.selection import farthest, fingerprint
from .config import Loop
from .explore import held_out as held_out_of
from .files import bring, read_json, write_json
from .frames import preferences, read_frames, write_frames
from .tasks import Order, Task

if TYPE_CHECKING:
    from ase import Atoms

CANDIDATES, HELD_OUT, DEVIATIONS = "candidates.xyz", "held_out.xyz", "deviations.npy"
SHARES = ("accurate", "candidate", "failed")


def prepare(loop: Loop, iteration: int) -> list[Order]:
    """Return the one task; none where nothing was explored."""
    explored = sorted(loop.stage(iteration, "explore").folder.glob("[0-9]*.xyz"))
    if not explored:
        return []
    config = loop.config
    inputs = {path.name: path for path in explored}
    before = [loop.stage(k, "select").folder / CANDIDATES for k in range(iteration)]
    inputs |= {f"before_{k:06d}.xyz": path for k, path in enumerate(before) if path.exists()}
    names = ("trust_lo", "trust_hi", "frames", "held_out_frames")
    settings = {name: config["select"][name] for name in names}
    settings |= {
        "committee": [path.name for path in loop.models(iteration - 1)],
        "held_out": len(held_out_of(loop, iteration)),
        "preference": config["preference"],
        "type_map": config["type_map"],
    }
    return [Order(settings, inputs)]


def work(task: Task) -> None:
    """Judge all frames by the deviation of the committee, and choose."""
    settings = task.settings
    files = sorted(task.folder.glob("[0-9]*.xyz"))
    first_held_out = len(files) - settings["held_out"]
    frames, held_out = [], []
    for number, file in enumerate(files):
        for k, atoms in enumerate(read_frames(file)):
            if atoms.pbc.any():
                raise ValueError(
                    f"explored frame {k} of task {number} is periodic, and se_a_mask knows no box; "
                    "write the region's atoms alone, whole molecules, without a cell"
                )
            frames.append(_bare(atoms, f"explored frame {k} of task {number}"))
            held_out.append(number >= first_held_out)
    rule = Preference.parse(settings["preference"])
    weights = [preferences(a, rule, f"explored frame {k}") for k, a in enumerate(frames)]
    missing = rule.missing([*{name for a in frames for name in a.get_chemical_symbols()}])
    deviation = deviations(task.committee, frames, weights)
    lo, hi = settings["trust_lo"], settings["trust_hi"]
    without = np.isnan(deviation)  # in the beginning: all may be of use
    kind = np.where(without, 1, (deviation >= lo).astype(int) + (deviation >= hi))
    is_held_out = np.array(held_out, bool)
    before = [a for file in sorted(task.folder.glob("before_*.xyz")) for a in read_frames(file)]
    candidates = np.flatnonzero((kind == 1) & ~is_held_out)
    chosen = candidates[_different(candidates, frames, weights, before, settings)]
    test = np.flatnonzero((kind < 2) & is_held_out)  # as what trains: no broken molecules
    count = min(settings["held_out_frames"], len(test))
    test = test[np.linspace(0, len(test) - 1, count).round().astype(int)] if count else test[:0]
    lost = sum(int(atoms.info.get("lost", 0)) for atoms in frames)  # of what ended early
    for name, some in {CANDIDATES: chosen, HELD_OUT: test}.items():
        for k in some:
            for said in ("lost", "ended"):
                frames[k].info.pop(said, None)
            if not without[k]:
                frames[k].info["max_devi_f"] = float(deviation[k])
        write_frames(task.result / name, [frames[k] for k in some])
    np.save(task.result / DEVIATIONS, deviation)
    counts: dict[str, Any] = {name: int((kind == k).sum()) for k, name in enumerate(SHARES)}
    counts["failed"] += lost
    counts |= {"chosen": len(chosen), "held_out": len(test), "missing": missing}
    write_json(task.result / "counts.json", {"frames": len(frames) + lost, **counts})


def deviations(
    committee: list[str], frames: "list[Atoms]", weights: list[np.ndarray]
) -> np.ndarray:
    """Return max_devi_f of preferred atoms of frames [nframes] in eV/Å; NaN without a committee.

    A frame that has an array `deviation` says it itself; `FrameReporter` writes none at a smooth
    edge, where models see residues in part that the frame has whole. Where no atom is preferred,
    all count. It is infinite where positions, or forces of models, are not finite.
    """
    potential, found = None, np.full(len(frames), np.nan)
    for k, (atoms, weight) in enumerate(zip(frames, weights, strict=True)):
        if not np.isfinite(atoms.positions).all():  # of a simulation that exploded
            found[k] = np.inf
        if not committee or np.isinf(found[k]):
            continue
        by_atom = atoms.arrays.get("deviation")
        if by_atom is None:
            potential = potential or Potential(committee)
            symbols = atoms.get_chemical_symbols()
            types = types_of_names(symbols, potential.type_map)
            for atom in np.flatnonzero(types < 0)[:1]:
                raise ValueError(
                    f"explored frame {k}, atom {atom}: the models do not know {symbols[atom]}, "
                    f"only {potential.type_map}"
                )
            by_atom = potential.evaluate(types, atoms.positions).deviation
        if by_atom is not None:
            largest = ForceDeviation.of(by_atom, weight if weight.any() else None).max_devi_f
            found[k] = np.inf if np.isnan(largest) else largest
    return found


def _bare(atoms: "Atoms", place: str) -> "Atoms":
    """Return a frame without what a model has said of its energy, nor in which units.

    Raises
    ------
    ValueError
        If it says that its positions are not in Å, or something of units that is not clear.
    """
    atoms.calc = None
    for name in ("forces", "momenta"):
        atoms.arrays.pop(name, None)
    for key, value in list(atoms.info.items()):
        stated = stated_units(place, {key: value}, Keys())
        if "length" in stated and stated["length"].factor != 1.0:
            raise ValueError(
                f"{place}: it says {stated['length'].text}; write positions in Å, and take this "
                "entry out"
            )
        if stated:  # else labels, which are in eV, would be taken to be in this unit
            del atoms.info[key]
    return atoms


def _different(
    candidates: np.ndarray,
    frames: "list[Atoms]",
    weights: list[np.ndarray],
    before: "list[Atoms]",
    settings: dict[str, Any],
) -> np.ndarray:
    """Choose candidates that differ from each other, and from those of iterations before."""
    some = [(frames[k], weights[k]) for k in candidates]
    rule = Preference.parse(settings["preference"])
    some += [(a, preferences(a, rule, f"frame {k} of before")) for k, a in enumerate(before)]
    if len(candidates) == 0:
        return np.zeros(0, int)
    features = [
        fingerprint(a.get_chemical_symbols(), a.positions, weight, settings["type_map"])
        for a, weight in some
    ]
    start = range(len(candidates), len(some))
    return np.sort(farthest(np.array(features), settings["frames"], start))


def collect(loop: Loop, iteration: int, folder: Path, results: list[Path]) -> dict[str, Any]:
    """Bring the results to the folder of the stage."""
    for result in results:
        for name in (CANDIDATES, HELD_OUT, DEVIATIONS):
            bring(result / name, folder / name)
        return read_json(result / "counts.json")
    return dict.fromkeys(("frames", *SHARES, "chosen", "held_out"), 0)


def line(summary: dict[str, Any]) -> str:
    """Return what is to be told."""
    shares = ", ".join(f"{summary[name]} {name}" for name in SHARES)
    text = f"{shares}; {summary['chosen']} chosen, {summary['held_out']} held out"
    if missing := summary.get("missing"):
        text += f"; no frame has {', '.join(missing)}, which preference names"
    return text
