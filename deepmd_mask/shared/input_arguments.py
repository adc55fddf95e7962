# SPDX-License-Identifier: LGPL-3.0-or-later
"""Arguments of the descriptor in an input of ``dp train`` that the built-in's does not have."""

from typing import Any

from dargs import Argument

STARTS = SPREAD, NORMAL = "spread", "normal"


def arguments() -> list[Argument]:
    """Return them."""
    return [
        Argument(
            "start",
            str,
            optional=True,
            extra_check=lambda value: value in STARTS,
            extra_check_errmsg=f"it is one of {', '.join(STARTS)}",
            doc="How the embedding nets' first layers are drawn: spread over the distances that "
            "occur in the data (spread, the default), or with the numbers that the built-in draws "
            "(normal).",
        ),
        Argument(
            "even_steps",
            bool,
            optional=True,
            doc="Whether Adam steps the first layers of the fitting nets in coordinates in which "
            "the descriptor spreads evenly over the atoms of a type; for training from nothing in "
            "one process, with rates that begin at 0.001 or 0.002.",
        ),
    ]


def add_to(registry: Any) -> None:
    """Add them to the arguments of the built-in's se_a_mask, of which there may be some already.

    Parameters
    ----------
    registry
        DeePMD-kit's, `deepmd.utils.argcheck.descrpt_args_plugin`.
    """
    builtin = next(a for a in registry.get_all_argument() if a.name == "se_a_mask")
    fields = builtin.sub_fields.values()
    names = {field.name for field in fields}
    new = [argument for argument in arguments() if argument.name not in names]
    # With another text it would be another descriptor of the same name.
    registry.register("se_a_mask", doc=builtin.doc)(lambda: [*fields, *new])
