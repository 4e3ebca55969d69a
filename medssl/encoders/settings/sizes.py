"""Sizes along (z, y, x) as settings give them: a number for all three, or three."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Triple", "as_triples"]

Triple = tuple[int, int, int]


def as_triples(values: Sequence[int | Triple]) -> tuple[Triple, ...]:
    """Return each entry as (z, y, x); a single number stands for all three axes.

    Example:
        >>> as_triples([2, (1, 2, 2)])
        ((2, 2, 2), (1, 2, 2))
    """
    return tuple((v, v, v) if isinstance(v, int) else (v[0], v[1], v[2]) for v in values)
