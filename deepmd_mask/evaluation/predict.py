# SPDX-License-Identifier: LGPL-3.0-or-later
"""What frozen models give for the frames of masked systems, some at a time."""

import os
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from ..data.systems import Chunk, System
from ..potential import Potential
from .metrics import Place

SLOTS_PER_EVALUATION = 1 << 13  # at most, if they are of several frames


class Frames(NamedTuple):
    """Some frames of a system, and what the model gives for them."""

    system: str
    chunk: Chunk
    types: np.ndarray  # [nframes, nslots] as the model numbers them; that of no type is 0
    energy: np.ndarray  # [nframes]
    force: np.ndarray  # [nframes, nslots, 3]

    def place(self, index: int) -> Place:
        """Name a frame by its index."""
        return Place(self.system, self.chunk.set_name, self.chunk.first + index)

    def atom(self, index: int) -> Place:
        """Name a slot by its index among those of all frames."""
        frame, atom = divmod(index, self.types.shape[1])
        return self.place(frame)._replace(atom=atom)


class Source(Protocol):
    """Where frames come from: a System, or what stands in its place."""

    @property
    def names(self) -> tuple[str, ...] | None:
        """Return the names of its types; None for those of the model."""

    def chunks(self) -> Iterator[Chunk]:
        """Read all frames."""
        ...


class Model:
    """A frozen model."""

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        self.potential = Potential(path)
        self.type_map = tuple(self.potential.type_map)

    def predict(self, system: System) -> Iterator[Frames]:
        """Yield all frames of a system, with what the model gives."""
        for chunk, types in parts(system, [self]):
            yield self.predict_part(system.path, chunk, types)

    def predict_part(self, path: str, chunk: Chunk, types: np.ndarray) -> Frames:
        """Return some frames with what the model gives.

        Parameters
        ----------
        path
            Of the system.
        chunk
            The frames.
        types
            [nframes, nslots] as the model numbers them.

        Raises
        ------
        ValueError
            Naming model and system, if the model cannot be evaluated, and the frame if an energy
            or a force is not finite.
        """
        try:
            found = self.potential.evaluate(types, chunk.coord, chunk.mask)
        except ValueError as error:  # the frames have been looked through
            raise ValueError(f"model {self.path} cannot evaluate {path} ({error})") from error
        result = Frames(path, chunk, types, found.energy, found.forces)
        finite = np.isfinite(found.energy) & np.isfinite(found.forces).all(axis=(1, 2))
        for frame in np.flatnonzero(~finite)[:1].tolist():
            raise ValueError(
                f"{result.place(frame)}: model {self.path} gives an energy or a force that is not "
                "finite; look at its training (lcurve.out)"
            )
        return result


def parts(system: Source, models: list[Model]) -> Iterator[tuple[Chunk, np.ndarray]]:
    """Yield all frames of a system, some at a time, and their types.

    Parameters
    ----------
    system
        The system; the models know its types.
    models
        Models of one type map.

    Yields
    ------
    Chunk
        Some frames.
    np.ndarray
        [nframes, nslots] their types as the models number them; 0 for no type.
    """
    type_map = models[0].type_map
    numbers = np.array([type_map.index(name) for name in system.names or type_map])
    for whole in system.chunks():
        step = max(1, SLOTS_PER_EVALUATION // max(1, whole.mask.shape[1]))
        for first in range(0, len(whole), step):
            chunk = whole.take(slice(first, first + step))
            yield chunk, np.where(chunk.types < 0, 0, numbers[chunk.types])
