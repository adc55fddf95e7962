# SPDX-License-Identifier: LGPL-3.0-or-later
"""Simulates without and with the correction, and plots.

With models that learn.py has made here, or else with those that come with the example.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from system import BOX, EXAMPLE


def step(*command):
    """Run a script of this example with this Python."""
    print("\n" + " ".join(map(str, command)), flush=True)
    subprocess.run([sys.executable, EXAMPLE / command[0], *map(str, command[1:])], check=True)


def models(folder):
    """Return the committee of the last iteration in a folder, or the one of the example."""
    iterations = sorted(folder.glob("iter.*/train"))
    return sorted((iterations[-1] if iterations else EXAMPLE / "models").glob("*.pb"))


def main():
    """Go through all steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=EXAMPLE / "run", help="folder")
    parser.add_argument("--picoseconds", default="20", help="of each simulation")
    parser.add_argument("--box", type=Path, default=BOX, help="built if not there")
    parser.add_argument("--models", type=Path, nargs="+", help="others")
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    common = ("--box", arguments.box, "--picoseconds", arguments.picoseconds, "--output")
    step("md.py", *common, output / "mm")
    chosen = arguments.models or models(output)
    step("md.py", *common, output / "corrected", "--models", *chosen)
    step("plot.py", output)


if __name__ == "__main__":
    main()
