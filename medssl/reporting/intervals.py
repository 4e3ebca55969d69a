"""Intervals as JSON holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medssl.evaluation.intervals import Interval

__all__ = ["interval_of", "number_of"]

_NAN = float("nan")


def interval_of(row: Mapping[str, Any]) -> Interval:
    """Return an interval of what JSON holds of it."""
    return Interval(
        estimate=number_of(row["estimate"]),
        low=number_of(row["low"]),
        high=number_of(row["high"]),
        level=float(row["level"]),
        cases=int(row["cases"]),
        draws=int(row.get("draws", 1)),
        method=str(row.get("method", "percentile")),
    )


def number_of(value: float | None) -> float:
    """Return a number, NaN where JSON has none."""
    return _NAN if value is None else float(value)
