# SPDX-License-Identifier: LGPL-3.0-or-later
"""Training that starts from another model: a parameter must mean the same in both.

DeePMD-kit compares names and shapes of variables alone. So nets of one type would go to another,
or go on with another activation function, without a word.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from deepmd.tf.common import get_precision
from deepmd.tf.env import tf

from ..conversion.rebuild import model_options
from ..frozen.description import describe
from ..frozen.model_file import TELLING_OPS, FrozenModel
from ..shared.log import log
from ..shared.options import activation_of, has_term

BUILTIN = "built-in"  # of TELLING_OPS


class Start(NamedTuple):
    """The model to start from.

    Attributes
    ----------
    option
        Of ``dp train``, that names it.
    path
        A frozen model, or a checkpoint without its suffix.
    """

    option: str
    path: Path

    def __str__(self) -> str:
        """Return how the user wrote it."""
        return f"{self.option} {self.path}"


def start_of(options: Any) -> Start | None:
    """Return the model that training starts from.

    Parameters
    ----------
    options
        DeePMD-kit's RunOptions; None if there are none.

    Returns
    -------
    Start
        None if training starts from nothing.
    """
    for name in ("restart", "init_model", "init_frz_model"):
        path = getattr(options, name, None)
        if path is not None:
            return Start(f"--{name.replace('_', '-')}", Path(path))
    return None


def require_same_model(start: Start, model: dict, sel: Sequence[int]) -> None:
    """Require that the parameters of a start mean the same in an input.

    Parameters
    ----------
    start
        The model to start from.
    model
        Section of the normalised input.
    sel
        Of the descriptor, as a list.

    Raises
    ------
    FileNotFoundError
        If there is no such model.
    ValueError
        Naming all that differs, with both values.
    """
    frozen = start.option == "--init-frz-model"
    there = _model_of_frozen(start) if frozen else _model_of_checkpoint(start)
    if there is None:
        log.warning(
            "se_a_mask: %s does not say what it was trained with, so nobody knows whether its "
            "types, sel and nets are those of the input",
            start,
        )
        return
    kind = there.get("descriptor", {}).get("type")
    if kind != "se_a_mask":
        kind = kind or "another descriptor"
        raise ValueError(f"se_a_mask: {start} is a model with {kind}, not with se_a_mask")
    here = {**model, "descriptor": {**model["descriptor"], "sel": list(sel)}}
    unknown, different = [], []
    for name, of in FACTS.items():
        a, b = of(there), of(here)
        if name in there.get("unsaid", ()) or (a is None and b is not None):
            unknown.append(name)
        elif a != b:
            different.append(f"  {name}: {_shown(a)} there, {_shown(b)} in the input")
    if different:
        hint = "write the input as that model has it"
        if start.option != "--restart":
            hint += " (--use-pretrain-script does so)"
        raise ValueError(
            f"se_a_mask: the parameters of {start} would mean something else in this model:\n"
            + "\n".join(different)
            + f"\nEither {hint}, or train anew. Only the sum of sel counts, as it normalises; "
            "systems may have their types in any order"
        )
    if unknown:
        log.warning(
            "se_a_mask: %s does not tell its %s, so nobody knows whether that is as in the input",
            start,
            ", ".join(unknown),
        )


def warn_of_constants(start: Start, loss: dict) -> None:
    """Warn that energies of the built-in have constants that they do not have here.

    Its bias was fitted to sums over all slots, as many of a type in each frame, and goes on as it
    is, while frames have few real atoms.

    Parameters
    ----------
    start
        The model to start from, with se_a_mask.
    loss
        Section of the normalised input.
    """
    if has_term(loss, "e") and _is_builtin(start):
        of = "its checkpoint" if start.option == "--init-frz-model" else "the checkpoint"
        log.warning(
            "se_a_mask: %s is of the built-in, whose energies have a constant for each virtual "
            "atom. Here they have none, so they begin wrong by as much, in each composition by "
            "something else. Fit a constant for each type to the energies of the data, set them "
            "in %s with dp change-bias --bias-value, and start from what that writes; or begin "
            "from nothing",
            start,
            of,
        )


def _is_builtin(start: Start) -> bool:
    if start.option == "--init-frz-model":
        return FrozenModel(start.path).operators() == BUILTIN
    return any(node.op == TELLING_OPS[BUILTIN] for node in _graph_of_checkpoint(start.path).node)


def input_of_checkpoint(path: Path) -> dict:
    """Return the input that a checkpoint was trained with.

    Parameters
    ----------
    path
        The checkpoint without its suffix.

    Returns
    -------
    dict
        The input; {} if the checkpoint lacks it, or if there is none.
    """
    nodes = _graph_of_checkpoint(path).node
    scripts = [node for node in nodes if node.name == "train_attr/training_script"]
    return json.loads(tf.make_ndarray(scripts[0].attr["value"].tensor).item()) if scripts else {}


def _graph_of_checkpoint(path: Path) -> tf.GraphDef:
    """Return the graph that a checkpoint is of; an empty one if there is none."""
    file = path.with_name(f"{path.name}.meta")
    meta = tf.MetaGraphDef()
    if file.is_file():
        meta.ParseFromString(file.read_bytes())
    return meta.graph_def


# ---- The two kinds of models ---------------------------------------------------------------------


def _model_of_checkpoint(start: Start) -> dict | None:
    """Return the section "model" of the input that made a checkpoint; None if it does not say."""
    file = start.path.with_name(f"{start.path.name}.meta")
    if not file.is_file():
        msg = f"there is no such checkpoint for {start.option}; write its name without a suffix"
        raise FileNotFoundError(2, msg, str(file))
    return input_of_checkpoint(start.path).get("model")


def _model_of_frozen(start: Start) -> dict:
    """Return a frozen model as the section "model" of an input.

    What runs counts; its training input adds what the graph does not show.
    """
    frozen = FrozenModel(start.path)
    script = frozen.training_input().get("model", {})
    if frozen.operators() is None:
        return {"descriptor": {"type": script.get("descriptor", {}).get("type")}}
    if frozen.is_compressed():
        raise ValueError(
            f"se_a_mask: {start} is compressed, and a table cannot be trained; take the original"
        )
    described = describe(frozen)
    options = model_options(described)
    if described.n is not None:
        options["descriptor"]["sel"] = [described.n]  # whose sum it is
    merged = {"type_map": options["type_map"] or script.get("type_map")}
    if not script:
        merged["unsaid"] = [f"fitting_net/{name}" for name in ("atom_ener", "tot_ener_zero")]
        if described.operators == "built-in" and described.type_one_side:
            merged["unsaid"].append("descriptor/exclude_types")
    if script.get("fitting_net", {}).get("layer_name"):
        del options["fitting_net"]["neuron"]  # shared layers have other names
    for part in ("descriptor", "fitting_net"):
        known = {name: value for name, value in options[part].items() if value is not None}
        merged[part] = {**script.get(part, {}), **known}
    return merged


# ---- What must be the same -----------------------------------------------------------------------


def _sum_of_sel(model: dict) -> int | None:
    sel = model["descriptor"].get("sel")
    return sum(sel) if isinstance(sel, list) else None


def _excluded(model: dict) -> list[tuple[int, ...]]:
    pairs = model["descriptor"].get("exclude_types") or ()
    return sorted({tuple(sorted(pair)) for pair in pairs})


def _activation(options: dict) -> str | None:
    name = options.get("activation_function", "")
    return None if name == "" else activation_of(name)


def _precision(options: dict) -> str | None:
    name = options.get("precision")
    return None if name is None else get_precision(name).name


def _has_timesteps(options: dict, widths: Sequence[int], factors: Sequence[int]) -> bool | None:
    """Return whether some layer has a timestep: one as wide as that before it, times a factor."""
    if any(after in [before * factor for factor in factors] for before, after in pairwise(widths)):
        return options.get("resnet_dt")
    return False


def _embedding_timesteps(model: dict) -> bool | None:
    options = model["descriptor"]
    return _has_timesteps(options, [1, *options.get("neuron", ())], (1, 2))


def _fitting_timesteps(model: dict) -> bool | None:
    options = model["fitting_net"]
    return _has_timesteps(options, options.get("neuron", ()), (1,))


def _facts() -> Iterator[tuple[str, Callable[[dict], Any]]]:
    """Yield what must be the same: its name, and how to read it from a section "model"."""

    def option(part: str, name: str, default: Any = None) -> Callable[[dict], Any]:
        return lambda model: model[part].get(name) or default

    yield "type_map", lambda model: list(model.get("type_map") or ()) or None
    yield "sum of sel", _sum_of_sel
    yield "descriptor/neuron", option("descriptor", "neuron")
    yield "descriptor/axis_neuron", option("descriptor", "axis_neuron")
    yield "descriptor/type_one_side", option("descriptor", "type_one_side", False)
    yield "descriptor/exclude_types", _excluded
    yield "descriptor/resnet_dt", _embedding_timesteps

    def of_part(part: str, read: Callable[[dict], Any]) -> Callable[[dict], Any]:
        return lambda model: read(model[part])

    for part in ("descriptor", "fitting_net"):
        yield f"{part}/activation_function", of_part(part, _activation)
        yield f"{part}/precision", of_part(part, _precision)
    yield "fitting_net/neuron", option("fitting_net", "neuron")
    yield "fitting_net/resnet_dt", _fitting_timesteps
    for name, default in (
        ("numb_fparam", 0),
        ("numb_aparam", 0),
        ("use_aparam_as_mask", False),
        ("atom_ener", []),
        ("layer_name", []),
        ("tot_ener_zero", False),
    ):
        yield f"fitting_net/{name}", option("fitting_net", name, default)


FACTS = dict(_facts())


def _shown(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value)
