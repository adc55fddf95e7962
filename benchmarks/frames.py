# SPDX-License-Identifier: LGPL-3.0-or-later
"""The frames that are measured: of the data of examples/zinc_protein, or cut out of them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.neighborlist import natural_cutoffs, neighbor_list
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

DATA = Path(__file__).resolve().parent.parent / "examples" / "zinc_protein" / "data"
TYPE_MAP = (DATA / "train" / "type_map.raw").read_text().split()
ZINC = TYPE_MAP.index("ZN")
SUBSETS = ("test", "train", "validation")
GAP = 3.0  # Å, between frames that are put side by side


@dataclass
class Frame:
    """Real atoms with their labels.

    Attributes
    ----------
    types
        [natoms], ascending.
    positions, forces
        [natoms, 3], Å, eV/Å
    preferred
        [natoms], weight of each force.
    energy
        eV
    """

    types: np.ndarray
    positions: np.ndarray
    forces: np.ndarray
    preferred: np.ndarray
    energy: float

    def __len__(self) -> int:
        return len(self.types)

    def part(self, chosen: np.ndarray) -> "Frame":
        """Return some atoms; the labels remain those of the whole."""
        arrays = (self.types, self.positions, self.forces, self.preferred)
        return Frame(*(array[chosen] for array in arrays), self.energy)


def frames_of(subset: str) -> list[Frame]:
    """Return all frames of a subset of the data."""
    types = np.loadtxt(DATA / subset / "type.raw", dtype=int)
    names = ("coord", "force", "atom_pref", "energy", "aparam")
    sets = sorted((DATA / subset).glob("set.*"))
    arrays = [np.concatenate([np.load(d / f"{name}.npy") for d in sets]) for name in names]
    frames = []
    for coord, force, preferred, energy, mask in zip(*arrays, strict=True):
        vectors = (array.reshape(-1, 3).astype(float) for array in (coord, force))
        whole = Frame(types, *vectors, preferred.astype(float), float(energy))
        frames.append(whole.part(mask == 1))
    return frames


@cache
def frame_of(natoms: int) -> Frame:
    """Return so many atoms, whole molecules of one frame: zinc and those nearest to it.

    More than any frame has are several of these side by side.

    Raises
    ------
    ValueError
        If no frame can be cut so.
    """
    frames = [frame for subset in SUBSETS for frame in frames_of(subset)]
    largest = max(map(len, frames))
    count = -(-natoms // largest)
    if count > 1:
        return _side_by_side([frame_of(len(a)) for a in np.array_split(range(natoms), count)])
    # Whole frames first: they are what was trained on.
    for frame in sorted(frames, key=len):
        if len(frame) >= natoms:
            order, sizes = _molecules_from_zinc(frame)
            if natoms in np.cumsum(sizes):
                return frame.part(np.sort(order[:natoms]))
    raise ValueError(f"no frame has whole molecules of {natoms} atoms around zinc")


def _molecules_from_zinc(frame: Frame) -> tuple[np.ndarray, list[int]]:
    """Return the atoms, molecule after molecule as they come nearest to zinc, and their sizes."""
    atoms = Atoms([TYPE_MAP[t].capitalize() for t in frame.types], frame.positions)
    i, j = neighbor_list("ij", atoms, natural_cutoffs(atoms, mult=1.15))
    bonded = (frame.types[i] != ZINC) & (frame.types[j] != ZINC)
    graph = coo_matrix((np.ones(bonded.sum()), (i[bonded], j[bonded])), shape=[len(frame)] * 2)
    count, molecule = connected_components(graph)
    [zinc] = np.flatnonzero(frame.types == ZINC)
    distances = np.linalg.norm(frame.positions - frame.positions[zinc], axis=1)
    nearest = [distances[molecule == m].min() for m in range(count)]
    members = [np.flatnonzero(molecule == m) for m in np.argsort(nearest)]
    return np.concatenate(members), [len(atoms) for atoms in members]


def _side_by_side(frames: list[Frame]) -> Frame:
    """Put frames into a row, with gaps as between molecules."""
    edge, moved = 0.0, []
    for frame in frames:
        x = frame.positions[:, 0]
        moved.append(frame.positions + np.array([edge - x.min(), 0, 0]))
        edge += np.ptp(x) + GAP
    types = np.concatenate([frame.types for frame in frames])
    order = np.argsort(types, kind="stable")
    forces, preferred = (
        np.concatenate([getattr(frame, name) for frame in frames])
        for name in ("forces", "preferred")
    )
    energy = sum(frame.energy for frame in frames)
    return Frame(types, np.concatenate(moved), forces, preferred, energy).part(order)


def write_masked(folder: Path, frames: list[Frame], sel: list[int]) -> Path:
    """Write a masked system in which frames have as many slots of each type as sel says."""
    types = np.repeat(np.arange(len(sel)), sel)
    first = np.cumsum([0, *sel[:-1]])
    shape = (len(frames), len(types))
    arrays = {"coord": np.zeros((*shape, 3)), "force": np.zeros((*shape, 3))}
    arrays |= {"aparam": np.zeros(shape), "atom_pref": np.zeros(shape)}
    for k, frame in enumerate(frames):
        of_type = np.arange(len(frame)) - np.searchsorted(frame.types, frame.types)
        if np.any(of_type >= np.asarray(sel)[frame.types]):
            raise ValueError(f"frame {k} has more atoms of a type than there are slots")
        slots = first[frame.types] + of_type
        arrays["coord"][k, slots] = frame.positions
        arrays["force"][k, slots] = frame.forces
        arrays["atom_pref"][k, slots] = frame.preferred
        arrays["aparam"][k, slots] = 1
    arrays["energy"] = np.array([frame.energy for frame in frames])
    _write_system(folder, types, arrays)
    return folder


def write_mixed(folder: Path, frames: list[Frame]) -> list[Path]:
    """Write systems of real atoms alone, of mixed types, one for each number of atoms."""
    systems = []
    for natoms in sorted(set(map(len, frames))):
        same = [frame for frame in frames if len(frame) == natoms]
        arrays = {
            "coord": np.stack([frame.positions for frame in same]),
            "force": np.stack([frame.forces for frame in same]),
            "atom_pref": np.stack([frame.preferred for frame in same]),
            "real_atom_types": np.stack([frame.types for frame in same]),
            "energy": np.array([frame.energy for frame in same]),
        }
        systems.append(folder / str(natoms))
        _write_system(systems[-1], np.zeros(natoms, int), arrays)
    return systems


def _write_system(folder: Path, types: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
    (folder / "set.000").mkdir(parents=True)
    (folder / "nopbc").touch()
    np.savetxt(folder / "type.raw", types, fmt="%d")
    (folder / "type_map.raw").write_text("\n".join(TYPE_MAP))
    for name, array in arrays.items():
        flat = array if array.ndim == 1 else array.reshape(len(array), -1)
        np.save(folder / "set.000" / name, flat)
