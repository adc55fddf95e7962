# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frames that training takes and that are probably not meant: the warnings of ``dp-mask check``."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..balance import find_net
from ..findings import Finding, Report
from ..frame import digest
from ..scan import Scanned
from ..systems import System
from .units import Hydrogens

CLOSE = 0.5  # Å; the shortest bond there is, that of H2, has 0.74
FAR = 10.0  # Å; no bond and no solvation shell is so long
OUTLIER = 10.0  # robust standard deviations
GROUP = 10, 0.05  # frames, and part of all, that are no outliers if they are off together
APART = 1.5  # eV; energies rounded to whole numbers have gaps of 1
STANDS_OUT = 0.3  # of the median residual; sound data have smaller gaps, and need no more fits


def check_distances(system: System, scanned: Scanned, report: Report, hydrogens: Hydrogens) -> None:
    """Warn of frames without atoms, with atoms that nearly touch, and with atoms far off."""
    from scipy.spatial import cKDTree  # noqa: PLC0415  which takes half a second

    chunk = scanned.chunk
    hydrogen = np.array([name.upper() == "H" for name in system.names or ()], dtype=bool)
    of_hydrogen = []
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
        if hydrogen.any():
            of_hydrogen.append(distances[hydrogen[chunk.types[f, real]]])
        one = distances.argmin()
        if distances[one] < CLOSE:
            message = (
                f"only {distances[one]:.3g} from atom {real[neighbours[one]]}, less than {CLOSE}; "
                "if that is no error of the geometry or of the unit, leave it"
            )
            report(system.finding("warning", "close", message, file, place, int(real[one])))
        part, distance = _part(positions)
        if distance > FAR:
            others = f", with {len(part) - 1} others," if len(part) > 1 else ""
            message = (
                f"{distance:.4g}{others} from all other atoms, more than {FAR:g}; take the frame "
                "out if the molecule has exploded, or make molecules whole that a periodic box "
                "has cut; if parts of the region are so far apart, leave it"
            )
            report(system.finding("warning", "far", message, file, place, int(real[part[0]])))
    hydrogens.add(system, of_hydrogen)


def _part(positions: np.ndarray) -> tuple[np.ndarray, float]:
    """Return atoms that are far from all others, and how far they are.

    Parameters
    ----------
    positions
        [natoms, 3]

    Returns
    -------
    np.ndarray
        Numbers of the atoms. Within them and within the others, if these are not again apart, no
        step from atom to atom need be longer than FAR.
    float
        Their distance from the others; 0 if there are no such atoms.
    """
    from scipy.spatial import cKDTree  # noqa: PLC0415

    with np.errstate(over="ignore"):
        middle = np.square(positions - positions.mean(axis=0)).sum(axis=1).argmin()
        near = np.linalg.norm(positions - positions[middle], axis=1) <= FAR
    while not near.all():
        distances = cKDTree(positions[near]).query(positions[~near])[0]
        if distances.min() > FAR:
            fewer = near if 2 * near.sum() <= len(near) else ~near
            return np.flatnonzero(fewer), float(distances.min())
        near[np.flatnonzero(~near)[distances <= FAR]] = True
    return np.flatnonzero(~near), 0.0


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
            real = np.flatnonzero(scanned.chunk.mask[f])
            if len(real) == 0:
                continue
            atoms = numbers[scanned.chunk.types[f, real]], scanned.chunk.coord[f, real]
            first = self.first.setdefault(digest(*atoms), place)
            if first != place:
                message = f"has the same atoms at the same places as {first}; take one of them out"
                set_name = scanned.chunk.set_name
                where = f"{set_name}/coord.npy", (set_name, frame)
                report(system.finding("warning", "repeated", message, *where))


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


class Fit(NamedTuple):
    """A fit of energies on composition, where several zeros of energy may be behind them.

    Attributes
    ----------
    groups
        [nframes] number of each frame's group, which has a zero of its own.
    shifts
        [ngroups] zeros of energy.
    residuals, deviation
        As of ``fit_composition``, with these zeros.
    """

    groups: np.ndarray
    shifts: np.ndarray
    residuals: np.ndarray
    deviation: float


def fit_groups(counts: np.ndarray, energies: np.ndarray) -> Fit:
    """Fit energies on composition, in groups of frames that are far apart, if there are such.

    Groups are told by the gaps between them that a fit without groups leaves; so what composition
    can explain makes none. Gaps are larger than APART, than OUTLIER times the deviation within
    groups, and than STANDS_OUT of what the fit leaves. That fit is one of least squares: for two
    groups of the same size, that of least absolute deviations may have any slope. Where outliers
    pull it too much, the other one is tried.

    Parameters
    ----------
    counts, energies
        As for ``fit_composition``.

    Returns
    -------
    Fit
        With a single group if none are apart.
    """
    residuals, deviation = fit_composition(counts, energies)
    found = Fit(np.zeros(len(energies), dtype=int), np.zeros(1), residuals, deviation)
    n = np.column_stack([counts, np.ones(len(counts))])
    squares = energies - n @ np.linalg.lstsq(n, energies, rcond=1e-12)[0]
    for start in (squares, residuals):
        for more in range(1, 5):
            groups, gap = _split(start, more)
            if gap < STANDS_OUT * np.median(np.abs(start)):
                break
            zeros = groups[:, None] == np.arange(more + 1)
            within, deviation = fit_composition(np.column_stack([counts, zeros]), energies)
            if gap > max(OUTLIER * deviation, APART):
                shifts = np.array([np.median(start[groups == g]) for g in range(more + 1)])
                found = Fit(groups, shifts, within, deviation)
        if len(found.shifts) > 1:
            break
    return found


def _split(values: np.ndarray, more: int) -> tuple[np.ndarray, float]:
    """Split numbers at the largest gaps between them, but near the ends.

    Returns
    -------
    np.ndarray
        Group of each number.
    float
        The smallest of these gaps; 0 if there are too few numbers.
    """
    least = max(GROUP[0], int(GROUP[1] * len(values)))
    order = values.argsort()
    inner = np.diff(values[order])[least - 1 : len(values) - least]
    if len(inner) < more:
        return np.zeros(len(values), dtype=int), 0.0
    at = np.sort(inner.argsort()[-more:])
    groups = np.empty(len(values), dtype=int)
    groups[order] = np.searchsorted(at + least, np.arange(len(values)), side="right")
    return groups, float(inner[at].min())


def check_energies(
    places: Sequence[tuple[System, tuple[str, int]]],
    counts: np.ndarray,
    energies: np.ndarray,
    report: Report,
) -> None:
    """Warn of energies that composition does not explain, of many together or of some.

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
    groups, shifts, residuals, deviation = fit_groups(counts, energies)
    sizes = np.bincount(groups)
    largest = sizes.argmax()
    for g in np.flatnonzero(np.arange(len(sizes)) != largest).tolist():
        members = np.flatnonzero(groups == g).tolist()
        shift = shifts[g] - shifts[largest]
        nsystems = len({places[k][0].path for k in members})
        message = (
            f"energies of {sizes[g]} frames in {nsystems} system{'s' * (nsystems > 1)}, of which "
            f"this is the first, are {shift:+.3g} off those of {sizes[largest]} "
            f"others in a linear fit on composition, {abs(shift) / deviation:.0f} times the usual; "
            "look whether one method, charge, unit and zero of energy is behind all, and label "
            "anew what differs; if these are states of one method so far apart, leave it"
        )
        system, place = places[members[0]]
        file = f"{place[0]}/energy.npy"
        report(system.finding("warning", "energy-reference", message, file, place))
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
