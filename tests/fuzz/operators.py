# SPDX-License-Identifier: LGPL-3.0-or-later
"""The operators, through TensorFlow, with inputs and attributes that do not fit each other."""

import numpy as np
import reference
import tensorflow as tf

from deepmd_mask.graph import ops

REFUSALS = (tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError)
# What TensorFlow's Python refuses before an operator is asked.
REFUSALS_OF_PYTHON = (ValueError, TypeError)
WILD = [np.nan, np.inf, -np.inf, 1e308, -1e150, 1e-308, 0.0, 2.0**31, -(2.0**63), 0.5]
HUGE = [2**20, 2**31 - 1, 2**31, 2**40, 2**61, 2**62, 2**63 - 1]
TERMS = 16


class Call:
    """A call of an operator that fits, before anything of it is spoilt."""

    def __init__(self, rng):
        self.rng = rng
        self.T = rng.choice([np.float64, np.float32])
        self.ntypes = int(rng.integers(1, 4))
        self.nframes, self.nslots = int(rng.integers(0, 4)), int(rng.integers(0, 7))
        shape = self.nframes, self.nslots
        self.types = rng.integers(self.ntypes, size=shape).astype(np.int32)
        self.mask = (rng.uniform(size=shape) < 0.7).astype(float)
        self.coord = rng.normal(scale=3.0, size=(self.nframes, 3 * self.nslots))
        self.slot = reference.real_atoms(self.types, self.mask)
        frame, kind = self.slot // max(1, self.nslots), self.types.ravel()[self.slot]
        group = kind * self.nframes + frame
        size = np.bincount(group, minlength=self.ntypes * self.nframes)
        self.first = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
        self.neuron = rng.integers(1, 9, size=rng.integers(1, 4)).tolist()
        self.M1 = self.neuron[-1]
        self.M2 = int(rng.integers(1, self.M1 + 1))
        self.resnet_dt = bool(rng.integers(2))
        self.activation = str(rng.choice(list(reference.ACTIVATIONS)))
        self.nnets = int(rng.integers(1, 3))
        self.net = rng.integers(-1, self.nnets, size=self.ntypes**2).tolist()
        shapes = reference.parameters_per_net(self.neuron, self.resnet_dt)
        self.parameters = [self.array(*s) for s in self.nnets * shapes]
        panels = rng.integers(0, 3, size=self.nnets)
        self.series_first = np.concatenate([[0], np.cumsum(panels)]).astype(np.int64)
        middle = np.concatenate([np.arange(count) + 0.5 for count in panels])
        self.panels = np.stack([middle, np.full(len(middle), 0.5)], axis=1)
        self.C = self.array(len(middle), TERMS, self.M1)
        self.X_shape = len(self.slot), 4, self.M1
        self.forces = [(self.nframes, width * self.nslots) for width in (3, 9)]
        self.forces.insert(1, (self.nframes, 9))

    def array(self, *shape):
        return self.rng.normal(size=shape).astype(self.T)

    def embedding(self, series=True):
        """Return inputs and attributes that the operators of the embedding share."""
        inputs = {
            "coord": self.coord,
            "slot": self.slot.astype(np.int64),
            "weight": np.ones(len(self.slot)),
            "first": self.first,
        }
        if series:
            inputs |= {"series_first": self.series_first, "panels": self.panels, "c": self.C}
        return inputs, {**self.net_attributes(), "net": self.net, "n": 7.0}

    def net_attributes(self):
        return {name: getattr(self, name) for name in ("neuron", "resnet_dt", "activation")}

    def fitting(self, ninputs):
        neuron = self.rng.integers(1, 9, size=self.rng.integers(0, 3)).tolist()
        shapes = reference.parameters_per_fitting_net(ninputs, neuron, self.resnet_dt)
        attributes = {**self.net_attributes(), "neuron": neuron}
        return [self.array(*s) for s in self.ntypes * shapes], attributes

    # One method an operator; each returns its inputs, lists of inputs and attributes.

    def real_atoms(self):
        inputs = {"coord": self.coord, "type": self.types, "mask": self.mask}
        sizes = np.array([self.nslots, 0], np.int32)  # no mesh, so no box
        return {**inputs, "sizes": sizes}, {}, {"sel": [3] * self.ntypes}

    def real_atoms_of_groups(self):
        inputs, lists, attributes = self.real_atoms()
        groups = self.rng.integers(-1, 3, size=self.mask.shape)
        weights = np.array([0.25, 1e-300, 1.0, 0.5])
        inputs["mask"] = self.mask * weights[groups + 1]
        return {**inputs, "groups": groups}, lists, attributes

    def fit_series(self):
        inputs, attributes = self.embedding(series=False)
        return inputs, {"parameters": self.parameters}, attributes

    def fit_series_grad(self):
        inputs = {"series_first": self.series_first, "panels": self.panels, "dc": self.C}
        return inputs, {"parameters": self.parameters}, self.net_attributes()

    def embed(self):
        inputs, attributes = self.embedding()
        return inputs, {"parameters": self.parameters}, attributes

    def embed_grad(self):
        inputs, lists, attributes = self.embed()
        return {**inputs, "dx": self.array(*self.X_shape)}, lists, attributes

    def force(self):
        inputs, lists, attributes = self.embed()
        return {**inputs, "a": self.array(*self.X_shape)}, lists, attributes

    def force_grad(self):
        inputs, lists, attributes = self.force()
        names = "dforce", "dvirial", "datom_virial"
        cotangents = {n: np.ones(shape) for n, shape in zip(names, self.forces, strict=True)}
        return {**inputs, **cotangents}, lists, attributes

    def contract(self):
        return {"x": self.array(*self.X_shape), "y": self.array(*self.X_shape)}, {}, {"M2": self.M2}

    def contract_reverse(self):
        gB = self.array(len(self.slot), self.M1 * self.M2)
        return {"y": self.array(*self.X_shape), "gb": gB}, {}, {"M2": self.M2}

    def energies(self):
        ninputs = int(self.rng.integers(1, 6))
        self.ninputs = ninputs
        parameters, attributes = self.fitting(ninputs)
        type_first = self.first[:: max(1, self.nframes)] if self.nframes else None
        if type_first is None:
            type_first = np.zeros(self.ntypes + 1, np.int64)
        inputs = {"type_first": type_first, "d": self.array(len(self.slot), ninputs)}
        return inputs, {"parameters": parameters}, {"ntypes": self.ntypes, **attributes}

    def energies_grad(self):
        inputs, lists, attributes = self.energies()
        size = len(self.slot)
        more = {
            "z": self.array(size * sum(attributes["neuron"])),
            "de": self.array(size),
            "da": self.array(size, self.ninputs),
        }
        return {**inputs, **more}, lists, attributes

    def potential(self):
        inputs, lists, attributes = self.embed()
        fitting, of_fitting = self.fitting(self.M1 * self.M2)
        if np.diff(self.series_first).all():  # as in a compressed model
            lists = {"parameters": []}
        attributes |= {"M2": self.M2, **{f"fitting_{k}": v for k, v in of_fitting.items()}}
        inputs["bias"] = np.arange(self.ntypes, dtype=float)
        return inputs, {"fitting_parameters": fitting, **lists}, attributes

    def weighted_potential(self):
        inputs, lists, attributes = self.potential()
        group = self.rng.integers(-1, 3, size=len(self.slot))
        inputs["weight"] = np.array([0.25, 1e-300, 1.0, 0.5])[group + 1]
        return {**inputs, "group": group}, lists, attributes


OPERATORS = [name for name in vars(Call) if name not in ("array", "embedding", "fitting")]
OPERATORS = [name for name in OPERATORS if hasattr(ops, name) and not name.startswith("_")]


def other_array(rng, array):
    """Return an array that is not quite the one given."""
    array = np.array(array)
    kind = rng.integers(6)
    if kind == 0 and array.size:
        other = other_numbers(rng, array)
    elif kind == 1 and array.size and array.ndim:  # one more or less
        axis = rng.integers(array.ndim)
        more = np.concatenate([array, np.take(array, [0], axis)], axis)
        other = more if rng.integers(2) else np.delete(array, 0, axis)
    elif kind == 2:
        other = array.reshape(-1)
    elif kind == 3:  # no entry, but a dimension that is large
        shape = [0, *rng.choice(HUGE, size=rng.integers(1, 3))]
        other = tuple(int(d) for d in rng.permutation(shape)), array.dtype
    elif kind == 4:
        other = np.zeros(rng.integers(0, 4, size=rng.integers(0, 5)), array.dtype)
    else:
        other = np.zeros_like(array)
    return other


def other_numbers(rng, array):
    """Return an array with one or two other numbers."""
    flat = array.reshape(-1).copy()
    at = rng.integers(flat.size, size=rng.integers(1, 3))
    integers = [-1, -2, flat.size, 2**31 - 1, -(2**31), 2**62, -(2**63), 1, 0]
    values = WILD if array.dtype.kind == "f" else integers
    with np.errstate(all="ignore"):
        flat[at] = np.array(rng.choice(values, size=len(at))).astype(array.dtype)
    return flat.reshape(array.shape)


def other_attribute(rng, value):
    """Return another value of an attribute."""
    numbers = [0, -1, -2, 1, 2, 7, 2**30, 2**31 - 1, -(2**31)]
    if isinstance(value, list):
        k, number = int(rng.integers(len(value) + 1)), int(rng.choice(numbers))
        other = [
            value[:-1],
            [*value, number],
            [*value[:k], number, *value[k + 1 :]],
            [int(n) for n in rng.choice(numbers, size=rng.integers(0, 5))],
        ][rng.integers(4)]
    elif isinstance(value, bool):
        other = not value
    elif isinstance(value, str):
        other = str(rng.choice(["", "Tan", "silut:", "silut:x", "silut:nan", "silut:1e9", "relu"]))
    elif isinstance(value, float):
        other = float(rng.choice([0.0, -1.0, np.nan, np.inf, 1e-38, 1e38]))
    else:
        other = int(rng.choice([*numbers, 2**62, -(2**63)]))
    return other


def spoil(rng, inputs, lists, attributes):
    """Change one thing of a call."""
    names = [*inputs, *lists, *attributes]
    name = names[rng.integers(len(names))]
    if name in inputs:
        inputs[name] = other_array(rng, inputs[name])
    elif name in attributes:
        attributes[name] = other_attribute(rng, attributes[name])
    else:
        tensors = list(lists[name])
        kind = rng.integers(4)
        if kind == 0 or not tensors:
            tensors = tensors[: rng.integers(len(tensors) + 1)]
        elif kind == 1:
            tensors = [*tensors, *tensors[: rng.integers(len(tensors)) + 1]]
        else:
            k = rng.integers(len(tensors))
            tensors[k] = other_array(rng, tensors[k])
        lists[name] = tensors


def to_tensor(value):
    if isinstance(value, tuple):
        return tf.zeros(tf.constant(value[0], tf.int64), value[1])
    return tf.constant(value)


def run(name, inputs, lists, attributes):
    """Call an operator and wait for what it gives."""
    tensors = {k: to_tensor(v) for k, v in inputs.items()}
    of_lists = {k: [to_tensor(v) for v in values] for k, values in lists.items()}
    return tf.nest.map_structure(
        tf.identity, getattr(ops, name)(**tensors, **of_lists, **attributes)
    )


def attempt(seed):
    """Call one operator, with nothing to three things spoilt; half of the time within a graph."""
    rng = np.random.default_rng(seed)
    name = OPERATORS[seed % len(OPERATORS)]
    inputs, lists, attributes = getattr(Call(rng), name)()
    spoilt = int(rng.integers(4))
    for _ in range(spoilt):
        arrays = {k: v for k, v in inputs.items() if not isinstance(v, tuple)}
        spoil(rng, arrays, lists, attributes)
        inputs = {k: arrays.get(k, v) for k, v in inputs.items()}
    huge = any(isinstance(value, tuple) for value in inputs.values())
    huge |= any(isinstance(value, tuple) for values in lists.values() for value in values)
    try:
        if huge or rng.integers(2):  # TensorFlow cannot take such a shape into a graph
            run(name, inputs, lists, attributes)
        else:
            with tf.Graph().as_default(), tf.compat.v1.Session() as session:
                session.run(run(name, inputs, lists, attributes))
    except REFUSALS as error:
        assert spoilt, f"{name} refused what fits: {error}"
        return f"{name} refused"
    except REFUSALS_OF_PYTHON as error:
        assert spoilt, f"{name} refused what fits: {error}"
        return f"{name} refused by TensorFlow"
    return f"{name} done" if spoilt else f"{name} done, nothing spoilt"
