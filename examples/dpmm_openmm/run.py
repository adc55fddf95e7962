# SPDX-License-Identifier: LGPL-3.0-or-later
"""Steps 4 to 6 on the data of this example: train, simulate without and with correction, plot."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from system import BUILD, EXAMPLE


def step(*command):
    """Run a script of this example with this Python and its `dp` and `dp-mask`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    print("\n" + " ".join(map(str, command)), flush=True)
    script = EXAMPLE / command[0]
    interpreter = [sys.executable] if script.suffix == ".py" else []
    subprocess.run(
        [*interpreter, script, *command[1:]], check=True, env={**os.environ, "PATH": path}
    )


def main():
    """Go through all steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=EXAMPLE / "run", help="folder")
    parser.add_argument("--picoseconds", default="20", help="of each simulation")
    parser.add_argument("--box", default=BUILD / "box.pdb", help="built if not there")
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    common = ("--box", arguments.box, "--picoseconds", arguments.picoseconds, "--output")
    if not (output / "model.pb").exists():
        step("train.sh", output)
    step("md.py", *common, output / "mm")
    step("md.py", *common, output / "corrected", "--model", output / "model.pb")
    step("plot.py", output)


if __name__ == "__main__":
    main()
