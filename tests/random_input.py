# SPDX-License-Identifier: LGPL-3.0-or-later
"""Random frames, nets and models for the kernels' bindings, good ones and spoilt ones."""

import numpy as np
import reference

from deepmd_mask import _kernels

WILD = [np.nan, np.inf, -np.inf, 1e300, -1e150, 1e-300, 0.0, 2.0**31, -(2.0**63)]
CLOSEST = 1e-6  # nearer real atoms are refused


def spoil(rng, array, values, share):
    """Put some of the values into a share of the array."""
    chosen = rng.uniform(size=array.shape) < share
    array[chosen] = rng.choice(values, size=chosen.sum())


class RandomFrames:
    """Frames that are good, or spoilt in one way or several."""

    def __init__(self, seed, max_slots=9):
        rng = np.random.default_rng(seed)
        self.ntypes = int(rng.integers(1, 4))
        shape = rng.integers(0, 4), rng.integers(0, max_slots + 1)
        self.types = rng.integers(self.ntypes, size=shape).astype(np.int32)
        self.mask = (rng.uniform(size=shape) < rng.uniform()).astype(float)
        self.coord = rng.normal(scale=10.0 ** rng.integers(-5, 6), size=(*shape, 3))
        if rng.uniform() < 0.3:
            spoil(rng, self.coord, WILD, 0.1)
        if rng.uniform() < 0.2:
            spoil(rng, self.coord, [-1.0, 1.0], 0.8)  # coincident
        if rng.uniform() < 0.2:
            spoil(rng, self.mask, [*WILD, 0.5, -1.0], 0.1)
        if rng.uniform() < 0.2:
            spoil(rng, self.types, [-1, -2, self.ntypes, 2**31 - 1, -(2**31)], 0.1)
        self.rng = rng
        self.groups = None

    def give_groups(self):
        """Give the atoms groups, and each group a weight, unless that is spoilt, too."""
        rng, shape = self.rng, self.mask.shape
        numbers = np.array([0, 1, 7, -1, 2**62, -(2**63), 2**63 - 1])
        which = rng.integers(rng.integers(1, len(numbers) + 1), size=shape)
        self.groups = numbers[which]
        weights = rng.uniform(size=(len(self.mask), len(numbers)))
        spoil(rng, weights, [1.0, 1e-12, 1e-300, np.nextafter(1, 0)], 0.3)
        with np.errstate(invalid="ignore", over="ignore"):
            self.mask *= np.take_along_axis(weights, which, axis=1)
        if rng.uniform() < 0.2:
            spoil(rng, self.mask, [*WILD, 0.5, -1.0, np.nextafter(1, 2), -1e-300], 0.1)
        if rng.uniform() < 0.1:
            spoil(rng, self.groups, [3, 2**62], 0.2)

    def atoms(self):
        return _kernels.RealAtoms(self.coord, self.types, self.mask, self.ntypes)

    def good(self):
        """Whether the design allows the frames, by other means than the kernels."""
        real = self.mask != 0
        outside = (self.types < -1) | (self.types >= self.ntypes) | (real & (self.types == -1))
        if outside.any() or not self.good_weights():
            return False
        if not np.isfinite(self.coord[real]).all():
            return False
        return self.shortest() >= CLOSEST

    def good_weights(self):
        """Whether they are 0 or 1 or, with groups, between and the same for a group."""
        if self.groups is None:
            return np.isin(self.mask, [0, 1]).all()
        if not ((self.mask >= 0) & (self.mask <= 1)).all():
            return False
        pairs = zip(self.groups, self.mask, strict=True)
        found = [{*zip(g[w != 0].tolist(), w[w != 0].tolist(), strict=True)} for g, w in pairs]
        return all(len(of_frame) == len({g for g, _ in of_frame}) for of_frame in found)

    def shortest(self):
        """Distance of the two closest real atoms."""
        shortest = np.inf
        for coord, mask in zip(self.coord, self.mask, strict=True):
            r = coord[mask != 0]
            with np.errstate(over="ignore"):
                d = np.sqrt(np.sum((r[:, None] - r) ** 2, axis=2))
            d[np.diag_indices_from(d)] = np.inf
            shortest = min(shortest, d.min(initial=np.inf))
        return shortest


class RandomNets:
    """Nets for frames; spoilt ones have arrays that are missing or of the wrong size."""

    def __init__(self, frames, spoilt):
        rng, ntypes = frames.rng, frames.ntypes
        self.dtype = rng.choice([np.float64, np.float32])
        neuron = rng.integers(1, 20, size=rng.integers(1, 4)).tolist()
        self.options = {
            "neuron": neuron,
            "resnet_dt": bool(rng.integers(2)),
            "activation": str(rng.choice(list(reference.ACTIVATIONS))),
            "net": rng.integers(-1, 2, size=ntypes * ntypes).tolist(),
            "n": float(rng.integers(1, 100)),
            "threads": int(rng.integers(1, 4)),
        }
        shapes = 2 * reference.parameters_per_net(neuron, self.options["resnet_dt"])
        self.options["parameters"] = [rng.normal(size=s).astype(self.dtype) for s in shapes]
        if spoilt:
            self.spoil(rng)

    def spoil(self, rng):
        neuron, parameters = self.options["neuron"], self.options["parameters"]
        worse = {
            "neuron": [[], [0], [-3], [5] * 9],
            "activation": ["", "Tan", "silut:", "silut:x", "silut:1e999", "tanh:3", ":", "\0"],
            "net": [[], [0] * 100, [2] * len(self.options["net"]), [-2, 0, 0]],
            "n": [0.0, -1.0, np.nan],
            "threads": [0, -1],
            "parameters": [parameters[:-1], [p[:0] for p in parameters]],
        }
        if max(self.options["net"]) >= 0:  # some are needed
            worse["parameters"].append([])
        if [p.size for p in parameters] != [p.size for p in parameters[::-1]]:
            worse["parameters"].append(parameters[::-1])
        if neuron == [5] * 9:
            del worse["neuron"][-1]
        option = str(rng.choice(list(worse)))
        self.options[option] = worse[option][rng.integers(len(worse[option]))]

    def kernels(self, atoms):
        name = {np.float64: "Embedding64", np.float32: "Embedding32"}[self.dtype]
        return getattr(_kernels, name)(atoms, **self.options)


def random_model(frames):
    """Return arguments of Model for frames."""
    nets, rng, ntypes = RandomNets(frames, spoilt=False), frames.rng, frames.ntypes
    options = nets.options
    del options["threads"]
    M2 = int(rng.integers(1, options["neuron"][-1] + 1))
    neuron = rng.integers(1, 20, size=rng.integers(0, 3)).tolist()
    shapes = reference.parameters_per_fitting_net(options["neuron"][-1] * M2, neuron, True)
    return {
        **options,
        "precision": np.dtype(nets.dtype).name,
        "M2": M2,
        "table": None,
        "min_distance": rng.choice([None, 1e-3, 1.0, 1e3]),
        "fitting_neuron": neuron,
        "fitting_resnet_dt": True,
        "fitting_activation": str(rng.choice(list(reference.ACTIVATIONS))),
        "fitting_parameters": [rng.normal(size=shape) for shape in shapes * ntypes],
        "bias": rng.normal(size=ntypes),
    }
