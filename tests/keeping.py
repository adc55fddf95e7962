# SPDX-License-Identifier: LGPL-3.0-or-later
"""What the reference and the built-in make of a case, kept for the next run of pytest.

In the folder that DP_MASK_TEST_KEPT names; without it, each run computes all anew.
"""

import hashlib
import os
import pickle
from functools import cache, cached_property
from pathlib import Path

SOURCES = ("reference.py", "embedding_case.py", "fitting_case.py")


@cache
def _content(sources):
    return b"".join((Path(__file__).parent / name).read_bytes() for name in sources)


def kept_path(name, givens, sources):
    """Return where to keep what follows from the givens, a text, and from sources of the tests.

    None if nothing is to be kept.
    """
    folder = os.environ.get("DP_MASK_TEST_KEPT")
    key = hashlib.sha256(_content(sources) + givens.encode()).hexdigest()
    return Path(folder) / f"{name}-{key}" if folder else None


def _file(case, what):
    """Return the file of a property, or None if it is not to be kept.

    What a case draws at random depends on what has been asked of it before.
    """
    name = getattr(case, "name", None)
    if name is None:
        return None
    before = repr((type(case), name, what, list(vars(case)), case.rng.bit_generator.state))
    return kept_path("case", before, SOURCES)


def kept(compute):
    """Make a property of a case, computed once; of a case with a name, once for several runs."""

    def get(case):
        file = _file(case, compute.__name__)
        if file is not None and file.exists():
            result, attributes = pickle.loads(file.read_bytes())
            vars(case).update(attributes)  # the random numbers to come, too
            return result
        result = compute(case)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(f".{os.getpid()}")
            part.write_bytes(pickle.dumps((result, vars(case))))
            part.replace(file)
        return result

    get.__doc__ = compute.__doc__
    return cached_property(get)
