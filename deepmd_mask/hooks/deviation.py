# SPDX-License-Identifier: LGPL-3.0-or-later
"""dp model-devi of masked models on their real atoms."""

import functools
import inspect
from types import ModuleType
from typing import Any

import numpy as np
from deepmd import infer
from deepmd.infer import model_devi
from deepmd.tf import infer as tf_infer
from deepmd.tf.infer import model_devi as tf_model_devi

from .masked import is_mask, runs, takes_real_atoms

DEVIATIONS = 8  # columns of calc_model_devi: frame, three each of virial and forces, energy


def register() -> None:
    """Have dp model-devi count real atoms only."""
    original = model_devi.calc_model_devi
    of_real_atoms = _deviating_on_real_atoms(original)
    for module in (model_devi, tf_model_devi, infer, tf_infer):
        _replace(module, original, of_real_atoms)


def _replace(module: ModuleType, old: Any, new: Any) -> None:
    """Replace an object under each name that it has in a module."""
    for name, value in list(vars(module).items()):
        if value is old:
            setattr(module, name, new)


def _deviating_on_real_atoms(calc_model_devi: Any) -> Any:
    signature = inspect.signature(calc_model_devi)

    @functools.wraps(calc_model_devi)
    def wrapper(*args: Any, **kwargs: Any) -> np.ndarray:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
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
