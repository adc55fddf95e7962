# SPDX-License-Identifier: LGPL-3.0-or-later
"""What frozen models give for the frames of masked systems, some at a time."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..data.findings import refuse_or_log
from ..data.scan import Wanted, scan_system
from ..data.systems import Chunk, System
from ..potential import Potential, Prediction
from ..shared.paths import Paths, listed
from .metrics import Place


def looked_through(path: str, wanted: Wanted) -> System:
    """Open a system and look through it, by the rules of training.

    Types without names are worth a warning: if they are not the model's, each number is of other
    atoms. All other warnings are for dp-mask check.

    Raises
    ------
    ValueError
        If something is wrong.
    """
    scan = scan_system(path, wanted, refuse_or_log(["type-map"]))
    assert scan is not None  # nothing was refused
    return scan.system


SLOTS_PER_EVALUATION = 1 << 13  # at most, if they are of several frames


class Frames(NamedTuple):
    """Some frames of a system, and what the model gives for them."""

    system: str
    chunk: Chunk
    types: np.ndarray  # [nframes, nslots] as the model numbers them; that of no type is 0
    energy: np.ndarray  # [nframes]
    force: np.ndarray  # [nframes, nslots, 3]
    deviation: np.ndarray | None = None  # [nframes, nslots], of a committee, as of a Prediction
    energy_deviation: np.ndarray | None = None  # [nframes]

    def place(self, index: int) -> Place:
        """Name a frame by its index."""
        return Place(self.system, self.chunk.set_name, self.chunk.first + index)

    def atom(self, index: int) -> Place:
        """Name a slot by its index among those of all frames."""
        frame, atom = divmod(index, self.types.shape[1])
        return self.place(frame)._replace(atom=atom)

    def alone(self, index: int) -> "Frames":
        """Return one of the frames."""
        one = slice(index, index + 1)
        arrays: list[Any] = [None if array is None else array[one] for array in self[2:]]
        return Frames(self.system, self.chunk.take(one), *arrays)


class Source(Protocol):
    """Where frames come from: a System, or what stands in its place."""

    @property
    def path(self) -> str:
        """Return its path."""
        ...

    @property
    def names(self) -> tuple[str, ...] | None:
        """Return the names of its types; None for those of the model."""

    def chunks(self) -> Iterator[Chunk]:
        """Read all frames."""
        ...


class Model:
    """A frozen model, or a committee of several."""

    def __init__(self, paths: Paths):
        self.paths = listed(paths)
        self.potential = Potential(self.paths)
        self.type_map = tuple(self.potential.type_map)
        self.name = f"model{'s' * (len(self.paths) > 1)} {', '.join(self.paths)}"

    def predict(self, system: Source) -> Iterator[Frames]:
        """Yield all frames of a system, some at a time, with what the model gives.

        Raises
        ------
        ValueError
            Naming model and system, if the model cannot be evaluated, and the frame if an energy
            or a force is not finite.
        """
        for chunk, types in _parts(system, self.type_map):
            yield self._predict_part(system.path, chunk, types)

    def _predict_part(self, path: str, chunk: Chunk, types: np.ndarray) -> Frames:
        """Return some frames [nframes, nslots] of these types with what the model gives."""
        try:
            found = self.potential.evaluate(types, chunk.coord, chunk.mask)
        except ValueError as error:  # the frames have been looked through
            raise ValueError(f"{self.name} cannot evaluate {path} ({error})") from error
        deviations = found.deviation, found.energy_deviation
        result = Frames(path, chunk, types, found.energy, found.forces, *deviations)
        for frame in np.flatnonzero(~_is_finite(found))[:1].tolist():
            raise ValueError(
                f"{result.place(frame)}: model {self._culprit(result.alone(frame))} gives an "
                "energy or a force that is not finite; look at its training (lcurve.out)"
            )
        return result

    def _culprit(self, frame: Frames) -> str:
        """Return the first model that gives a frame numbers which are not finite."""
        for path in self.paths[:-1]:
            found = Potential(path).evaluate(frame.types, frame.chunk.coord, frame.chunk.mask)
            if not _is_finite(found).all():
                return path
        return self.paths[-1]


def _is_finite(found: Prediction) -> np.ndarray:
    """Return of which frames [nframes] all is finite."""
    return np.isfinite(found.energy) & np.isfinite(found.forces).all(axis=(1, 2))


def _parts(system: Source, type_map: tuple[str, ...]) -> Iterator[tuple[Chunk, np.ndarray]]:
    """Yield all frames of a system, some at a time, and their types.

    Parameters
    ----------
    system
        The system.
    type_map
        Of the models, which know the system's types.

    Yields
    ------
    Chunk
        Some frames.
    np.ndarray
        [nframes, nslots] their types as the models number them; 0 for no type.
    """
    numbers = np.array([type_map.index(name) for name in system.names or type_map])
    for whole in system.chunks():
        step = max(1, SLOTS_PER_EVALUATION // max(1, whole.mask.shape[1]))
        for first in range(0, len(whole), step):
            chunk = whole.take(slice(first, first + step))
            yield chunk, np.where(chunk.types < 0, 0, numbers[chunk.types])
