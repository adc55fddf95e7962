# SPDX-License-Identifier: LGPL-3.0-or-later
"""The commands dp-mask pack and dp-mask unpack."""

import os

import ase.io
import ase.units
import helpers
import pytest
from click.testing import CliRunner
from molecules import FRAMES

from deepmd_mask.cli import main
from deepmd_mask.data import pack

# Forces here are random.
pytestmark = pytest.mark.filterwarnings("ignore::deepmd_mask.data.balance.NetForceWarning")


def run(*arguments, exit_code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result.output


def test_commands(tmp_path):
    ase.io.write(tmp_path / "in.traj", FRAMES)
    output = run(
        "pack", tmp_path / "in.traj", "-o", tmp_path / "data", "--type-map", "O,H,S,ZN", "--sel",
        "auto:1.0", "--preference", "within:2.5:ZN", "--validation", "0.34",
        "--precision", "float32",
    )  # fmt: skip
    assert f"{tmp_path / 'data/train'}: 2 frames" in output
    assert f"{tmp_path / 'data/validation'}: 1 frames" in output
    assert "type_map: O,H,S,ZN" in output
    assert "sel: 4,4,4,4" in output
    assert "3 frames" in run("unpack", tmp_path / "data", "-o", tmp_path / "out.xyz")
    run(
        "pack",
        tmp_path / "out.xyz",
        "-o",
        tmp_path / "b",
        "--type-map",
        "H,O,S,Zn",
        "--sel",
        "3,2,1,1",
    )
    assert "exists" in run("pack", tmp_path / "out.xyz", "-o", tmp_path / "b", exit_code=1)


def test_messages_of_commands_name_options(tmp_path):
    """And not the parameters of functions, nor the numbers of system errors."""
    ase.io.write(tmp_path / "in.traj", FRAMES)
    (tmp_path / "there").write_text("precious")

    def refused(*options, exit_code=1):
        output = tmp_path / "out"
        message = run("pack", tmp_path / "in.traj", "-o", output, *options, exit_code=exit_code)
        assert not {"_", "`", "Errno"} & set(message.replace(str(tmp_path), ""))
        assert not output.exists()
        return message

    assert "name another with --energy-key" in refused("--energy-key", "E")
    assert "name another with --forces-key" in refused("--forces-key", "F")
    assert '--sel is "auto:0.5"; its factor' in refused("--sel", "auto:0.5")
    assert "--sel is a list; give --type-map" in refused("--sel", "3,4")
    assert '--force-unit: "eV" is no unit of force' in refused("--force-unit", "eV")
    assert '--preference "near" is none of' in refused("--preference", "near")
    assert "which --preference wants of all sources" in refused("--preference", "array:w")
    assert "--validation is 3.0, which is 3 of 3 frames" in refused("--validation", "3")
    assert "--validation is nan" in refused("--validation", "nan")
    for option in ("--validation", "--seed", "--set-size"):
        assert f"'{option}': -4 is not in the range" in refused(option, "-4", exit_code=2).replace(
            "-4.0", "-4"
        )
    assert "write auto" in refused("--sel", "3,many", exit_code=2)
    message = refused("-o", tmp_path / "there")
    assert f"{tmp_path / 'there'} exists; choose another name, or replace it with --over" in message
    message = refused("-o", tmp_path / "there" / "system")
    assert "Error: Not a directory; nothing was left" in message or "Error: File exists" in message


def test_tools_start_without_tensorflow(tmp_path):
    """TensorFlow takes seconds to start, which these tools do not need."""
    pack(FRAMES, tmp_path / "a")
    jdata = helpers.make_input(["a"], sel="auto", model={"type_map": ["H", "O", "S", "Zn"]})
    helpers.write_input(tmp_path, jdata)
    code = (
        "import sys; from deepmd_mask.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print('tensorflow' in sys.modules)"
    )
    for arguments in (
        ["pack", "a", "-o", "b"], ["unpack", "a", "-o", "c.xyz"],
        ["check", "a", "--input", "input.json"],
    ):  # fmt: skip
        output = helpers.run_python(["-c", code, *arguments], tmp_path)
        assert output.splitlines()[-1] == "False"
    assert os.path.exists(tmp_path / "c.xyz")
