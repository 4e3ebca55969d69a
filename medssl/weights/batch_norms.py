"""Batch norms of published networks, which keep the statistics that they come with."""

from __future__ import annotations

import torch

from medssl.weights.renaming import Rule

__all__ = ["FIXED", "norm_rules"]

FIXED = (
    "batch norms keep the statistics that they come with, in training too (encoder.statistics=fixed): batches of few "
    "windows say little; its makers let them move"
)


def norm_rules(there: str, here: str, part: str) -> list[Rule]:
    """Return the rules of a batch norm: its four tensors; the count of batches, which older files lack, begins anew.

    Args:
        there: Pattern of its name in the file.
        here: Its name here, with the pattern's groups.
        part: What it is of.
    """
    counter = ((f"{here}.num_batches_tracked", lambda _: torch.tensor(0)),)
    group = there.replace(r"\(", "").count("(") - there.count("(?:") + 1
    return [
        Rule(rf"{there}\.running_var", f"{here}.running_var", part, also=counter),
        Rule(rf"{there}\.(weight|bias|running_mean)", rf"{here}.\{group}", part),
        Rule(rf"{there}\.num_batches_tracked", "", part, "counts batches, and no statistics move"),
    ]
