# SPDX-License-Identifier: LGPL-3.0-or-later
"""Runs what the pages of docs/ show, so that they stay true."""

import os
import re
import subprocess
import sys
from pathlib import Path

from helpers import LIMITS, run_python, tail

DOCS = Path(__file__).parent.parent / "docs"
FENCE = re.compile(r"^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_page(name, directory, python=sys.executable):
    """Run a page's blocks of Python and bash in a folder and return what they printed.

    Blocks of a language are one script: a later block may use what an earlier one has defined.

    Parameters
    ----------
    name
        Of the page, without .md.
    directory
        Where to run; the files that the page asks for must be there.
    python
        Interpreter of the environment that is activated, by default this one.

    Returns
    -------
    str
        The output of all scripts.
    """
    scripts = {}
    for language, text in FENCE.findall((DOCS / f"{name}.md").read_text()):
        scripts[language] = scripts.get(language, "") + text
    assert scripts, f"{name}.md has nothing to run"
    return "".join(
        RUN[language](script, f"{name}-page", directory, python)
        for language, script in scripts.items()
    )


def _run_python(script, name, directory, python):
    file = directory / f"{name}.py"
    file.write_text(script)
    return run_python([file], directory, python=python)


def _run_bash(script, name, directory, python):
    """Run with the interpreter's scripts at hand, as in an activated environment."""
    file = directory / f"{name}.sh"
    file.write_text(script)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", file],
        cwd=directory,
        env={**os.environ, "PATH": f"{Path(python).parent}:{os.environ['PATH']}"},
        check=False,
        **LIMITS,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, tail(done.stdout, 60)
    return done.stdout


RUN = {"python": _run_python, "bash": _run_bash}
