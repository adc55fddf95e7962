# SPDX-License-Identifier: LGPL-3.0-or-later
"""An input of ``dp train``: read, and brought into the form in which its options are checked."""

import json
import os
from copy import deepcopy
from pathlib import Path
from typing import Any

from dargs import Argument

from ...shared import input_arguments
from ...shared.missing import INSTALL, is_for_training
from ...shared.options import check_options, has_mask, section
from ..findings import Finding, Report
from ..scan import Wanted
from ..training import require_systems, training_systems, wanted_by


def check_input(path: str, report: Report) -> tuple[Wanted, dict[str, list[str]]]:
    """Check an input's options.

    Parameters
    ----------
    path
        Of the input, JSON or YAML.
    report
        Is told what is wrong.

    Returns
    -------
    Wanted
        What the input asks of its systems.
    dict
        The paths of these, by section.
    """

    def bad(error: object) -> tuple[Wanted, dict[str, list[str]]]:
        text = " ".join(str(error).split()) or type(error).__name__
        report(Finding("error", "input", "", text, path))
        return Wanted(), {}

    if not os.path.isfile(path):
        return bad("not found; check the path")
    try:
        jdata = _read(Path(path))
    except (ValueError, OSError, RecursionError) as error:
        return bad(f"cannot be read ({error})")
    try:
        jdata = _normalised(jdata, path, report)
        if not check_options(jdata):
            return bad("the descriptor is not se_a_mask, or the model is compressed")
        systems = training_systems(jdata)
        require_systems(systems)
        return wanted_by(jdata), systems
    except Exception as error:  # DeePMD-kit's checks raise exceptions of many kinds
        return bad(error)


def _read(path: Path) -> dict:
    """Return what a file of JSON or YAML holds, which of both is said by its suffix."""
    text = path.read_text(encoding="utf-8")
    if path.suffix.endswith("json"):
        found = json.loads(text)
    elif path.suffix.endswith(("yml", "yaml")):
        found = _of_yaml(text)
    else:
        raise ValueError("its name must end in .json, .yml or .yaml, as dp train asks")
    if not isinstance(found, dict):
        raise ValueError("it holds no sections")
    for name in ("model", "training"):
        if name not in found:
            raise ValueError(f"it has no section {name}")
    return found


def _of_yaml(text: str) -> object:
    import yaml  # noqa: PLC0415  few inputs need it

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _normalised(jdata: dict, path: str, report: Report) -> dict:
    """Return an input with defaults, as DeePMD-kit makes it of any older form, and refuses it."""
    try:
        # Neither of them needs TensorFlow.
        from deepmd.utils.argcheck import descrpt_args_plugin, normalize  # noqa: PLC0415
        from deepmd.utils.compat import update_deepmd_input  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if not is_for_training(error):
            raise
        message = (
            "only the options that se_a_mask has rules for were checked, not whether DeePMD-kit "
            f"takes all others, since it is not installed: {INSTALL}"
        )
        report(Finding("warning", "not-checked", "", message, path))
        return with_defaults(jdata)
    input_arguments.add_to(descrpt_args_plugin)
    return normalize(update_deepmd_input(deepcopy(jdata), warning=False))


def with_defaults(jdata: dict) -> dict:
    """Return an input with DeePMD-kit's defaults for the options that this package looks at.

    Raises
    ------
    dargs.dargs.ArgumentError
        If one of these is of another type.
    """
    jdata = deepcopy(jdata)
    if not has_mask(section(jdata, "model")):
        return jdata
    training = jdata.get("training")
    if isinstance(training, dict) and "systems" in training:  # as in DeePMD-kit 1
        training.setdefault("training_data", {"systems": training["systems"]})
    options = Argument("base", dict, _options())
    jdata = options.normalize_value(jdata, trim_pattern="_*")
    options.check_value(jdata, strict=False)
    return jdata


def _options() -> list[Argument]:
    """Declare the options; a test compares their defaults with DeePMD-kit's."""

    def option(name: str, dtype: Any, default: object, **more: Any) -> Argument:
        return Argument(name, dtype, optional=True, default=default, **more)

    def part(name: str, *options: Argument, optional: bool = True) -> Argument:
        return Argument(name, dict, list(options), optional=optional)

    descriptor = part(
        "descriptor",
        option("sel", [list[int], str], "auto"),
        option("neuron", list[int], [10, 20, 40]),
        option("axis_neuron", int, 4, alias=["n_axis_neuron"]),
        option("activation_function", str, "tanh"),
        option("precision", str, "default"),
        option("exclude_types", list[list[int]], []),
    )
    fitting_net = part(
        "fitting_net",
        option("type", str, "ener"),
        option("numb_aparam", int, 0),
        option("neuron", list[int], [120, 120, 120], alias=["n_neuron"]),
        option("activation_function", str, "tanh"),
        option("precision", str, "default"),
    )
    prefactors = {
        "start_pref_e": 0.02, "limit_pref_e": 1.0, "start_pref_f": 1000, "limit_pref_f": 1.0,
        "start_pref_pf": 0.0, "limit_pref_pf": 0.0,
    }  # fmt: skip
    loss = [option(name, [int, float], default) for name, default in prefactors.items()]
    systems = (
        Argument("systems", [list[str], str]),
        option("rglob_patterns", [list[str], None], None),
        option("batch_size", [list[int], int, str], "auto"),
    )
    return [
        part("model", option("type_map", list[str], []), descriptor, fitting_net, optional=False),
        part("learning_rate", option("start_lr", [float, int], 1e-3)),
        part("loss", *loss, option("use_default_pf", bool, False)),
        part(
            "training",
            Argument("numb_steps", int, optional=True),
            part("training_data", *systems),
            Argument("validation_data", [dict, None], list(systems), optional=True, default=None),
            optional=False,
        ),
    ]
