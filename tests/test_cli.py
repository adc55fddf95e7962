# SPDX-License-Identifier: LGPL-3.0-or-later
"""The command dp-mask itself; what its commands do is tested beside what they call."""

from pathlib import Path

import helpers
from click.testing import CliRunner

from deepmd_mask.cli import main


def test_plugin_path_is_the_operator_library():
    result = CliRunner().invoke(main, ["plugin-path"])
    assert result.exit_code == 0
    path = Path(result.output.strip())
    assert path.name == "libdeepmd_mask.so"
    assert path.is_file()


def test_hints_of_libraries_stay_away(tmp_path):
    """As long as the user does not ask for them; GPUs stay as visible as they are."""
    code = (
        "import os, deepmd_mask.cli, deepmd.env\n"
        "deepmd.env.set_default_nthreads()\n"
        "print([os.environ.get(name) for name in ('TF_CPP_MIN_LOG_LEVEL', 'CUDA_VISIBLE_DEVICES')])"
    )
    threads = {"DP_INTRA_OP_PARALLELISM_THREADS": None, "OMP_NUM_THREADS": None}
    for level in (None, "0"):
        gpus = {"TF_CPP_MIN_LOG_LEVEL": level, "CUDA_VISIBLE_DEVICES": None}
        output = helpers.run_python(["-c", code], tmp_path, **gpus, **threads)
        assert output == f"{[level or '2', None]}\n"
