# SPDX-License-Identifier: LGPL-3.0-or-later
"""Moves a frozen model from the operators of the built-in se_a_mask to this package's, or back.

Models of this package's older operators move to the present ones, too.
"""

import os
import tempfile
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from .._kernels import OPS_VERSION
from ..frozen.description import Description, describe
from ..frozen.model_file import FrozenModel
from ..frozen.refusals import reasons_against
from ..shared.options import require_sections
from ..shared.paths import AnyPath
from ..shared.reason import NOTHING_LEFT, reason_of
from .compare import Difference, compare, compare_by_potential
from .rebuild import build_frozen, model_options

# Largest difference, relative to the largest number, that is rounding and not another model.
TOLERANCE: dict[str | None, float] = {"float64": 1e-8, "float32": 1e-2}
# The same for what a table may add. Forces of float32 nets have 1e-6 of rounding themselves.
TABLE_TOLERANCE: dict[str | None, float] = {"float64": 1e-6, "float32": 2e-5}


def convert(
    source: AnyPath,
    output: AnyPath,
    operators: str = "deepmd-mask",
    precision: str | None = None,
    compress: bool = False,
    min_distance: float | None = None,
    training_input: dict | None = None,
    overwrite: bool = False,
    weights: bool = False,
) -> Difference:
    """Convert a frozen model.

    Parameters
    ----------
    source
        The frozen model; never changed.
    output
        Where to write the result. It appears when it is complete and has been compared.
    operators
        Those of the result, "deepmd-mask", in their present version, or "built-in".
    precision
        Of the nets of the result, "float64" or "float32"; by default as they are.
    compress
        Whether to put a table in the place of the embedding nets, as dp compress does.
    min_distance
        The shortest distance between real atoms, in the length unit, for the end of that table; by
        default what the model has recorded.
    training_input
        What the model was trained with, for a model that does not carry it itself.
    overwrite
        Whether an output that exists may be replaced.
    weights
        Whether the graph of the result, a compressed model, is to take weights between 0 and 1,
        with groups, and to give the derivative by them. `Potential` needs none of this.

    Returns
    -------
    Difference
        Between the two, on one frame, as TensorFlow evaluates them; `Potential` agrees, unless it
        refuses the result.

    Raises
    ------
    ValueError
        If the model is not one that can be converted, or the result does not agree with it, or a
        table does not with its nets.
    OSError
        If the output cannot be written, or exists and may not be replaced.
    """
    source, output = Path(source), Path(output)
    model = FrozenModel(source)
    _require_output(source, output, overwrite)
    if training_input is not None:
        require_sections(training_input, "`training_input`")
    old = describe(model, training_input)
    _require_convertible(model, old)
    new = _target(old, operators, precision)
    if weights and not compress:
        raise ValueError("graphs of compressed models take `weights`; ask for `compress`, too")
    if compress:
        new = replace(new, min_distance=_end_of_table(model, old, operators, min_distance))
    elif _same(new, old):
        msg = f"{source} is a model on the operators of {operators} already; nothing is to be done"
        raise ValueError(msg)
    try:
        return _convert(model, new, output, compress, weights)
    except OSError as error:
        msg = f"{output} cannot be written: {reason_of(error)}{NOTHING_LEFT}"
        raise OSError(msg) from error


def _convert(
    model: FrozenModel, new: Description, output: Path, compress: bool, weights: bool
) -> Difference:
    """Build, compare, and put in place."""
    assert new.sel is not None, "of a model that can be converted"
    # A folder of its own, so that the file gets the permissions of any new file.
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as directory:
        draft = Path(directory) / "frozen.pb"
        _build(model, new, draft)
        converted = FrozenModel(draft)
        difference = compare(model, converted, new.sel)
        _require_agreement(model, difference, new)
        if compress:
            draft = Path(directory) / "compressed.pb"
            _build(model, replace(new, compressed=True), draft, converted.path, weights)
            compressed = FrozenModel(draft)
            _require_accurate(compare(converted, compressed, new.sel), new)
            difference = compare(model, compressed, new.sel)
        by_potential = compare_by_potential(model, FrozenModel(draft), new.sel)
        _require_same_by_potential(model, by_potential, new, compress)
        os.replace(draft, output)
    return replace(difference, refusal=by_potential.refusal)


def _build(
    model: FrozenModel,
    new: Description,
    draft: Path,
    to_compress: Path | None = None,
    weights: bool = False,
) -> None:
    try:
        build_frozen(new, model.variables(), draft, to_compress, weights)
    except OSError:
        raise
    except Exception as error:  # DeePMD-kit's, of options that make no sense together
        msg = f"{model.path} cannot be converted: {reason_of(error)}"
        raise ValueError(msg) from error


def _same(new: Description, old: Description) -> bool:
    parts = ("operators", "ops_version", "embedding", "fitting")
    return all(getattr(new, part) == getattr(old, part) for part in parts)


def _end_of_table(
    model: FrozenModel, found: Description, operators: str, min_distance: float | None
) -> float:
    """Return the shortest distance that a table has to serve."""
    if operators != "deepmd-mask":
        raise ValueError("only models on the operators of deepmd-mask can be compressed")
    distance = found.min_distance if min_distance is None else min_distance
    if distance is None or not distance > 0:
        msg = (
            f"{model.path} does not tell the shortest distance between real atoms of its training "
            "data, where its table is to end; give it with `min_distance` (dp-mask check prints it)"
        )
        raise ValueError(msg)
    return distance


def _require_output(source: Path, output: Path, overwrite: bool) -> None:
    if output.suffix != ".pb":
        msg = f"{output}: the name must end in .pb, by which DeePMD-kit knows the backend"
        raise ValueError(msg)
    if not output.parent.is_dir():
        msg = f"there is no folder {output.parent} to write {output.name} to"
        raise FileNotFoundError(msg)
    if output.exists():
        if output.samefile(source):
            msg = f"{output} is the model to convert, which is never changed; name another output"
            raise ValueError(msg)
        if not overwrite:
            msg = f"{output} exists; name another output, or replace it with `overwrite`"
            raise FileExistsError(msg)
        if not output.is_file():
            msg = f"{output} is no file that could be replaced; name another output"
            raise FileExistsError(msg)


def _require_convertible(model: FrozenModel, found: Description) -> None:
    """Refuse what cannot be converted, with the reason."""
    reason = next((reason for reason, holds in _reasons(model, found).items() if holds), None)
    if reason:
        msg = f"{model.path} cannot be converted: {reason}"
        raise ValueError(msg)


def _reasons(model: FrozenModel, found: Description) -> dict[str, bool]:
    """Return reasons against a conversion, and whether each holds."""
    unknown = {
        "sel": found.sel,
        "the activation function of the embedding nets": found.embedding.activation,
        "the activation function of the fitting nets": found.fitting.activation,
    }
    return {
        "it is compressed; convert the model that was compressed": found.compressed,
        **reasons_against(model, found),
        **{
            f"it does not tell {what}; give `training_input`": value is None
            for what, value in unknown.items()
        },
    }


def _target(old: Description, operators: str, precision: str | None) -> Description:
    """Describe the model to make; its training input follows the precision."""
    script = deepcopy(old.training_input) or {"model": model_options(old)}
    if precision:
        for part in ("descriptor", "fitting_net"):
            script["model"][part]["precision"] = precision
    return replace(
        old,
        operators=operators,
        ops_version=OPS_VERSION if operators == "deepmd-mask" else None,
        embedding=replace(old.embedding, precision=precision or old.embedding.precision),
        fitting=replace(old.fitting, precision=precision or old.fitting.precision),
        training_input=script,
    )


def _require_agreement(model: FrozenModel, difference: Difference, new: Description) -> None:
    tolerance = max(TOLERANCE[net.precision] for net in (new.embedding, new.fitting))
    if difference.exceeds(tolerance):
        msg = (
            f"{model.path} cannot be converted: it computes something else than its variables and "
            f"options tell; the result differs by {difference.force:.1e} of the largest force and "
            f"{difference.atom_energy:.1e} of the largest atomic energy"
        )
        if not model.training_input():
            msg += ". Give `training_input`, what it was trained with"
        raise ValueError(msg)


def _require_accurate(difference: Difference, new: Description) -> None:
    """Refuse a table that changes forces."""
    tolerance = TABLE_TOLERANCE[new.embedding.precision]
    if difference.exceeds(tolerance):
        msg = (
            f"the table changes forces by {difference.force:.1e} of the largest, and atomic "
            f"energies by {difference.atom_energy:.1e}; {tolerance:.0e} is allowed. If "
            f"{new.min_distance:g} is not the shortest distance between real atoms, give that "
            "with `min_distance`. If it is, the nets are too steep for the intervals of the table: "
            "convert without `compress`, then take a smaller --step of dp compress"
        )
        raise ValueError(msg)


def _require_same_by_potential(
    model: FrozenModel, difference: Difference, new: Description, compress: bool
) -> None:
    """Refuse a result that Potential reads otherwise than TensorFlow."""
    tolerance = max(TOLERANCE[net.precision] for net in (new.embedding, new.fitting))
    if compress:
        tolerance = max(tolerance, TABLE_TOLERANCE[new.embedding.precision])
    if difference.exceeds(tolerance):
        msg = (
            f"{model.path} cannot be converted: Potential reads the result otherwise than "
            f"TensorFlow does; it differs by {difference.force:.1e} of the largest force and "
            f"{difference.atom_energy:.1e} of the largest atomic energy. This should not be; "
            "please report it"
        )
        raise ValueError(msg)
