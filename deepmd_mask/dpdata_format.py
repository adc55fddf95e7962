# SPDX-License-Identifier: LGPL-3.0-or-later
"""The format deepmd/mask of dpdata, which loads it through the entry-point group "dpdata.plugins".

The driver in dpdata_driver.py comes with it.

A masked system holds frames of any composition; a system of dpdata holds one. So it is
``dpdata.MultiSystems`` that is written and loaded as a whole.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from dpdata.data_type import Axis, DataType, register_data_type
from dpdata.format import Format

from . import dpdata_driver  # noqa: F401  which registers itself

# Weights of forces, as an array of a dpdata system that may be there.
register_data_type(
    DataType("atom_pref", np.ndarray, (Axis.NFRAMES, Axis.NATOMS), required=False), labeled=True
)


@Format.register("deepmd/mask")
class MaskedFormat(Format):
    """A masked system of deepmd-mask: frames of any composition, padded with virtual atoms.

    Examples
    --------
    >>> dpdata.MultiSystems(*systems).to("deepmd/mask", "data/train", preference="within:2.8:ZN")
    >>> dpdata.MultiSystems().load_systems_from_file("data/train", fmt="deepmd/mask")
    """

    def to_multi_systems(
        self, formulas: list[str], directory: str, **options: Any
    ) -> Iterator[list[dict]]:
        """Collect all systems, then pack them into one; options are those of ``pack``."""
        collected: list[dict] = []
        for _ in formulas:
            yield collected
        _pack(collected, directory, **options)

    def to_system(self, data: dict, target: Any, **options: Any) -> None:
        """Write one system, or hand it to ``to_multi_systems``."""
        if isinstance(target, list):
            target.append(data)
        else:
            _pack([data], target, **options)

    def from_multi_systems(self, directory: str, **options: Any) -> Iterator[dict]:
        """Yield the frames of each composition as the data of one system."""
        yield from _by_composition(directory, **options)

    def from_labeled_system(self, file_name: Any, **options: Any) -> dict:
        """Load a system all of whose frames have the same composition."""
        if isinstance(file_name, dict):  # of from_multi_systems
            return file_name
        systems = list(_by_composition(file_name, **options))
        if len(systems) != 1:
            raise ValueError(
                f"system {file_name}: {len(systems)} compositions, and dpdata.LabeledSystem holds "
                "one; load it with dpdata.MultiSystems"
            )
        return systems[0]


def _pack(systems: list[dict], directory: str, **options: Any) -> None:
    import dpdata  # noqa: PLC0415  not yet there when dpdata loads this module

    from .data.packing.pack import pack  # noqa: PLC0415

    if not systems:
        raise ValueError("there is no system to pack")
    options.setdefault("type_map", list(systems[0]["atom_names"]))
    pack([dpdata.LabeledSystem(data=data) for data in systems], directory, **options)


def _by_composition(directory: str, type_map: list[str] | None = None, **_: Any) -> Iterator[dict]:
    """Yield the data of dpdata systems, in the order of their first frames."""
    from .data.packing.sources import Frame, Incomplete, Keys, read_frames  # noqa: PLC0415

    found: dict[tuple, list[Frame]] = {}
    for frame in read_frames(str(directory), Keys(array="atom_pref")):
        if isinstance(frame, Incomplete):
            raise ValueError(str(frame))
        found.setdefault(tuple(frame.names.tolist()), []).append(frame)
    all_names = type_map or list(dict.fromkeys(name for names in found for name in names))
    for names, frames in found.items():
        types = np.array([all_names.index(name) for name in names], dtype=int)
        data = {
            "atom_names": list(all_names),
            "atom_numbs": np.bincount(types, minlength=len(all_names)).tolist(),
            "atom_types": types,
            "orig": np.zeros(3),
            "nopbc": True,
            "cells": np.zeros((len(frames), 3, 3)),
            "coords": np.stack([frame.positions for frame in frames]),
            "energies": np.array([frame.energy for frame in frames]),
            "forces": np.stack([frame.forces for frame in frames]),
        }
        if all("atom_pref" in frame.arrays for frame in frames):
            data["atom_pref"] = np.stack([frame.arrays["atom_pref"] for frame in frames])
        yield data
