# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a frozen model may have that neither converts nor runs without TensorFlow."""

from ..shared.options import PRECISIONS, REFUSALS, section
from .description import Description
from .model_file import FrozenModel


def reasons_against(model: FrozenModel, found: Description) -> dict[str, bool]:
    """Return reasons against a model, and whether each holds.

    Parameters
    ----------
    model, found
        The model and its description.
    """
    script = found.training_input
    descriptors = {node.op for node in model.graph.node if node.op.startswith("Descrpt")}
    precisions = {found.embedding.precision, found.fitting.precision} - {None, "default"}
    shown = {  # by the graph
        "part": len(descriptors) > 1 or section(script, "model/descriptor").get("type") == "hybrid",
        "fitting": model.text("model_attr/model_type") != "ener" or "o_energy" not in model.nodes,
        "mask": found.fitting_options["numb_aparam"] != 1,
        "spin": "spin_attr/ntypes_spin" in model.nodes,
    }
    return {
        **{
            refusal.reason: shown.get(name, False) or (bool(script) and refusal.holds(script))
            for name, refusal in REFUSALS.items()
        },
        "it has a data modifier": "modifier_attr/type" in model.nodes,
        f"its nets have the precision {found.embedding.precision} and {found.fitting.precision}": (
            not precisions <= set(PRECISIONS)
        ),
    }
