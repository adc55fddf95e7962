# SPDX-License-Identifier: LGPL-3.0-or-later
"""Command lines of dp-mask that make no sense: one line that says so, and never a traceback."""

from functools import cache
from pathlib import Path

import click
import helpers
import numpy as np
from click.testing import CliRunner

# Loaded by most commands, so they are loaded before the first one is timed.
from deepmd_mask.cli import main

WORDS = [
    "", " ", "-", "--", "-1", "0", "1", "1e9", "nan", "inf", "9" * 30, "a,b", ",", "auto", "auto:",
    "auto:x", "auto:-1", "auto:nan", "1,2", "-1,2", "H,C", "H,H", "C,O,ZN", "all", "element:",
    "element:X", "within:", "within:2:ZN", "within:nan:ZN", "within:-1:C", "array:", "array:forces",
    "foo:bar", "vasp/outcar:x", "eV", "hartree", "hartree/bohr", "eV/", "furlong", "float16",
    "é", "\t", "x\ny", "/dev/null", "/dev/null/x", "/proc/self/mem", ".", "..", "missing",
    "system", "system/type.raw", "frames.xyz", "text", "empty", "x.png", "x.pb", "x.csv", "x.xyz",
    "system/set.000", "*", "~", "~nobody/x", "a" * 300, "loop", "closed",
]  # fmt: skip


@cache
def prepare():
    """Make files in the working directory that some words name."""
    if not Path("system").exists():
        helpers.write_system(Path("system"), helpers.random_frames())
        Path("text").write_text("what is this\n")
        Path("empty").touch()
        Path("frames.xyz").write_text(
            '2\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-1.0 pbc="F F F"\n'
            "C 0 0 0 0 0 0\nO 1.2 0 0 0 0 0\n"
        )
        Path("loop").symlink_to("loop")
        Path("closed").mkdir()


def options_of(command):
    """Return all ways to write the options of a command."""
    return [
        (name, option)
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
    ]


def command_line(rng):
    """Return a random command line."""
    name = str(rng.choice([*main.commands, "foo"]))
    command = main.commands.get(name)
    line = [name]
    if command is None:
        return line
    words = [WORDS[k] for k in rng.integers(len(WORDS), size=12)]
    for option in command.params:  # what is needed, mostly
        if option.required and rng.integers(8):
            line += [option.opts[0]] if isinstance(option, click.Option) else []
            line.append(words.pop())
    of_command = options_of(command)
    for _ in range(rng.integers(5) if of_command else 0):
        option, param = of_command[rng.integers(len(of_command))]
        line.append(option)
        if not param.is_flag and rng.integers(10):
            good = param.type.choices if isinstance(param.type, click.Choice) else ["1"]
            line.append(words.pop() if rng.integers(3) else str(good[rng.integers(len(good))]))
    line += words[: rng.integers(3)]
    return [word.replace("\0", "") for word in line]


def attempt(seed):
    """Run a command line in this process."""
    prepare()
    rng = np.random.default_rng([seed, 2])
    line = command_line(rng)
    done = CliRunner().invoke(main, line)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise RuntimeError(f"{line}: {done.exception!r}") from done.exception
    assert done.exit_code in (0, 1, 2), f"{line}: exit status {done.exit_code}"
    assert "Traceback" not in done.output, f"{line}: {done.output}"
    if done.exit_code == 0 or (line[0] == "check" and "Error:" not in done.stderr):
        return f"{line[0]} done"
    last = done.stderr.strip().split("\n")[-1]
    assert "Error: " in last or "x\ny" in line, f"{line}: {done.stderr!r}"
    return f"{line[0]} refused, exit status {done.exit_code}"
