# SPDX-License-Identifier: LGPL-3.0-or-later
"""What se_a_mask refuses of the options of an input or of a model, each thing once.

An input is what ``dp train`` reads, or what a frozen model says that it was trained with.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .._kernels import require_activation

SECTIONS = ("model", "model/descriptor", "model/fitting_net", "training")
MOST_SLOTS = 1 << 20  # the sum of sel at most; more is a slip, and fills the memory
PRECISIONS = ("float64", "float32")  # of nets; "default" is one of them


class Refusal(NamedTuple):
    """Something that se_a_mask does not go with.

    Attributes
    ----------
    message
        For whoever writes an input, with the remedy.
    reason
        Why a frozen model that has it is refused.
    holds
        Whether an input has it.
    """

    message: str
    reason: str
    holds: Callable[[dict], bool]


def section(script: dict, path: str) -> dict:
    """Return one of SECTIONS of an input; {} if it lacks it."""
    for name in path.split("/"):
        script = script.get(name) or {}
    return script


def require_sections(script: dict, what: str) -> None:
    """Refuse an input, which messages call `what`, whose sections are none."""
    for path in SECTIONS:
        found: Any = script
        for name in path.split("/"):
            found = found.get(name, {}) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            raise ValueError(f"{what} has no section where {path} should be one")


def has_mask(part: Any) -> bool:
    """Return whether an input, or a part of one, has the descriptor se_a_mask anywhere."""
    if isinstance(part, dict):
        return part.get("type") == "se_a_mask" or any(map(has_mask, part.values()))
    return isinstance(part, list) and any(map(has_mask, part))


def _is_by_itself(script: dict) -> bool:
    model = section(script, "model")
    is_standard = model.get("type", "standard") == "standard"
    return is_standard and section(script, "model/descriptor").get("type") == "se_a_mask"


def _has(path: str, option: str) -> Callable[[dict], bool]:
    return lambda script: bool(section(script, path).get(option))


def _not_with(option: str) -> str:
    return f"se_a_mask does not go with {option}; take it out of the model"


REFUSALS = {
    "part": Refusal(
        "se_a_mask must be the descriptor of a model by itself; it cannot be part of a hybrid "
        "descriptor or of a model made of others",
        "it has a hybrid descriptor",
        lambda script: has_mask(section(script, "model")) and not _is_by_itself(script),
    ),
    "fitting": Refusal(
        'se_a_mask is for energies only, "type": "ener" in fitting_net',
        "it is not an energy model",
        lambda script: section(script, "model/fitting_net").get("type", "ener") != "ener",
    ),
    "mask": Refusal(
        "se_a_mask takes its mask from aparam.npy; set numb_aparam to 1 and use_aparam_as_mask to "
        "true in fitting_net",
        "its numb_aparam is not 1, so it takes no mask",
        lambda script: section(script, "model/fitting_net").get("numb_aparam") != 1,
    ),
    "spin": Refusal(_not_with("spin"), "it has spins", _has("model", "spin")),
    "type_embedding": Refusal(
        _not_with("type_embedding"), "it has a type embedding", _has("model", "type_embedding")
    ),
    "use_srtab": Refusal(
        _not_with("use_srtab"),
        "it has a tabulated potential (use_srtab)",
        _has("model", "use_srtab"),
    ),
    "mixed_precision": Refusal(
        'se_a_mask: use "precision": "float32" instead of mixed_precision in training',
        "it computes in mixed precision",
        _has("training", "mixed_precision"),
    ),
}


def activation_of(name: Any) -> str:
    """Return one name for each activation function, "none" for "linear" and "" and so on."""
    found, *parameter = str(name or "none").lower().split(":")
    found = {"linear": "none", "custom_silu": "silut"}.get(found, found)
    if found == "silut" and not parameter:
        parameter = ["3"]  # its default
    return ":".join([found, *(f"{float(number):g}" for number in parameter)])


def check_options(jdata: dict) -> bool:
    """Check the options of a training.

    Parameters
    ----------
    jdata
        The normalised input of ``dp train``.

    Returns
    -------
    bool
        Whether it has se_a_mask and is not a compression, so that its data matter, too.

    Raises
    ------
    ValueError
        If training could not go on.
    """
    if not has_mask(section(jdata, "model")):
        return False
    if _is_by_itself(jdata) and jdata["model"].get("compress"):
        return False
    for refusal in REFUSALS.values():
        if refusal.holds(jdata):
            raise ValueError(refusal.message)
    descriptor, fitting_net = (jdata["model"][name] for name in ("descriptor", "fitting_net"))
    sel = descriptor["sel"]
    if isinstance(sel, str):
        auto_factor(sel)
    require_descriptor_options(
        None if isinstance(sel, str) else sel,  # that is up to the data
        len(jdata["model"].get("type_map") or ()),
        descriptor["neuron"],
        descriptor["axis_neuron"],
        descriptor["activation_function"],
        descriptor["precision"],
        descriptor.get("exclude_types") or (),
    )
    require_precision(fitting_net.get("precision", "default"), "fitting_net")
    require_widths(fitting_net["neuron"], "fitting_net")
    _require_activation(fitting_net.get("activation_function"))
    _require_training_options(jdata)
    return True


def _require_training_options(jdata: dict) -> None:
    """Refuse what DeePMD-kit refuses later, or in words that say nothing of the option."""
    for name in ("training_data", "validation_data"):
        given = (jdata["training"].get(name) or {}).get("batch_size", 1)
        sizes = given if isinstance(given, list) else [given]
        if not all(map(_is_batch_size, sizes)):
            raise ValueError(
                f"training/{name}/batch_size is {json.dumps(given)}; it must be at least 1, "
                '"auto", or "auto:64" and the like'
            )
    rate = section(jdata, "learning_rate").get("start_lr", 1e-3)
    if not 0 < rate < math.inf:
        raise ValueError(f"learning_rate/start_lr is {rate}; it must be positive and finite")
    steps = jdata["training"].get("numb_steps")
    if steps is not None and steps < 0:
        raise ValueError(f"training/numb_steps is {steps}; it must not be negative")
    _require_prefactors(section(jdata, "loss"))


def has_term(loss: dict, term: str) -> bool:
    """Return whether a loss has a term, such as "e", at its beginning or in its limit."""
    return any(loss.get(f"{when}_pref_{term}", 0) != 0 for when in ("start", "limit"))


def _require_prefactors(loss: dict) -> None:
    """Refuse a loss that falls without a bound, or is nothing; loss has all that are not 0."""
    prefactors = {name: loss[name] for name in loss if re.match("(start|limit)_pref_", name)}
    for name, value in prefactors.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"loss/{name} is {value}; it must be finite, and not negative")
    if prefactors and not any(prefactors.values()):
        raise ValueError("all prefactors of loss are 0, so there is nothing to train on")


def _is_batch_size(size: int | str) -> bool:
    """Tell whether DeePMD-kit knows a batch size, of which "mixed:N" and others are texts, too."""
    if isinstance(size, int):
        return size >= 1
    return re.fullmatch(r"auto|(auto|mixed|max|filter):0*[1-9]\d*", size) is not None


def auto_factor(sel: str) -> float:
    """Return how many times the largest number in the data a sel allows that is a text.

    Parameters
    ----------
    sel
        "auto:f", or "auto" for "auto:1.1".

    Raises
    ------
    ValueError
        If sel is something else.
    """
    if not re.fullmatch(r"auto(:\d+(\.\d*)?)?", sel):
        raise ValueError(f'`sel` is "{sel}"; it must be a list, "auto", or "auto:1.2" and the like')
    factor = float(sel.partition(":")[2] or 1.1)
    if factor < 1:
        raise ValueError(f'`sel` is "{sel}"; its factor must be at least 1, for all atoms to fit')
    return factor


def require_descriptor_options(
    sel: Sequence[int] | None,
    ntypes: int,
    neuron: Sequence[int],
    axis_neuron: int,
    activation_function: str | None,
    precision: str,
    exclude_types: Sequence[Sequence[int]] = (),
) -> None:
    """Refuse options of the descriptor that it cannot have.

    Parameters
    ----------
    sel
        Largest number of real atoms of each type; None if that is not known yet.
    ntypes
        Number of types in the type map; 0 if there is none.
    neuron, axis_neuron, activation_function, precision, exclude_types
        As in an input.

    Raises
    ------
    ValueError
        Naming the option and its value.
    """
    if sel is not None and ntypes and len(sel) != ntypes:
        raise ValueError(
            f"se_a_mask: sel has {len(sel)} entries, but the type map has {ntypes} types"
        )
    if sel is not None and (sum(sel) < 1 or min(sel) < 0):
        raise ValueError(
            f"se_a_mask: sel is {list(sel)}; it must allow at least one real atom, and of no type "
            "less than none"
        )
    _require_pairs(exclude_types, ntypes or len(sel or ()))
    require_widths(neuron, "descriptor")
    if not neuron:
        raise ValueError("se_a_mask: neuron of descriptor is []; it must have at least one layer")
    if axis_neuron < 1:
        raise ValueError(f"se_a_mask: axis_neuron is {axis_neuron}; it must be at least 1")
    if axis_neuron > neuron[-1]:
        raise ValueError(
            f"se_a_mask: axis_neuron ({axis_neuron}) is larger than M1 ({neuron[-1]}), the last "
            "width in neuron"
        )
    require_precision(precision, "descriptor")
    _require_activation(activation_function)


def _require_activation(name: str | None) -> None:
    try:
        require_activation(name or "none")
    except ValueError as error:
        raise ValueError(f"se_a_mask: {error}") from error


def _require_pairs(exclude_types: Sequence[Sequence[int]], ntypes: int) -> None:
    """Refuse to exclude what is no pair of types; ntypes is 0 if that is not known."""
    for pair in exclude_types:
        if len(pair) != 2 or min(pair) < 0 or (ntypes and max(pair) >= ntypes):
            below = f" from 0 to {ntypes - 1}" if ntypes else ""
            raise ValueError(
                f"se_a_mask: exclude_types has {list(pair)}; it must hold pairs of types, by their "
                f"numbers{below}"
            )


def require_widths(neuron: Sequence[int], of: str) -> None:
    """Refuse widths of nets' layers; `of` is the section that has them.

    Raises
    ------
    ValueError
        If a layer would have no neuron.
    """
    if any(width < 1 for width in neuron):
        raise ValueError(
            f"se_a_mask: neuron of {of} is {list(neuron)}; each layer must have at least one"
        )


def require_precision(name: str, of: str) -> None:
    """Refuse a precision of nets; `of` is the section that has it.

    Raises
    ------
    ValueError
        If it is neither of PRECISIONS, nor "default".
    """
    if name not in (*PRECISIONS, "default"):
        raise ValueError(
            f'se_a_mask: the precision of {of} is "{name}"; it must be "float64", "float32" or '
            '"default"'
        )
