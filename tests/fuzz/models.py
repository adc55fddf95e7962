# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frozen models that are damaged, or that lie, through all commands that read or run them."""

from pathlib import Path

import numpy as np
from click.testing import CliRunner
from potentials import run
from spoilt_models import BASES, spoilt

import deepmd_mask.conversion.conversion  # noqa: F401  loads TensorFlow before memory is limited
from deepmd_mask.cli import main


def attempt(seed):
    """Spoil a model; describe it always, run it or convert it sometimes."""
    rng = np.random.default_rng(seed)
    data, kind = spoilt(rng)
    model = Path("model.pb")
    model.write_bytes(data)
    ways = {0: run, 5: of_command("test", "-m", model, "-s", BASES / "system"), 10: convert}
    outcome = ways.get(seed % 20, of_command("info", model))(model)
    return f"{kind} {outcome}"


def convert(model):
    """Put it on the other operators."""
    output = Path("converted.pb")
    output.unlink(missing_ok=True)
    builtin = b"DescrptSeAMask" in model.read_bytes()
    options = [] if builtin else ["--builtin"]
    outcome = of_command("convert", model, "-o", output, *options)(model)
    assert output.exists() == (outcome == "convert"), "a file and an error, or none of both"
    assert not list(Path().glob(".converted.pb*")), "leaves something"
    return outcome


def of_command(command, *arguments):
    """Return a function that runs a command of dp-mask on a model."""

    def invoke(model):
        done = CliRunner().invoke(main, [command, *map(str, arguments)])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        if done.exit_code == 0:
            return command
        message = done.stderr.strip().split("\n")
        message = [line for line in message if line and "WARNING" not in line]
        assert done.exit_code == 1, f"exit status {done.exit_code}: {message}"
        assert message[-1].startswith("Error: "), message
        named = model.name in message[-1] or (command == "test" and "models/system" in message[-1])
        assert named, f"does not name the file: {message[-1]}"
        return f"{command} refused"

    return invoke
