# SPDX-License-Identifier: LGPL-3.0-or-later
"""From nothing to a committee of models: `dp-mask learn` with learn.yaml, in a folder of its own.

Goes on where it stopped, with what is in the folder by then. With --quick everything is so small
that it takes minutes, and the models are of no use.
"""

import argparse
import json
from pathlib import Path

import yaml
from system import BOX, EXAMPLE, load

from deepmd_mask.learning import loop
from deepmd_mask.learning.files import write_text

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


def prepare(folder, box=None, quick=False, seed=None):
    """Put into a folder what the loop needs, unless it is there.

    Parameters
    ----------
    folder : pathlib.Path
    box : pathlib.Path, optional
        It is built if there is none; by default the example's.
    quick : bool
        Whether everything shall be small.
    seed : int, optional
        In the place of learn.yaml's: of what is simulated, chosen and trained.

    Raises
    ------
    ValueError
        If what is there differs from what is asked for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    load(box or BOX)
    changes = {} if seed is None else {"seed": seed}
    for name in FILES:
        text = (EXAMPLE / name).read_text()
        if name == "learn.yaml" and (quick or changes):
            more = {**(QUICK if quick else {}), **changes}
            put(folder / name, text, more, yaml.safe_load, yaml.safe_dump)
        elif name == "input.json" and quick:
            put(folder / name, text, QUICK_INPUT, json.loads, json.dumps)
        elif not (folder / name).exists():
            write_text(folder / name, text)
    there, text = folder / BOX.name, (box or BOX).read_text()
    if not there.exists():
        write_text(there, text)
    elif box is not None and there.read_text() != text:
        raise ValueError(f"{there} is another box than {box}; choose another folder, or no box")


def put(path, text, changes, read, write):
    """Write a text with values changed; of a file that is there ask that it has these values."""
    if not path.exists():
        write_text(path, write(changed(read(text), changes)))
        return
    found = read(path.read_text())
    if changed(found, changes) != found:
        raise ValueError(
            f"{path} is there, and is not as --seed or --quick would make it; choose another "
            "folder, or leave these options out to go on with what is there"
        )


def changed(found, changes):
    """Return a dict of dicts with some values changed."""
    new = {
        name: changed(found.get(name, {}), value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return {**found, **new}


def main():
    """Run the loop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="folder; by default run, or run/quick")
    parser.add_argument("--box", type=Path, help="built if not there; by default the example's")
    parser.add_argument("--seed", type=int, help="for another committee, in a new folder")
    parser.add_argument("--quick", action="store_true", help="minutes instead of hours")
    arguments = parser.parse_args()
    run = EXAMPLE / "run"
    output = arguments.output or (run / "quick" if arguments.quick else run)
    prepare(output, arguments.box, arguments.quick, arguments.seed)
    loop.run(output)


if __name__ == "__main__":
    main()
