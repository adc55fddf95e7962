# SPDX-License-Identifier: LGPL-3.0-or-later
"""From nothing to a committee of models: `dp-mask learn` with learn.yaml, in a folder of its own.

Goes on where it stopped. With --quick everything is so small that it takes minutes, and the models
are of no use.
"""

import argparse
import json
import shutil
from pathlib import Path

import yaml
from system import BOX, EXAMPLE, load

from deepmd_mask.learning import loop

FILES = ("system.py", "explore.py", "levels.py", "site.pdb", "learn.yaml", "input.json")
QUICK = {
    "models": 2,
    "explore": {"tasks": 3, "held_out": 1, "options": {"steps": 8, "interval": 4, "settle": 0}},
    "select": {"trust_lo": 100.0, "trust_hi": 200.0, "frames": 4, "held_out_frames": 2},
    "judge": {"force_error": 100.0},
}
QUICK_INPUT = {
    # Of eight steps a model is what it begins as, and with even_steps its forces are large then.
    "model": {
        "descriptor": {"neuron": [6, 12], "even_steps": False},
        "fitting_net": {"neuron": [8]},
    },
    "training": {"numb_steps": 8, "disp_freq": 4},
}


def prepare(folder, box=BOX, quick=False, seed=None):
    """Put into a folder what the loop needs, unless it is there.

    Parameters
    ----------
    folder, box : pathlib.Path
        The box is built if there is none.
    quick : bool
        Whether everything shall be small.
    seed : int, optional
        In the place of learn.yaml's: of what is simulated, chosen and trained.
    """
    folder.mkdir(parents=True, exist_ok=True)
    load(box)
    for source, name in [*((EXAMPLE / name, name) for name in FILES), (box, BOX.name)]:
        if not (folder / name).exists():
            shutil.copyfile(source, folder / name)
            if quick and name == "learn.yaml":
                change(folder / name, QUICK, yaml.safe_load, yaml.safe_dump)
            if seed is not None and name == "learn.yaml":
                change(folder / name, {"seed": seed}, yaml.safe_load, yaml.safe_dump)
            if quick and name == "input.json":
                change(folder / name, QUICK_INPUT, json.loads, json.dumps)


def change(path, changes, read, write):
    """Change values in a file."""
    found = read(path.read_text())
    update(found, changes)
    path.write_text(write(found))


def update(found, changes):
    """Change values in a dict of dicts."""
    for name, value in changes.items():
        if isinstance(value, dict):
            update(found[name], value)
        else:
            found[name] = value


def main():
    """Run the loop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="folder; by default run, or run/quick")
    parser.add_argument("--box", type=Path, default=BOX, help="built if not there")
    parser.add_argument("--seed", type=int, help="for another committee, in a new folder")
    parser.add_argument("--quick", action="store_true", help="minutes instead of hours")
    arguments = parser.parse_args()
    run = EXAMPLE / "run"
    output = arguments.output or (run / "quick" if arguments.quick else run)
    prepare(output, arguments.box, arguments.quick, arguments.seed)
    loop.run(output)


if __name__ == "__main__":
    main()
