# SPDX-License-Identifier: LGPL-3.0-or-later
"""Packs frames of any composition into masked systems."""

import os
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..balance import NetForces
from ..frame import digest
from ..writer import SystemWriter, put_in_place
from .preferences import Preference
from .readers.units import Units
from .sources import Frame, Keys
from .spool import Spool
from .types import TypeNumbers
from .usable import usable_frames


@dataclass(frozen=True)
class Packed:
    """What has been written.

    Attributes
    ----------
    systems
        Path of each system and its number of frames.
    type_map
        Names of the types.
    sel
        Slots of each type.
    atoms
        The smallest and the largest number of real atoms in a frame.
    without_preference
        Number of frames in which no atom is preferred.
    left_out
        Number of incomplete frames, by reason.
    with_net
        Number of frames with a net force or a net torque.
    kept_preference
        Whether weights other than 1 are those that the sources had, as no preference was given.
    repeated
        Number of frames with the same atoms at the same places as one before.
    """

    systems: dict[str, int]
    type_map: list[str]
    sel: list[int]
    atoms: tuple[int, int]
    without_preference: int
    left_out: dict[str, int] = field(default_factory=dict)
    with_net: int = 0
    kept_preference: bool = False
    repeated: int = 0


def pack(
    sources: Any,
    output: str | os.PathLike,
    *,
    type_map: Sequence[str] | None = None,
    sel: Sequence[int] | str = "auto",
    preference: str | None = None,
    validation: float = 0,
    seed: int = 0,
    energy_unit: str | None = None,
    force_unit: str | None = None,
    energy_key: str = "energy",
    forces_key: str = "forces",
    precision: str = "float64",
    set_size: int = 2000,
    drop_cell: bool = False,
    skip_incomplete: bool = False,
    external_field: bool = False,
    part: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Packed:
    """Write a masked system, or one for training and one for validation.

    Parameters
    ----------
    sources
        One source or several, in any mix; ``read_frames`` says which there are.
    output
        Folder of the system, or of the systems ``train`` and ``validation``.
    type_map
        Names of the types; capital letters need not agree with the sources. Without it, elements
        by atomic number, then other names by alphabet, as the sources spell them.
    sel
        Slots of each type in the order of the type map, which must be given then. Or "auto" or
        "auto:f", which has the meaning that it has in an input, of the frames packed here.
    preference
        Which atoms have weight 1 in atom_pref.npy: "all", "element:ZN,S", "within:2.8:ZN" (Å; the
        element itself, too), "names:SG,NE2", for names of atoms in the per-atom array
        "atomtypes", or "names:ARRAY:SG,NE2", in another one. Or "array:NAME", for weights from a
        per-atom array. All sources must have the array. Without it, weights in atom_pref of the
        sources are kept, and 1 is that of others; but if some are not 1, all must have them.
    validation
        Frames for validation: a fraction below 1 or a number, so that 1 is one frame; 0 for no
        split. Frames with the same atoms at the same places are all on one side.
    seed
        Of the choice of these frames.
    energy_unit, force_unit
        Of all sources, as "hartree" and "hartree/bohr"; without them what a source says itself,
        or eV and eV/Å. The system is in eV and eV/Å.
    energy_key, forces_key
        Names of the labels in files that ASE reads. An energy may be a per-atom array, which is
        summed.
    precision
        "float64" or "float32"; energies are always float64.
    set_size
        Frames of a set.
    drop_cell
        Take periodic sources as if they were not.
    skip_incomplete
        Leave out frames without energy or forces, whose SCF did not converge, or with which a
        file ends too early, and count them. Otherwise they are errors.
    external_field
        Do not warn of net forces and torques, as a field, embedding charges or other atoms act.
    part
        Whether these are a part of what is packed with one rule: what ``preference`` names need
        not be in it.
    overwrite
        Replace an output that exists.
    progress
        Show progress bars if the standard error is a terminal.

    Returns
    -------
    Packed
        What was written.

    Raises
    ------
    ValueError
        Naming source, frame and atom, if something cannot be packed.
    OSError
        If the output exists or cannot be written. Nothing is left of it then.

    Warns
    -----
    NetForceWarning
        Naming frames with a net force or torque, as isolated molecules have none.
    """
    if precision not in ("float64", "float32"):
        raise ValueError(f'`precision` is "{precision}"; it must be float64 or float32')
    if set_size < 1:
        raise ValueError(f"`set_size` is {set_size}; it must be at least 1")
    if seed < 0:
        raise ValueError(f"`seed` is {seed}; it must be 0 or a positive number")
    if not (0 <= validation < 1 or (np.isfinite(validation) and validation == int(validation) > 0)):
        raise ValueError(
            f"`validation` is {validation}; give a fraction below 1, or a whole number of frames"
        )
    rule = Preference.parse(preference)
    keys, units = Keys(energy_key, forces_key, rule.array), Units(energy_unit, force_unit)
    left_out: Counter[str] = Counter()
    frames = usable_frames(sources, keys, units, drop_cell, left_out if skip_incomplete else None)
    nets = None if external_field else NetForces()
    types = TypeNumbers(type_map, sel)
    hidden = None if progress else True  # None: hidden unless there is a terminal
    output = Path(output)
    room = output.absolute().parent
    with put_in_place(output, overwrite, folder=True) as folder, Spool(room) as spool:
        bar = tqdm(frames, "reading", unit=" frames", disable=hidden)
        atoms, without, alike = _read(bar, rule, types, nets, spool)
        missing = [] if part else rule.missing(types.met)
        if missing:
            raise ValueError(f"`preference` names {', '.join(missing)}, which no frame has")
        names, slots, renumber = types.settle()
        parts = _split(alike, validation, seed)
        writers = []
        for name, wanted in parts.items():
            nframes = int(wanted.sum())
            writers.append(SystemWriter(folder / name, names, slots, nframes, set_size, precision))
            bar = tqdm(spool, f"writing {name}", spool.nframes, unit=" frames", disable=hidden)
            with writers[-1] as writer:
                for (kinds, *rest), take in zip(bar, wanted, strict=True):
                    if take:
                        writer.add(renumber[kinds], *rest)
        for writer in writers:
            writer.complete()
    with_net = 0 if nets is None else nets.warn()
    systems = {str(output / name): int(wanted.sum()) for name, wanted in parts.items()}
    return Packed(
        systems,
        names,
        slots,
        atoms,
        without,
        dict(left_out),
        with_net,
        kept_preference=rule.keeps,
        repeated=len(alike) - len(np.unique(alike)),
    )


def _read(
    frames: Iterable[Frame],
    rule: Preference,
    types: TypeNumbers,
    nets: NetForces | None,
    spool: Spool,
) -> tuple[tuple[int, int], int, np.ndarray]:
    """Read all frames.

    Returns
    -------
    tuple of int
        The smallest and the largest number of atoms in a frame.
    int
        Number of frames without a preferred atom.
    np.ndarray
        [nframes] a number that frames share which have the same atoms at the same places.
    """
    least, most, without = np.inf, 0, 0
    alike = array("Q")
    for frame in frames:
        weights = rule.weights(frame)
        numbers = types.numbers(frame)
        alike.frombytes(digest(numbers, frame.positions)[:8])
        spool.add(
            numbers,
            frame.positions,
            frame.energy,
            frame.forces,
            weights,
        )
        if nets is not None:
            nets.add(frame)
        least, most = min(least, len(weights)), max(most, len(weights))
        without += not weights.any()
    if most == 0:
        raise ValueError("no frame has an atom; look at the sources")
    return (int(least), most), without, np.array(alike)


def _split(alike: np.ndarray, validation: float, seed: int) -> dict[str, np.ndarray]:
    """Tell for each system, by name, which frames are in it, [nframes]; alike ones are in one."""
    nframes = len(alike)
    count = max(1, round(validation * nframes)) if 0 < validation < 1 else int(validation)
    if count >= nframes:
        raise ValueError(
            f"`validation` is {validation}, which is {count} of {nframes} frames; at least one "
            "must be left for training"
        )
    order = np.random.default_rng(seed).permutation(nframes)
    kinds, first, sizes = np.unique(alike[order], return_index=True, return_counts=True)
    if count and len(kinds) == 1:
        raise ValueError(
            f"`validation` is {validation}, and all {nframes} frames are alike; at least one must "
            "be left for training"
        )
    taken, left = [], count
    for kind in first.argsort().tolist():
        if sizes[kind] <= left:
            taken.append(kind)
            left -= sizes[kind]
    if count and not taken:
        taken.append(int(sizes.argmin()))
    chosen = np.isin(alike, kinds[taken])
    return {"train": ~chosen, "validation": chosen} if count else {"": ~chosen}
