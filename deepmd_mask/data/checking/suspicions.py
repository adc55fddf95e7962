# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frames that training takes and that are probably not meant: the warnings of ``dp-mask check``."""

import hashlib
from collections.abc import Sequence

import numpy as np

from ..balance import find_net
from ..findings import Finding, Report
from ..scan import Scanned
from ..systems import System

CLOSE = 0.5  # Å; the shortest bond there is, that of H2, has 0.74
FAR = 10.0  # Å; no bond and no solvation shell is so long
SAME = 1e-4  # Å; to which coordinates are rounded before frames are compared
OUTLIER = 10.0  # robust standard deviations


def check_distances(system: System, scanned: Scanned, report: Report) -> None:
    """Warn of frames without atoms, with atoms that nearly touch, and with atoms far off."""
    from scipy.spatial import cKDTree  # noqa: PLC0415  which takes half a second

    chunk = scanned.chunk
    for f, frame in enumerate(scanned.frames.tolist()):
        place, file = (chunk.set_name, frame), f"{chunk.set_name}/coord.npy"
        real = np.flatnonzero(chunk.mask[f])
        if len(real) == 0:
            message = "no atom is real; training learns nothing from this frame"
            mask = f"{chunk.set_name}/aparam.npy"
            report(system.finding("warning", "no-atom", message, mask, place))
        if len(real) < 2:
            continue
        positions = chunk.coord[f, real]
        distances, neighbours = (part[:, 1] for part in cKDTree(positions).query(positions, k=2))
        one, lost = distances.argmin(), distances.argmax()
        if distances[one] < CLOSE:
            message = (
                f"only {distances[one]:.3g} from atom {real[neighbours[one]]}, less than {CLOSE}; "
                "if that is no error of the geometry or of the unit, leave it"
            )
            report(system.finding("warning", "close", message, file, place, int(real[one])))
        if distances[lost] > FAR:
            message = (
                f"{distances[lost]:.4g} from its nearest neighbour, more than {FAR:g}; take the "
                "frame out if the molecule has exploded, or make molecules whole that a "
                "periodic box has cut"
            )
            report(system.finding("warning", "far", message, file, place, int(real[lost])))


def check_balance(system: System, scanned: Scanned, report: Report) -> None:
    """Warn of frames with a net force or a net torque."""
    chunk = scanned.chunk
    if chunk.force is None:
        return
    for net in find_net(chunk.coord, chunk.force, chunk.mask):
        place, file = (
            (chunk.set_name, int(scanned.frames[net.frame])),
            f"{chunk.set_name}/force.npy",
        )
        report(system.finding("warning", net.code, net.message, file, place))


class Repeats:
    """Finds frames with the same atoms at the same places, in any order, in all systems."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.first: dict[bytes, str] = {}  # place of each kind of frame

    def check(self, system: System, scanned: Scanned, report: Report) -> None:
        """Warn of frames that were there before."""
        names = system.names or [str(t) for t in range(int(system.types.max()) + 1)]
        numbers = np.array([self.names.setdefault(n, len(self.names)) for n in names])
        for f, frame in enumerate(scanned.frames.tolist()):
            place = f"system {system.path}, {scanned.chunk.set_name}, frame {frame}"
            digest = _digest(scanned, f, numbers)
            if digest is None:
                continue
            first = self.first.setdefault(digest, place)
            if first != place:
                message = f"has the same atoms at the same places as {first}; take one of them out"
                set_name = scanned.chunk.set_name
                where = f"{set_name}/coord.npy", (set_name, frame)
                report(system.finding("warning", "repeated", message, *where))


def _digest(scanned: Scanned, f: int, numbers: np.ndarray) -> bytes | None:
    real = np.flatnonzero(scanned.chunk.mask[f])
    if len(real) == 0:
        return None
    rows = np.empty((len(real), 4))  # whole numbers that may be larger than integers can be
    rows[:, 0] = numbers[scanned.chunk.types[f, real]]
    rows[:, 1:] = np.rint(scanned.chunk.coord[f, real] / SAME) + 0.0  # no -0.0
    rows = rows[np.lexsort(rows.T)]
    return hashlib.blake2b(rows.tobytes(), digest_size=16).digest()


def fit_composition(counts: np.ndarray, energies: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit E = c_0 + Σ_t n_t c_t so that few frames that are wrong do not matter.

    Least absolute deviations, by iteratively reweighted least squares
    (E. J. Schlossmacher, J. Am. Stat. Assoc. 68 (1973), 857-859).

    Parameters
    ----------
    counts
        [nframes, ntypes] real atoms of each type.
    energies
        [nframes]

    Returns
    -------
    residuals
        [nframes] of which the median is 0.
    deviation
        1.4826 times the median of their magnitudes: the standard deviation, were they normal.
    """
    n, E = counts.astype(np.float64), energies - np.median(energies)
    n = np.column_stack([n - np.median(n, axis=0), n[:, :1] * 0 + 1])
    tiny = 1e-10 * max(np.abs(energies).max(), 1e-300)
    weights = np.ones(len(E))
    for _ in range(30):
        c = np.linalg.lstsq(n * weights[:, None], E * weights, rcond=1e-12)[0]
        residuals = E - n @ c
        weights = 1 / np.sqrt(np.maximum(np.abs(residuals), tiny))
        weights /= weights.max()
    residuals -= np.median(residuals)
    return residuals, max(1.4826 * float(np.median(np.abs(residuals))), tiny)


def check_energies(
    places: Sequence[tuple[System, tuple[str, int]]],
    counts: np.ndarray,
    energies: np.ndarray,
    report: Report,
) -> None:
    """Warn of energies that composition does not explain.

    There must be three frames for each type that occurs, and at least ten.

    Parameters
    ----------
    places
        System of each frame, and its set and number within that.
    counts
        [nframes, ntypes] real atoms of each type.
    energies
        [nframes]
    report
        Is told of outliers.
    """
    counts = counts[:, counts.any(axis=0)]
    if len(energies) < max(10, 3 * counts.shape[1]):
        return
    residuals, deviation = fit_composition(counts, energies)
    for k in np.flatnonzero(np.abs(residuals) > OUTLIER * deviation).tolist():
        system, place = places[k]
        message = (
            f"energy {energies[k]:.10g} is {residuals[k]:+.4g} off a linear fit on composition, "
            f"{abs(residuals[k]) / deviation:.0f} times the usual; look at this frame's "
            "calculation (charge, spin, convergence, unit)"
        )
        file = f"{place[0]}/energy.npy"
        report(system.finding("warning", "energy-outlier", message, file, place))


def check_compositions(system: str, counts: np.ndarray, report: Report) -> None:
    """Warn if compositions leave open what a residue costs that enters a region.

    Parameters
    ----------
    system
        Path of the first one, of which the finding is.
    counts
        [nframes, ntypes] real atoms of each type, in frames of all systems.
    report
        Is told.
    """
    counts = counts[counts.any(axis=1)]
    if len(counts) < 2:
        return
    kinds = np.unique(counts, axis=0)
    kinds = kinds[kinds.sum(axis=1).argsort()]
    for k, fewer in enumerate(kinds):
        more = kinds[k + 1 :]
        if ((more >= fewer).all(axis=1) & (more > fewer).any(axis=1)).any():
            return
    what = f"all {len(counts)} frames have one composition"
    if len(kinds) > 1:
        what = f"none of {len(kinds)} compositions is another one with residues missing"
    message = (
        f"{what}, so energies do not tell what it costs to enter a region; if the model is for a "
        "region with a smooth edge, add frames cut at several radii, some with residues missing"
    )
    report(Finding("warning", "one-composition", system, message))
