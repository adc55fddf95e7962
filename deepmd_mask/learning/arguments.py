# SPDX-License-Identifier: LGPL-3.0-or-later
"""The arguments of learn.yaml, declared with dargs."""

from dargs import Argument


def _stage(name: str, doc: str, fields: list[Argument], **options: bool) -> Argument:
    """Return the section of a stage: what it has besides, each has for itself, too."""
    alone = "For this stage alone, as above."
    own = [
        Argument("machine", [str, dict], optional=True, doc=alone),
        Argument("resources", [str, dict], optional=True, doc=alone),
        Argument("workers", int, optional=True, doc=alone),
    ]
    return Argument(name, dict, doc=doc, sub_fields=[*fields, *own], **options)


def arguments() -> list[Argument]:
    """Return the arguments of learn.yaml, in the order of the page."""
    return [*_general(), _explore(), _select(), _label(), _pack(), _train(), _judge()]


def _general() -> list[Argument]:
    return [
        Argument(
            "type_map",
            list[str],
            doc="Names of the types, in their order. Later it may only grow at its end; models "
            "then begin from nothing.",
        ),
        Argument(
            "preference",
            str,
            optional=True,
            default="all",
            doc="Which atoms matter, as `--preference` of `dp-mask pack`: errors and deviations "
            "are of these. Elements that it names are in `type_map`.",
        ),
        Argument(
            "models",
            int,
            optional=True,
            default=4,
            doc="Number of models of the committee. Those that are added later begin from nothing.",
        ),
        Argument("seed", int, optional=True, default=1, doc="All random numbers follow from it."),
        Argument("iterations", int, optional=True, default=10, doc="Number of iterations at most."),
        Argument(
            "files",
            list[str],
            optional=True,
            default=["*.py"],
            doc="What your functions and commands need, in this folder; each task has it beside "
            "it, also on another machine.",
        ),
        Argument(
            "data",
            list[str],
            optional=True,
            default=[],
            doc="Masked systems, with labels, to train with from the beginning. Then the first "
            "iteration explores nothing.",
        ),
        Argument("test", list[str], optional=True, default=[], doc="Further systems to judge by."),
        Argument(
            "machine",
            [str, dict],
            optional=True,
            doc="For DPDispatcher: a machine, or a file with it, JSON or YAML; also the "
            "machine.json of DP-GEN, with `train`, `model_devi` and `fp`. Without it, tasks are "
            "processes on all cores of this machine.",
        ),
        Argument(
            "resources",
            [str, dict],
            optional=True,
            doc="For DPDispatcher: resources, or a file with them.",
        ),
        Argument(
            "workers",
            int,
            optional=True,
            doc="Without machine: how many tasks run at once; by default one for each core.",
        ),
        Argument(
            "poll",
            [int, float],
            optional=True,
            default=10,
            doc="With machine: seconds between looks at its queue.",
        ),
        Argument(
            "command",
            str,
            optional=True,
            doc="With machine: what runs a task there, by default `dp-mask learn task`, or this "
            "Python where the context is a local one.",
        ),
    ]


def _explore() -> Argument:
    return _stage(
        "explore",
        "Simulations that show where models are wrong.",
        [
            Argument(
                "function",
                str,
                optional=True,
                doc="`module:function`, called as `function(committee, folder, task, seed, "
                "**options)`: writes frames to `frames.xyz` in the folder, extended XYZ without a "
                "cell, positions in Å. What else it writes there, it finds in the folder `last` "
                "beside it when the same task comes again in the next iteration, held out or not "
                "as before. `deepmd_mask.learning.openmm:explore` comes with this package.",
            ),
            Argument(
                "command",
                str,
                optional=True,
                doc="In its place, a command of a shell in which {committee}, {task}, {seed} and "
                "{common}, the folder of your files, are filled in.",
            ),
            Argument(
                "options",
                dict,
                optional=True,
                default={},
                doc="For the function, by name. The values `trust_lo` and `trust_hi` are replaced "
                "by the numbers of `select`.",
            ),
            Argument(
                "tasks",
                int,
                optional=True,
                default=4,
                doc="How many times it is called, with task 0, 1, … and another seed each.",
            ),
            Argument(
                "held_out",
                int,
                optional=True,
                default=1,
                doc="Of these tasks, the last ones, of which no frame is for training: models "
                "are judged by them. If it or `tasks` changes, trajectories that become held out, "
                "or cease to be, begin anew, without `last`.",
            ),
        ],
    )


def _select() -> Argument:
    return _stage(
        "select",
        "What of it is labelled.",
        [
            Argument(
                "trust_lo",
                [int, float],
                doc="max_devi_f below which a frame is accurate, in eV/Å; from it on it is a "
                "candidate.",
            ),
            Argument(
                "trust_hi",
                [int, float],
                doc="max_devi_f from which on a frame is failed: too far off to be of use.",
            ),
            Argument(
                "frames",
                int,
                optional=True,
                default=100,
                doc="Candidates to label in an iteration at most, those that differ most.",
            ),
            Argument(
                "held_out_frames",
                int,
                optional=True,
                default=20,
                doc="Frames of the tasks that are held out to label in an iteration at most, at "
                "even distances; none that is failed.",
            ),
        ],
    )


def _label() -> Argument:
    return _stage(
        "label",
        "What energies and forces are. In short: `label: module:factory`, or "
        "`label: [high, minus: low]` for a difference.",
        [
            Argument(
                "levels",
                [str, list, dict],
                doc="`module:factory`, called with the frame (`ase.Atoms`, with its arrays and "
                "info), returns an ASE calculator; or `command: …`, a command of a shell that "
                "reads `frame.xyz` and writes `labelled.xyz`, or `output: …`, in any format that "
                "`dp-mask pack` reads; or a list of these, of which those with `minus:` are "
                "subtracted.",
            ),
            Argument(
                "largest_force",
                [int, float],
                optional=True,
                doc="eV/Å; frames with a larger one are put aside as failed.",
            ),
            Argument(
                "frames_per_task", int, optional=True, default=20, doc="Frames that a task labels."
            ),
        ],
    )


def _pack() -> Argument:
    return _stage(
        "pack",
        "As `dp-mask pack`.",
        [
            Argument(
                "precision",
                str,
                optional=True,
                default="float64",
                doc="Of the data, float64 or float32.",
            ),
            Argument(
                "external_field",
                bool,
                optional=True,
                default=False,
                doc="Net forces are as they should be.",
            ),
        ],
        optional=True,
    )


def _train() -> Argument:
    return _stage(
        "train",
        "The models.",
        [
            Argument(
                "input",
                str,
                optional=True,
                default="input.json",
                doc="Input of `dp train`, JSON or YAML. Systems to train with, seeds, type map and "
                "`save_ckpt` are filled in; a type map of its own must be the same. Paths of "
                '`validation_data` begin at the folder of the loop. `"sel": "auto"` is counted in '
                "the first iteration, and again when a frame no longer fits; models then begin "
                "from nothing.",
            ),
            Argument(
                "init_model",
                bool,
                optional=True,
                default=True,
                doc="Whether, from the second iteration on, each model goes on from the last one "
                "(`--init-model`). If not, all begin from nothing in each iteration, as "
                "`even_steps` wants it.",
            ),
            Argument(
                "reuse_numb_steps",
                int,
                optional=True,
                doc="Steps of a model that goes on; by default as many as in the first iteration.",
            ),
            Argument(
                "reuse_start_lr",
                [int, float],
                optional=True,
                doc="Learning rate that these begin with; by default that of the input.",
            ),
            Argument(
                "compress", bool, optional=True, default=False, doc="Whether to `dp compress`."
            ),
        ],
    )


def _judge() -> Argument:
    return _stage(
        "judge",
        "When it is enough.",
        [
            Argument(
                "accurate",
                [int, float],
                optional=True,
                default=0.99,
                doc="Share of explored frames that are accurate.",
            ),
            Argument(
                "force_error",
                [int, float],
                optional=True,
                doc="Besides, the largest error allowed of forces on preferred atoms of held-out "
                "frames, in eV/Å. It needs such frames, or `test`.",
            ),
        ],
        optional=True,
    )


def table() -> str:
    """Return the arguments as a table of Markdown, which docs/learning.md has."""
    lines = ["| argument | default | |", "| --- | --- | --- |"]
    for argument in arguments():
        lines.append(_row(argument, ""))
        lines += [
            _row(inner, f"{argument.name}/")
            for inner in argument.sub_fields.values()
            if inner.name not in ("machine", "resources", "workers")
        ]
    return "\n".join(lines) + "\n"


def _row(argument: Argument, above: str) -> str:
    if not argument.optional:
        default = "needed"
    elif argument.default in (None, {}) or not isinstance(
        argument.default, str | int | float | list
    ):
        default = ""
    else:
        default = f"`{argument.default}`"
    doc = argument.doc.replace("|", "\\|")
    return f"| `{above}{argument.name}` | {default} | {doc} |"
