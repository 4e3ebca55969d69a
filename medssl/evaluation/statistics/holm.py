"""p values that were asked for together."""

from __future__ import annotations

import math
from collections.abc import Mapping

__all__ = ["holm"]


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct p values for having asked several questions (Holm 1979).

    The i-th smallest of m p values is multiplied by m - i + 1, then made to grow with its rank and capped at 1: the
    chance of even one false alarm among the questions stays under the level at which the corrected values are read.

    Args:
        p_values: p of each question; NaN where it is not defined, which counts as a question and stays NaN.

    Returns:
        Corrected p of each question, in the same order.

    Example:
        >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
        {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    ordered = sorted(p_values.items(), key=lambda item: (math.isnan(item[1]), item[1]))
    corrected: dict[str, float] = {}
    largest = 0.0
    for rank, (name, p) in enumerate(ordered):
        largest = p if math.isnan(p) else max(largest, min(1.0, p * (len(ordered) - rank)))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}
