# SPDX-License-Identifier: LGPL-3.0-or-later
"""dp test of masked models on their real atoms, for DeePMD-kit 3.1.

There one function declares what it wants of a system, reads it, evaluates, prints and writes. It
gets a stand-in for the system: first to declare, then with the real atoms of some frames at a time.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from deepmd.infer import DeepPot
from deepmd.utils.data import DeepmdData
from deepmd.utils.weight_avg import weighted_average

from .masked import is_mask, of_real_atoms, runs, takes_real_atoms

# By name, since the package of that module has a function of the same.
entry: Any = import_module("deepmd.entrypoints.test")


class _DeclaredError(Exception):
    """The function has declared what it wants."""


class _Declaring:
    """A system that declares, and is not read."""

    def __init__(self, data: DeepmdData) -> None:
        self.add = data.add

    def get_test(self) -> dict:
        raise _DeclaredError


class _Part:
    """Data that have been read already, of a system that says the rest."""

    def __init__(self, data: DeepmdData, test_data: dict) -> None:
        self.pbc, self.mixed_type = data.pbc, data.mixed_type
        self._test_data = test_data

    def add(self, *_: Any, **__: Any) -> None:
        """Take no note: all has been read."""

    def get_test(self) -> dict:
        return self._test_data


def register() -> None:
    """Have dp test count real atoms only."""
    entry.test_ener = _testing_real_atoms(entry.test_ener)


def _testing_real_atoms(test_ener: Any) -> Any:
    @functools.wraps(test_ener)
    def wrapper(
        dp: DeepPot,
        data: DeepmdData,
        system: str,
        numb_test: float,
        detail_file: str | None,
        has_atom_ener: bool,
        append_detail: bool = False,
    ) -> dict[str, tuple[float, float]]:
        def test(part: Any, append: bool) -> dict[str, tuple[float, float]]:
            return test_ener(dp, part, system, numb_test, detail_file, has_atom_ener, append)

        if not takes_real_atoms([dp], "dp test", "dp-mask test"):
            return test(data, append_detail)
        with suppress(_DeclaredError):
            test(_Declaring(data), append_detail)
        test_data = data.get_test()
        tested = slice(0, min(len(test_data["type"]), numb_test))
        mask = test_data["aparam"][tested]
        if not is_mask(mask):  # the operators say what is wrong
            return test(_Part(data, test_data), append_detail)
        errors: list[dict[str, tuple[float, float]]] = []
        with _quiet():
            for frames, real in runs(mask, test_data["type"][tested]):
                if not len(real):
                    continue  # no atom to divide by
                part = _Part(data, of_real_atoms(test_data, frames, real))
                found = test(part, append_detail or bool(errors))
                # A weight of 0 says nothing, and an average over nothing is none.
                errors.append({key: pair for key, pair in found.items() if pair[1] > 0})
        merged = weighted_average(errors)
        entry.log.info(f"# number of test data : {len(mask)} ")
        if errors:
            entry.print_ener_sys_avg(merged)
        weights = {key: sum(part[key][1] for part in errors if key in part) for key in merged}
        return {key: (merged[key], weight) for key, weight in weights.items() if weight}

    return wrapper


@contextmanager
def _quiet() -> Iterator[None]:
    """Have parts print nothing of their own."""
    before = entry.log.disabled
    entry.log.disabled = True
    try:
        yield
    finally:
        entry.log.disabled = before
