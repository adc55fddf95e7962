# SPDX-License-Identifier: LGPL-3.0-or-later
"""The model of docs/theory.md in NumPy, written to be read against it, not to be fast.

Everything also takes complex numbers, so that a derivative is had to the last digit from
a step of 1e-30 along the imaginary axis.
"""

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def gelu(k):
    return lambda z: z / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + k * z**3)))


def silu(z):
    return z * sigmoid(z)


def silut(threshold):
    slope = sigmoid(threshold) * (1 + threshold * (1 - sigmoid(threshold)))
    return lambda z: np.where(
        z.real < threshold, silu(z), np.tanh(slope * (z - threshold)) + silu(threshold)
    )


ACTIVATIONS = {
    "linear": lambda z: z,
    "none": lambda z: z,
    "relu": lambda z: np.where(z.real > 0, z, 0),
    "relu6": lambda z: np.where(z.real > 0, np.where(z.real < 6, z, 6), 0),
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "gelu": gelu(0.044715),
    "gelu_tf": gelu(float(np.float32(0.044715))),  # TensorFlow rounds it so
    "silu": silu,
    "silut": silut(3.0),
    "silut:0.5": silut(0.5),
}


def embedding_net(s, parameters, neuron, resnet_dt, activation):
    """G [pairs, M1] = N(s) for s [pairs]; parameters in the order of the kernels."""
    phi = ACTIVATIONS[activation]
    parameters = iter(parameters)
    h = s[:, None]
    for width in neuron:
        W, b = next(parameters), next(parameters)
        out = phi(h @ W + b)
        copies = {h.shape[1]: 1, 2 * h.shape[1]: 2}.get(width, 0)
        if copies and resnet_dt:
            out = out * next(parameters)
        h = out + np.tile(h, copies) if copies else out
    return h


def parameters_per_net(neuron, resnet_dt):
    """Shapes of the parameters of one net."""
    shapes = []
    for before, width in zip([1, *neuron], neuron, strict=False):
        shapes += [(before, width), (width,)]
        if resnet_dt and width in (before, 2 * before):
            shapes.append((width,))
    return shapes


def fitting_net(D, parameters, neuron, resnet_dt, activation):
    """Return e [size] = F(D) for D [size, inputs]; parameters in the order of the kernels."""
    phi = ACTIVATIONS[activation]
    parameters = iter(parameters)
    h = D
    for layer, width in enumerate(neuron):
        W, b = next(parameters), next(parameters)
        out = phi(h @ W + b)
        skips = layer > 0 and width == h.shape[1]
        if skips and resnet_dt:
            out = out * next(parameters)
        h = out + h if skips else out
    W, b = next(parameters), next(parameters)
    return (h @ W + b)[:, 0]


def parameters_per_fitting_net(inputs, neuron, resnet_dt):
    """Shapes of the parameters of one fitting net."""
    shapes = []
    for layer, (before, width) in enumerate(zip([inputs, *neuron], neuron, strict=False)):
        shapes += [(before, width), (width,)]
        if resnet_dt and layer > 0 and width == before:
            shapes.append((width,))
    return [*shapes, ([inputs, *neuron][-1], 1), (1,)]


def real_atoms(types, mask):
    """Slots of the real atoms, frame * nslots + slot, sorted by type, then frame, then slot."""
    slots = np.flatnonzero(mask)
    return slots[np.argsort(types.ravel()[slots], kind="stable")]


def series(panels, parameters, neuron, resnet_dt, activation, terms=16):
    """C [panels, terms, M1] of a net on panels [panels, 2], by interpolation at Chebyshev nodes."""
    angle = np.pi * (np.arange(terms) + 0.5) / terms
    to_C = np.cos(np.outer(np.arange(terms), angle)) * 2 / terms
    to_C[0] /= 2
    s = panels[:, :1] + panels[:, 1:] * np.cos(angle)
    G = embedding_net(s.ravel(), parameters, neuron, resnet_dt, activation)
    return to_C @ G.reshape(len(panels), terms, -1)


def table(parameters, neuron, resnet_dt, activation, lower, upper):
    """Each net as Chebyshev series: first, panels and C of op/shared/series.h.

    Panels are halved until the last of their coefficients are rounding error, or nearly nothing is
    left of them, as at a kink.
    """
    count = len(parameters_per_net(neuron, resnet_dt))
    first, panels, C = [0], [], []
    for k in range(len(parameters) // count):
        net = parameters[k * count : (k + 1) * count]
        level, found = np.array([[(lower + upper) / 2, (upper - lower) / 2]]), []
        while len(level):
            of_level = series(level, net, neuron, resnet_dt, activation)
            last = np.abs(of_level[:, -2:]).max(axis=(1, 2))
            is_good = (last < 1e-14 * np.abs(of_level).max()) | (level[:, 1] < 1e-7)
            found += zip(level[is_good], of_level[is_good], strict=True)
            halves = [
                (middle + side * half_width / 2, half_width / 2)
                for middle, half_width in level[~is_good]
                for side in (-1, 1)
            ]
            level = np.array(halves).reshape(-1, 2)
        found.sort(key=lambda panel: panel[0][0])
        first.append(first[-1] + len(found))
        panels += [panel for panel, _ in found]
        C += [of_panel for _, of_panel in found]
    return np.array(first), np.array(panels), np.array(C)


def embedded_environment(
    coord, types, mask, ntypes, n, net, parameters, moved=None, groups=None, **shape
):
    """X [real atoms, 4, M1] of frames coord [nframes, nslots, 3]; weights w = mask.

    w_ij is w_j, but 1 where i and j are of one of `groups` [nframes, nslots], if there are any.
    `moved`, if given, gets the slots of both atoms of pairs and the vectors r_ij between them, and
    returns the vectors to take in their place.
    """
    nslots = types.shape[1]
    rows = real_atoms(types, mask)
    r, t, w = coord.reshape(-1, 3)[rows], types.ravel()[rows], mask.ravel()[rows]
    frame = rows // nslots
    g = rows if groups is None else np.asarray(groups).ravel()[rows]
    are_pairs = (frame[:, None] == frame) & (rows[:, None] != rows)
    count = len(parameters_per_net(shape["neuron"], shape["resnet_dt"]))
    dtype = complex if moved else np.result_type(coord, mask, *parameters)
    X = np.zeros((len(rows), 4, shape["neuron"][-1]), dtype=dtype)
    for t_i, t_j in np.ndindex(ntypes, ntypes):
        which = net[t_i * ntypes + t_j]
        i, j = np.nonzero(are_pairs & (t[:, None] == t_i) & (t == t_j))
        if which < 0 or len(i) == 0:
            continue
        d = r[j] - r[i]
        if moved:
            d = moved(rows[i], rows[j], d)
        r2 = np.sum(d * d, axis=1)
        s = 1 / np.sqrt(r2)
        w_ij = np.where(g[i] == g[j], 1, w[j])
        R = w_ij[:, None] * np.column_stack([s, d / r2[:, None]])
        G = embedding_net(s, parameters[which * count : (which + 1) * count], **shape)
        for atom in np.unique(i):
            X[atom] += R[i == atom].T @ G[i == atom] / n
    return X


def atomic_energies(coord, types, mask, model, groups=None):
    """E_i [nframes, nslots] of a model, the arguments of _kernels.Model; 0 for virtual atoms."""
    rows, of_row = real_atoms(types, mask), types.ravel()
    shape = {name: model[name] for name in ("neuron", "resnet_dt", "activation")}
    X = embedded_environment(
        coord,
        types=types,
        mask=mask,
        groups=groups,
        ntypes=len(model["bias"]),
        n=model["n"],
        net=model["net"],
        parameters=model["parameters"],
        **shape,
    )
    D = np.einsum("ica,icb->iab", X, X[:, :, : model["M2"]])
    D = D.reshape(len(rows), D.shape[1] * D.shape[2])
    shape = {name: model[f"fitting_{name}"] for name in shape}
    sizes = parameters_per_fitting_net(D.shape[1], shape["neuron"], shape["resnet_dt"])
    E = np.zeros(types.size, np.result_type(D, mask))
    for t, bias in enumerate(model["bias"]):
        atoms = of_row[rows] == t
        net = model["fitting_parameters"][t * len(sizes) : (t + 1) * len(sizes)]
        e = fitting_net(D[atoms], net, **shape) + bias
        E[rows[atoms]] = mask.ravel()[rows[atoms]] * e
    return E.reshape(types.shape)


def weight_gradient(E, mask):
    """dE/dw [nframes, nslots] of E(weights) at the mask, by complex steps; 0 for virtual atoms."""
    out = np.zeros(mask.shape)
    for k in np.argwhere(mask):
        step = np.zeros(mask.shape)
        step[tuple(k)] = 1
        out[tuple(k)] = derivative(E, mask, step)
    return out


def loss_of_forces(A, coord, force, virial, atom_virial, **environment):
    """L = sum of dL/dF F + dL/dvirial virial + dL/datom_virial atom_virial, for E = sum(A * X).

    Each of the three is a sum over pairs of -dE/dr_ij, times r_ij for virials. So L is -dE/dt if
    each r_ij moves by t (dL/dF_j - dL/dF_i + (dL/dvirial + dL/datom_virial_j) r_ij).
    """
    nslots = coord.shape[1]
    force, strain = force.reshape(-1, 3), atom_virial.reshape(-1, 3, 3)
    strain = strain + virial.reshape(-1, 3, 3).repeat(nslots, 0)

    def E(t):
        def moved(i, j, d):
            return d + t * (force[j] - force[i] + np.einsum("jab,jb->ja", strain[j], d))

        return np.sum(A * embedded_environment(coord, moved=moved, **environment))

    return -derivative(E, 0.0, 1.0)


def derivative(function, x, direction):
    """d/dt of function(x + t direction) at t = 0, by a complex step."""
    return function(x + 1e-30j * direction).imag / 1e-30


def gradient(function, x):
    """Gradient of a real scalar function, by complex steps."""
    out = np.zeros(x.shape)
    for k in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[k] = 1
        out[k] = derivative(function, x, step)
    return out
