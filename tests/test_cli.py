# SPDX-License-Identifier: LGPL-3.0-or-later
"""The command dp-mask itself; what its commands do is tested beside what they call."""

from pathlib import Path

from click.testing import CliRunner

from deepmd_mask.cli import main


def test_plugin_path_is_the_operator_library():
    result = CliRunner().invoke(main, ["plugin-path"])
    assert result.exit_code == 0
    path = Path(result.output.strip())
    assert path.name == "libdeepmd_mask.so"
    assert path.is_file()
