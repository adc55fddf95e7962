# SPDX-License-Identifier: LGPL-3.0-or-later
"""Reads masked systems before training does, and says what is wrong with them.

docs/data.md describes the files.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from deepmd.utils.data_system import process_systems
from deepmd.utils.path import DPPath

from ._kernels import RealAtoms


@dataclass(frozen=True)
class Summary:
    """What training needs to know of its data beforehand.

    Attributes
    ----------
    min_distance
        The shortest distance between two real atoms; infinite if no frame has two.
    max_count
        [ntypes] the largest number of real atoms of each type in any frame.
    """

    min_distance: float
    max_count: np.ndarray


def check_training_data(jdata: dict) -> None:
    """Look through all data of a training run.

    Parameters
    ----------
    jdata
        The normalised input of ``dp train``.

    Raises
    ------
    ValueError
        Naming system, file, frame and atom, if anything is found that training cannot use.
    """
    sel = jdata["model"]["descriptor"]["sel"]
    type_map = jdata["model"].get("type_map")
    if jdata["model"]["fitting_net"].get("numb_aparam", 0) != 1:
        raise ValueError(
            "se_a_mask takes its mask from aparam.npy; set numb_aparam to 1 and "
            "use_aparam_as_mask to true in fitting_net"
        )
    loss = jdata.get("loss", {})
    needs_preference = any(loss.get(f"{when}_pref_pf", 0) != 0 for when in ("start", "limit"))
    for section in ("training_data", "validation_data"):
        data = jdata["training"].get(section)
        if not data:
            continue
        systems = process_systems(data["systems"], patterns=data.get("rglob_patterns"))
        if isinstance(sel, str):  # set by the training data, binding for the validation data
            sel = auto_sel(sel, scan_systems(systems, type_map).max_count)
        scan_systems(systems, type_map, sel, needs_preference)


def auto_sel(sel: str, max_count: np.ndarray) -> list[int]:
    """Turn "auto" or "auto:f" into a list, by DeePMD-kit's rule for other descriptors.

    Parameters
    ----------
    sel
        "auto:f", or "auto" for "auto:1.1".
    max_count
        [ntypes] the largest number of real atoms of each type in any frame.

    Returns
    -------
    list of int
        The whole part of f * max_count, rounded up to a multiple of four.
    """
    # Not above: deepmd.tf loads this package's plugin, which imports this module.
    from deepmd.tf.utils.update_sel import UpdateSel  # noqa: PLC0415

    rule = UpdateSel()
    ratio = rule.parse_auto_sel_ratio(sel)
    return [rule.wrap_up_4(ratio * count) for count in max_count]


def scan_systems(
    systems: Sequence[str],
    type_map: Sequence[str] | None,
    sel: Sequence[int] | None = None,
    needs_preference: bool = False,
) -> Summary:
    """Look through systems.

    Parameters
    ----------
    systems
        Their paths.
    type_map
        Of the model; None for the types' numbers as they are.
    sel
        Bound on the real atoms of each type; None for no bound.
    needs_preference
        Whether atom_pref.npy must be there.

    Returns
    -------
    Summary
        Of all systems together.

    Raises
    ------
    ValueError
        Naming system, file, frame and atom, if a system is not a masked one or exceeds sel.
    """
    names = tuple(type_map) if type_map else None
    if not systems:
        raise ValueError("there is no system; name one in training_data/systems")
    scans = [_scan(system, names, needs_preference) for system in systems]
    ntypes = max(len(counts) for scan in scans for _, counts in scan.frames)
    for system, scan in zip(systems, scans, strict=True):
        if sel is not None:
            _require_within_sel(system, scan, sel, names)
    counts = [np.pad(c, (0, ntypes - len(c))) for scan in scans for _, c in scan.frames]
    return Summary(min(scan.min_distance for scan in scans), np.max(counts, axis=0))


@dataclass(frozen=True)
class _Scan:
    min_distance: float
    frames: list[tuple[str, np.ndarray]]  # set and number of each frame, its atoms of each type


def _scan(system: str, type_map: tuple[str, ...] | None, preference: bool) -> _Scan:
    """Read one system."""
    root = DPPath(system)
    if not (root / "nopbc").is_file():
        raise ValueError(
            f"system {system} is periodic: it has no file nopbc. se_a_mask knows no periodic "
            "images; cut out the region with whole molecules and add an empty file nopbc"
        )
    types, number_in_model = _types(system, root, type_map)
    ntypes = len(type_map or number_in_model)
    sets = sorted(root.glob("set.*"))
    if not sets:
        raise ValueError(f"system {system}: there is no set.*")
    shortest, frames = np.inf, []
    for directory in sets:
        set_name = os.path.basename(str(directory))
        coord = _load(directory, "coord", system)
        nframes = 1 if coord.ndim == 1 else len(coord)
        _require_shape(system, f"{set_name}/coord.npy", coord, (nframes, 3 * len(types)))
        mask = _load_atomic(system, directory, "aparam", nframes, len(types))
        if preference or (directory / "atom_pref.npy").is_file():
            _load_atomic(system, directory, "atom_pref", nframes, len(types))
        types_of_frame = _types_of_frames(directory, types, number_in_model, nframes)
        try:
            atoms = RealAtoms(coord, types_of_frame, mask, ntypes)
        except ValueError as error:
            raise ValueError(f"system {system}, {set_name}, {error}") from None
        shortest = min(shortest, atoms.min_distance)
        counts = np.diff(atoms.first).reshape(ntypes, nframes)
        if nframes == 0:
            raise ValueError(f"system {system}: {set_name} has no frame")
        frames += [(f"{set_name}, frame {f}", counts[:, f]) for f in range(nframes)]
    return _Scan(shortest, frames)


def _types(
    system: str, root: DPPath, type_map: tuple[str, ...] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the types of the slots [nslots] and, for each type, its number in the model."""
    types = (root / "type.raw").load_txt(ndmin=1).astype(np.int32)
    map_file = root / "type_map.raw"
    if not map_file.is_file():
        return types, np.arange(len(type_map) if type_map else int(types.max()) + 1)
    own = map_file.load_txt(dtype=str, ndmin=1).tolist()
    for atom in np.flatnonzero((types < 0) | (types >= len(own)))[:1]:
        raise ValueError(
            f"system {system}, type.raw, atom {atom}: type {types[atom]} is outside the type map, "
            f"which has {len(own)} types in type_map.raw; number them from 0"
        )
    if type_map is None:
        return types, np.arange(len(own))
    for name in own:
        if name not in type_map:
            raise ValueError(
                f"system {system}, type_map.raw: {name} is not in the model's type_map "
                f"{list(type_map)}; add it there, and to sel"
            )
    return types, np.array([type_map.index(name) for name in own])


def _types_of_frames(
    directory: DPPath, types: np.ndarray, number_in_model: np.ndarray, nframes: int
) -> np.ndarray:
    """Return types [nframes, nslots] as the model numbers them; -1 stays.

    deepmd/npy/mixed keeps types frame by frame.
    """
    types = np.broadcast_to(types, (nframes, len(types)))
    mixed = directory / "real_atom_types.npy"
    if mixed.is_file():
        types = mixed.load_numpy().astype(np.int32).reshape(types.shape)
    outside = (types < 0) | (types >= len(number_in_model))  # RealAtoms complains, if need be
    return np.where(outside, types, number_in_model[np.where(outside, 0, types)]).astype(np.int32)


def _load(directory: DPPath, key: str, system: str) -> np.ndarray:
    path = directory / f"{key}.npy"
    if not path.is_file():
        raise ValueError(
            f"system {system}: {os.path.basename(str(directory))}/{key}.npy is missing"
        )
    return path.load_numpy()


def _load_atomic(system: str, directory: DPPath, key: str, nframes: int, nslots: int) -> np.ndarray:
    """Return one number for each slot, [nframes, nslots]."""
    name = f"{os.path.basename(str(directory))}/{key}.npy"
    wanted = (nframes, nslots)
    if not (directory / f"{key}.npy").is_file():
        raise ValueError(
            f"system {system}: {name} is missing; its shape must be {wanted}, "
            + ("1 for real atoms, 0 for virtual ones" if key == "aparam" else "weights of forces")
        )
    values = _load(directory, key, system)
    _require_shape(system, name, values, wanted)
    return values.reshape(wanted)


def _require_shape(system: str, name: str, found: np.ndarray, wanted: tuple[int, int]) -> None:
    """Require as many numbers as wanted, in that shape or one that DeePMD-kit takes for it."""
    if found.size != np.prod(wanted) or (found.ndim > 1 and len(found) != wanted[0]):
        raise ValueError(f"system {system}, {name}: found shape {found.shape}, expected {wanted}")


def _require_within_sel(
    system: str, scan: _Scan, sel: Sequence[int], type_map: tuple[str, ...] | None
) -> None:
    for where, counts in scan.frames:
        for t, count in enumerate(counts):
            bound = sel[t] if t < len(sel) else 0
            if count > bound:
                name = f"type {t}" + (f" ({type_map[t]})" if type_map else "")
                raise ValueError(
                    f"system {system}, {where}: {count} real atoms of {name}, but sel allows "
                    f"{bound}; raise sel or take atoms out of the frame"
                )
