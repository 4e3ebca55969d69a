"""Choosing by a distance alone: leaders within a radius, as many leaders as are wanted, and the farthest first.

Every choice covers: each thing that is not chosen has a chosen one that stands for it, and the distance to it is known.
Things are visited in an order that the caller fixes by their names, so the order of listing changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.errors import ConfigError
from medssl.reduction.metrics import Metric

__all__ = ["Choice", "chosen_of", "farthest_first", "joined", "leaders", "leaders_to_size"]

Places = npt.NDArray[np.int64]
_HALVINGS = 40


@dataclass(frozen=True)
class Choice:
    """What was chosen of n things.

    Attributes:
        representative: int64 (n,), the place of the chosen one that stands for each; its own where it is chosen. -1
            where the strategy does not say who stands for it.
        distance: float64 (n,), to that one; 0 where it is chosen, NaN where nobody stands for it.
        radius: The largest distance at which one stands for another; NaN where there is no such rule.
    """

    representative: Places
    distance: npt.NDArray[np.float64]
    radius: float = float("nan")

    @property
    def kept(self) -> Places:
        """Places that were chosen, rising."""
        return np.flatnonzero(self.representative == np.arange(len(self.representative))).astype(np.int64)


def chosen_of(count: int, kept: Places) -> Choice:
    """Return a choice of these places that says nothing of who stands for the others."""
    representative = np.full(count, -1, dtype=np.int64)
    representative[kept] = kept
    distance = np.full(count, np.nan)
    distance[kept] = 0.0
    return Choice(representative, distance)


def joined(choices: Sequence[Choice]) -> Choice:
    """Return several choices as one over their things, one after the other."""
    if not choices:
        return Choice(np.zeros(0, dtype=np.int64), np.zeros(0))
    begins = np.cumsum([0, *(len(one.representative) for one in choices)])
    who = [
        np.where(one.representative < 0, -1, one.representative + begin)
        for one, begin in zip(choices, begins[:-1], strict=True)
    ]
    radius = {one.radius for one in choices}
    return Choice(
        np.concatenate(who).astype(np.int64),
        np.concatenate([one.distance for one in choices]),
        radius.pop() if len(radius) == 1 else float("nan"),
    )


def leaders(metric: Metric, radius: float, *, order: Sequence[int] | Places | None = None) -> Choice:
    """Choose greedily: each thing that lies within the radius of no chosen one is chosen. The rest goes to the nearest.

    Args:
        metric: The things.
        radius: Inclusive.
        order: In which they are visited; by default as they lie.
    """
    nearest, who = np.full(len(metric), np.inf), np.full(len(metric), -1, dtype=np.int64)
    for place in range(len(metric)) if order is None else order:
        if nearest[place] > radius:
            _choose(metric, int(place), nearest, who)
    return Choice(who, nearest, radius)


def leaders_to_size(metric: Metric, size: int, *, order: Sequence[int] | Places | None = None) -> Choice:
    """Choose exactly so many: leaders at the smallest radius that chooses no more, then the farthest of the others.

    Args:
        metric: The things.
        size: How many.
        order: In which they are visited; by default as they lie.

    Raises:
        ConfigError: There are fewer things than that.
    """
    _check_size(metric, size)
    cached = _Cached(metric)
    high = 0.0
    if size:
        first = int(order[0]) if order is not None else 0
        high = float(cached.row(first).max()) if len(metric) else 0.0
        while len(leaders(cached, high, order=order).kept) > size:
            high *= 2.0
    low = 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if len(leaders(cached, middle, order=order).kept) > size:
            low = middle
        else:
            high = middle
        if high - low <= 1e-6 * max(high, 1e-12):
            break
    start = leaders(cached, high, order=order).kept if size else np.zeros(0, dtype=np.int64)
    return farthest_first(cached, size, start=start[:size])


def farthest_first(metric: Metric, size: int, *, start: Sequence[int] | Places = ()) -> Choice:
    """Choose exactly so many, always the one farthest from all chosen; in a tie the smaller place.

    The largest distance that is left is at most twice the least possible one where the metric keeps the triangle
    inequality.

    Source: T. Gonzalez, Theoretical Computer Science 38 (1985); as a coreset: O. Sener, S. Savarese, ICLR 2018.

    Args:
        metric: The things.
        size: How many.
        start: Places that are chosen first; the first place where there are none.

    Raises:
        ConfigError: There are fewer things than that.
    """
    _check_size(metric, size)
    nearest, who = np.full(len(metric), np.inf), np.full(len(metric), -1, dtype=np.int64)
    if not size:
        return Choice(who, np.full(len(metric), np.nan), float("nan"))
    for place in start if len(start) else (0,):
        _choose(metric, int(place), nearest, who)
    chosen = np.zeros(len(metric), dtype=bool)
    chosen[who == np.arange(len(who))] = True
    while int(chosen.sum()) < size:
        place = int(np.argmax(np.where(chosen, -1.0, nearest)))
        chosen[place] = True
        _choose(metric, place, nearest, who)
    return Choice(who, nearest, float(nearest.max()))


def _choose(metric: Metric, place: int, nearest: npt.NDArray[np.float64], who: Places) -> None:
    row = metric.row(place)
    # What is chosen stays its own, though another should come to lie at distance 0.
    closer = (row < nearest) & (who != np.arange(len(who)))
    nearest[closer], who[closer] = row[closer], place
    nearest[place], who[place] = 0.0, place


def _check_size(metric: Metric, size: int) -> None:
    if not 0 <= size <= len(metric):
        raise ConfigError(f"{size} cannot be kept of {len(metric)}. Allowed: 0 to {len(metric)}.")


class _Cached:
    """A metric that remembers its rows as far as memory reasonably goes."""

    def __init__(self, metric: Metric, most_bytes: int = 1 << 29) -> None:
        self._metric, self._rows = metric, dict[int, npt.NDArray[np.float64]]()
        self._most = max(1, most_bytes // max(8, 8 * len(metric)))

    def __len__(self) -> int:
        return len(self._metric)

    def row(self, place: int) -> npt.NDArray[np.float64]:
        found = self._rows.get(place)
        if found is None:
            found = self._metric.row(place)
            if len(self._rows) < self._most:
                self._rows[place] = found
        return found
