# SPDX-License-Identifier: LGPL-3.0-or-later
"""DeePMD-kit's own evaluation of masked models: dp test, dp model-devi, DeepPot.

DeepPot refuses a box, which the operators do for C and C++, and says so if there is no mask.

For the rest, DeePMD-kit takes each slot for an atom, and so divides errors and deviations by the
number of slots, and has rows for virtual atoms in its files. A model of this package gives the same
for the real atoms alone. Therefore DeePMD-kit is handed these alone, as many frames at a time as
have the same, and its own functions compute all numbers. Models without a mask are left to it as
they are.
"""

import functools
import inspect
import logging
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from deepmd import infer
from deepmd.infer import model_devi
from deepmd.tf import infer as tf_infer
from deepmd.tf.env import tf
from deepmd.tf.infer import model_devi as tf_model_devi
from deepmd.tf.infer.deep_eval import DeepEval

from .._kernels import reason_against_box
from ..frozen.model_file import TELLING_OPS
from ..shared.process import claim_process

log = logging.getLogger("deepmd.mask")

DEVIATIONS = 8  # columns of calc_model_devi: frame, three each of virial and forces, energy
NO_MASK = (
    "this model has se_a_mask, and its mask is missing: aparam must be 1 for each real atom and 0 "
    "for each virtual one, 1 throughout if there is no padding. It is a parameter of DeepPot.eval; "
    'DeePMD-kit\'s ASE calculator DP takes it from atoms.info["aparam"]. Molecules without a mask '
    "go to deepmd_mask.ase.MaskedDP, deepmd_mask.frozen.Evaluator or, in dpdata, "
    'the driver "deepmd-mask"'
)


def register() -> None:
    """Have DeePMD-kit evaluate masked models on their real atoms."""
    DeepEval._load_graph = staticmethod(_claiming_process(DeepEval._load_graph))
    DeepEval.eval = _checking_input(DeepEval.eval)
    _module_on_dp_test().register()
    original = model_devi.calc_model_devi
    of_real_atoms = _deviating_on_real_atoms(original)
    for module in (model_devi, tf_model_devi, infer, tf_infer):
        _replace(module, original, of_real_atoms)


def _module_on_dp_test() -> ModuleType:
    """Return the module for the DeePMD-kit that is installed: 3.2 tests in another way than 3.1."""
    name = "testing" if find_spec("deepmd.infer.model_test") else "testing_3_1"
    return import_module(f"{__package__}.{name}")


def _replace(module: ModuleType, old: Any, new: Any) -> None:
    """Replace an object under each name that it has in a module."""
    for name, value in list(vars(module).items()):
        if value is old:
            setattr(module, name, new)


def operators_of(model: Any) -> str | None:
    """Return whose operators a loaded model runs on, a key of TELLING_OPS; None for another model.

    Parameters
    ----------
    model
        A DeepPot, or the object of a backend in it.
    """
    graph = getattr(getattr(model, "deep_eval", model), "graph", None)
    return None if graph is None else _operators_in(graph)


def _operators_in(graph: tf.Graph) -> str | None:
    if graph not in _operators:
        found = {op.type for op in graph.get_operations()}
        _operators[graph] = next((name for name, op in TELLING_OPS.items() if op in found), None)
    return _operators[graph]


_operators: WeakKeyDictionary[tf.Graph, str | None] = WeakKeyDictionary()


def _claiming_process(load_graph: Any) -> Any:
    """Have a model claim the process when it is loaded.

    DeepEval loads the graph first, and then starts a session to read what the graph holds: after a
    fork that would hang already.
    """

    @functools.wraps(load_graph)
    def wrapper(*args: Any, **kwargs: Any) -> tf.Graph:
        graph = load_graph(*args, **kwargs)
        _operators.pop(graph, None)  # the default graph may have had other models before
        if _operators_in(graph) is not None:
            claim_process()
        return graph

    return wrapper


def _checking_input(evaluate: Any) -> Any:
    signature = inspect.signature(evaluate)

    @functools.wraps(evaluate)
    def wrapper(self: DeepEval, *args: Any, **kwargs: Any) -> dict[str, np.ndarray]:
        if operators_of(self) is not None:
            claim_process()
            given = signature.bind(self, *args, **kwargs).arguments
            # The operators see neither boxes that come with neighbour lists nor those that models
            # of the built-in or of the first version are given.
            reason = "" if given.get("cells") is None else reason_against_box()
            if not reason and given.get("aparam") is None and self.has_aparam:
                reason = NO_MASK
            if reason:
                raise ValueError(reason)
        return evaluate(self, *args, **kwargs)

    return wrapper


def _deviating_on_real_atoms(calc_model_devi: Any) -> Any:
    signature = inspect.signature(calc_model_devi)

    @functools.wraps(calc_model_devi)
    def wrapper(*args: Any, **kwargs: Any) -> np.ndarray:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        given = given.arguments
        if given["aparam"] is None or not takes_real_atoms(
            given["models"], "dp model-devi", "dp-mask devi"
        ):
            return calc_model_devi(*args, **kwargs)
        fname = given.pop("fname")
        devi = _deviations(calc_model_devi, **given)
        if devi is None:
            return calc_model_devi(*args, **kwargs)
        if fname:
            model_devi.write_model_devi_out(devi, fname, atomic=given["atomic"])
        return devi

    return wrapper


def _deviations(
    calc_model_devi: Any,
    coord: np.ndarray,
    box: np.ndarray | None,
    atype: np.ndarray,
    aparam: np.ndarray,
    fparam: np.ndarray | None,
    real_data: dict | None,
    frequency: int,
    **options: Any,
) -> np.ndarray | None:
    """Return what calc_model_devi gives for real atoms; None if the mask is not one."""
    atype = np.asarray(atype)
    nframes, nslots = len(coord), atype.shape[-1]
    coord = np.reshape(coord, (nframes, nslots, 3))
    # DeePMD-kit takes a mask for each frame, one for all, or one number.
    mask = np.asarray(aparam, float)
    mask = mask.reshape((1, 1) if mask.size == 1 else (-1, nslots))
    mask = np.broadcast_to(mask, (nframes, nslots))
    if not is_mask(mask):
        return None
    devi = np.zeros((nframes, DEVIATIONS + (nslots if options["atomic"] else 0)))
    for frames, real in runs(mask, np.broadcast_to(atype, mask.shape)):
        if not len(real):
            continue  # no force, and no energy that could differ
        part = calc_model_devi(
            coord[frames][:, real].reshape(-1, 3 * len(real)),
            None if box is None else np.reshape(box, (nframes, 9))[frames],
            atype[frames][:, real] if options["mixed_type"] else atype[real],
            fparam=fparam if fparam is None or len(fparam) != nframes else fparam[frames],
            aparam=mask[frames][:, real],
            real_data=None if real_data is None else _real_data(real_data, frames, real, nslots),
            **options,
        )
        devi[frames, :DEVIATIONS] = part[:, :DEVIATIONS]
        if options["atomic"]:
            devi[frames, DEVIATIONS + real] = part[:, DEVIATIONS:]
    devi[:, 0] = np.arange(nframes) * frequency
    return devi


def _real_data(labels: dict, frames: slice, real: np.ndarray, nslots: int) -> dict:
    """Return labels of some frames; energies and virials come divided by the number of slots."""
    per_atom = nslots / len(real)
    return {
        "energy": labels["energy"][frames] * per_atom,
        "force": labels["force"][frames][:, real],
        "virial": labels["virial"][frames] * per_atom,
    }


def takes_real_atoms(models: list, command: str, instead: str) -> bool:
    """Return whether models can be given real atoms alone; warn if they have a mask but cannot."""
    operators = {operators_of(model) for model in models}
    if operators == {"deepmd-mask"}:
        return True
    if operators & set(TELLING_OPS):
        log.warning(
            "se_a_mask: %s counts virtual atoms as exact, so its errors and deviations depend on "
            "the padding; models of the built-in need all their slots. Take %s",
            command,
            instead,
        )
    return False


def is_mask(values: np.ndarray) -> bool:
    """Return whether all values are 0 or 1."""
    return bool(np.isin(values, (0, 1)).all())


def runs(mask: np.ndarray, types: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield runs of frames that have the same real atoms of the same types, and these atoms."""
    same = (mask[1:] == mask[:-1]).all(axis=1) & (types[1:] == types[:-1]).all(axis=1)
    stops = [*(np.flatnonzero(~same) + 1).tolist(), len(mask)]
    for start, stop in zip([0, *stops[:-1]], stops, strict=True):
        yield slice(start, stop), np.flatnonzero(mask[start])
