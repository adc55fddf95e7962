# SPDX-License-Identifier: LGPL-3.0-or-later
"""Makes the files of seeds/, from which the fuzzing of op/model_file begins: models of a few kB.

    python tests/fuzz/seeds.py

They are trained and frozen as any model; what only TensorFlow needs of a graph is taken away then.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

KEPT = ("o_", "t_", "model_attr/", "descrpt_attr/", "fitting_attr/", "train_attr/min", "model_type")
FOLLOWED = ("Identity", "Cast", "Mul", "AddV2", "Sub", "StridedSlice")
# Operators of which the reader does not follow all inputs, and how many of the first it does.
INPUTS_READ = {"RealAtoms": 0, "AddN": 0, "Shape": 0, "Size": 0, "FloorDiv": 0, "GatherV2": 1}
INPUTS_READ |= {"UnsortedSegmentSum": 1}


def shortened(source, target):
    """Write a model without what its reader in C does not look at."""
    from tensorflow.core.framework import graph_pb2

    graph = graph_pb2.GraphDef.FromString(source.read_bytes())
    nodes = {node.name: node for node in graph.node}
    for node in graph.node:
        op = node.op.split(">")[-1]
        if op == "Reshape":  # of sums, or of coordinates
            del node.input["Segment" in nodes[origin(node.input[0])].op :]
        elif op in INPUTS_READ and not is_constant(node, nodes):
            del node.input[INPUTS_READ[op] :]
        node.input[:] = [name for name in node.input if not name.startswith("^")]
        node.attr.pop("_class", None)
    needed, waiting = set(), [name for name in nodes if name.startswith(KEPT)]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += [origin(other) for other in nodes[name].input]
    short = graph_pb2.GraphDef(node=[node for node in graph.node if node.name in needed])
    target.write_bytes(short.SerializeToString())


def origin(name):
    """Return the node of an input."""
    return name.split(":")[0].lstrip("^")


def is_constant(node, nodes):
    """Return whether a node follows from constants alone."""
    inputs = [nodes[origin(name)] for name in node.input]
    followed = node.op in FOLLOWED and all(is_constant(other, nodes) for other in inputs)
    return node.op == "Const" or followed


def make(directory, name, **sections):
    """Train and freeze a model, and compress it; write all to seeds/."""
    import helpers
    from jobs import run

    frames = helpers.random_frames(slots=(3, 2))
    system = helpers.write_system(directory / "system", frames, ["C", "O"])
    jdata = helpers.make_input([system], steps=1, sel=(3, 2), **sections)
    jdata["model"]["type_map"] = ["C", "O"]
    helpers.write_input(directory, jdata)
    train, freeze = ["train", "input.json"], ["freeze", "-o", "frozen.pb"]
    compress = ["compress", "-i", "frozen.pb", "-o", "compressed.pb"]
    run([[directory, *command] for command in (train, freeze, compress)])
    seeds = Path(__file__).parent / "seeds"
    seeds.mkdir(exist_ok=True)
    for kind in ("frozen", "compressed"):
        shortened(directory / f"{kind}.pb", seeds / f"{name}-{kind}.pb")


def main():
    descriptor = {"neuron": [2], "axis_neuron": 1, "type_one_side": True}
    with tempfile.TemporaryDirectory() as home:
        make(
            Path(home, "plain"),
            "plain",
            descriptor=descriptor,
            fitting_net={"neuron": [2]},
        )
        # With all that the graph of energies may have; excluded types, float32.
        make(
            Path(home, "options"),
            "options",
            descriptor={
                **descriptor,
                "neuron": [2, 2],
                "type_one_side": False,
                "resnet_dt": True,
                "exclude_types": [[0, 1]],
                "precision": "float32",
                "activation_function": "relu",
            },
            fitting_net={"neuron": [2, 2], "atom_ener": [1.5, None], "precision": "float32"},
        )


if __name__ == "__main__":
    main()
