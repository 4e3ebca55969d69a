"""Which numbers among labels of points stand for "not labelled"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["UNLABELLED", "classes_of_points", "unlabelled_numbers"]

UNLABELLED = -1
_MARKS = (255, 65535)  # the largest number of one byte, and of two


def unlabelled_numbers(rows: Iterable[Mapping[str, Any]]) -> frozenset[int]:
    """Return 255 and 65535 where the clouds' labels hold them far above all others.

    What is below 0 is never a class. A mark counts as one where no other label, but for the other mark, is above half
    of it: with classes 0 to 19 and 255, 255 is none; with 250, 252 and 255, it is one.

    Args:
        rows: Rows of a manifest.

    Example:
        >>> unlabelled_numbers([{"kind": "cloud", "label_values": [0, 19, 255]}])
        frozenset({255})
    """
    seen = {value for row in rows if row["kind"] == "cloud" for value in row["label_values"] or ()}
    rest = seen - set(_MARKS)
    found = {mark for mark in _MARKS if mark in seen and rest and 2 * max(rest) < mark}
    return frozenset(found)


def classes_of_points(row: Mapping[str, Any], unlabelled: Iterable[int] = ()) -> list[int]:
    """Return the classes that the points of a cloud have, without what stands for none."""
    none = set(unlabelled)
    return [value for value in row["label_values"] or () if value >= 0 and value not in none]
