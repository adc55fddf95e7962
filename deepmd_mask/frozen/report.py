# SPDX-License-Identifier: LGPL-3.0-or-later
"""The description of a frozen model as text."""

from dataclasses import asdict

from ..shared.paths import AnyPath
from .description import Description, Net, describe
from .model_file import FrozenModel

UNKNOWN = "not recorded"


def info(path: AnyPath) -> dict:
    """Describe a frozen model in numbers, texts and lists of them.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    dict
        The fields of Description, by name.

    Raises
    ------
    ValueError
        If the file is not a frozen model with se_a_mask.
    """
    return asdict(describe(FrozenModel(path)))


def info_text(path: AnyPath) -> str:
    """Describe a frozen model for a reader, a line for each thing.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    str
        The lines.

    Raises
    ------
    ValueError
        If the file is not a frozen model with se_a_mask.
    """
    found = describe(FrozenModel(path))
    rows = {
        "operators": _operators(found),
        "compressed": "yes" if found.compressed else "no",
        "made by": ", ".join(f"{name} {v}" for name, v in found.made_by.items()) or UNKNOWN,
        "type map": " ".join(found.type_map) or UNKNOWN,
        "sel": UNKNOWN if found.sel is None else " ".join(map(str, found.sel)),
        "n": UNKNOWN if found.n is None else str(found.n),
        "embedding nets": f"{_sides(found)}, {_net(found.embedding)}",
        "axis_neuron": UNKNOWN if found.axis_neuron is None else str(found.axis_neuron),
        "excluded types": ", ".join(_pair(found, pair) for pair in found.exclude_types) or "none",
        "fitting nets": _net(found.fitting),
        "min. distance": UNKNOWN if found.min_distance is None else f"{found.min_distance:g}",
        "training input": "yes, --training-input prints it" if found.training_input else UNKNOWN,
    }
    width = max(map(len, rows)) + 2
    return "\n".join(f"{name:{width}}{value}" for name, value in rows.items())


def _operators(found: Description) -> str:
    if found.ops_version is None:
        return "DeePMD-kit's built-in se_a_mask"
    return f"deepmd-mask, version {found.ops_version}"


def _sides(found: Description) -> str:
    return {True: "one-sided", False: "two-sided", None: "sides " + UNKNOWN}[found.type_one_side]


def _net(net: Net) -> str:
    parts = [
        "-".join(map(str, net.neuron)) or "widths " + UNKNOWN,
        net.activation or "activation function " + UNKNOWN,
        *(["timestep"] if net.resnet_dt else []),
        net.precision or "precision " + UNKNOWN,
    ]
    return ", ".join(parts)


def _pair(found: Description, pair: list[int]) -> str:
    names = found.type_map
    return "-".join(names[t] if t < len(names) else str(t) for t in pair)
