# SPDX-License-Identifier: LGPL-3.0-or-later
"""Makes the files of seeds/, from which the fuzzing of op/model_file begins: models of a few kB.

    python tests/fuzz/seeds.py

They are trained and frozen as any model; what only TensorFlow needs of a graph is taken away then.
"""

import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

import helpers
from jobs import run

# What is read of a graph ends here; above are coordinates, mask and gradients.
ENDS = ("RealAtoms", "Reshape", "GatherV2", "AddN", "Shape", "Size", "FloorDiv", "StridedSlice")
KEPT = ("o_", "t_", "model_attr/", "descrpt_attr/", "fitting_attr/", "train_attr/min", "model_type")


def shortened(source, target):
    """Write a model without what its reader in C does not look at."""
    from tensorflow.core.framework import graph_pb2

    graph = graph_pb2.GraphDef.FromString(source.read_bytes())
    nodes = {node.name: node for node in graph.node}
    for node in graph.node:
        of_coordinates = node.op.split(">")[-1] in ENDS and not is_of_constants(node, nodes)
        if of_coordinates and node.op not in ("GatherV2", "StridedSlice"):
            keep_sums = node.op == "Reshape" and "Segment" in nodes[origin(node.input[0])].op
            del node.input[keep_sums:]
        if node.op == "GatherV2":
            del node.input[1:]
        if node.op == "UnsortedSegmentSum":
            del node.input[1:]
        for name in [name for name in node.attr if name in ("_class", "_output_shapes")]:
            del node.attr[name]
        controls = [name for name in node.input if name.startswith("^")]
        for name in controls:
            node.input.remove(name)
    needed, waiting = set(), [n for n in nodes if n.startswith(KEPT)]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += [origin(other) for other in nodes[name].input]
    short = graph_pb2.GraphDef()
    short.node.extend(node for node in graph.node if node.name in needed)
    target.write_bytes(short.SerializeToString())
    print(target.name, target.stat().st_size)


def origin(name):
    """Return the node of an input."""
    return name.split(":")[0].lstrip("^")


def is_of_constants(node, nodes):
    """Return whether a node follows from constants alone."""
    if node.op == "Const":
        return True
    inputs = [nodes[origin(name)] for name in node.input]
    known = node.op in ("Identity", "Cast", "Mul", "AddV2", "Sub", "StridedSlice")
    return known and all(is_of_constants(other, nodes) for other in inputs)


def make(directory, name, **sections):
    """Train and freeze a model, and compress it; write all to seeds/."""
    frames = helpers.random_frames(slots=(3, 2))
    system = helpers.write_system(directory / "system", frames, ["C", "O"])
    jdata = helpers.make_input([system], steps=1, sel=(3, 2), **sections)
    jdata["model"]["type_map"] = ["C", "O"]
    helpers.write_input(directory, jdata)
    run(
        [
            [directory, "train", "input.json"],
            [directory, "freeze", "-o", "frozen.pb"],
            [directory, "compress", "-i", "frozen.pb", "-o", "compressed.pb"],
        ]
    )
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
