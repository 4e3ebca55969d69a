"""What each strategy chooses, on anything that has names: scans, slices, parts of scans, pictures, clouds.

The table of them is `medssl.reduction.table`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import ConfigError
from medssl.reduction.leaders import Choice, chosen_of, farthest_first, leaders, leaders_to_size
from medssl.reduction.metrics import Bits, Cosine, Information, Metric, Structure
from medssl.reduction.selection import (
    Keep,
    balanced_choice,
    every_nth,
    random_choice,
    semantic_duplicates,
    semantic_duplicates_as_published,
    semantic_order,
    target_size,
)
from medssl.reduction.table import STRATEGIES

__all__ = ["Asked", "Things", "choose", "parse_keep"]


@dataclass(frozen=True, kw_only=True)
class Things:
    """What is chosen from.

    Attributes:
        ids: Names, all different; they fix the order of every choice.
        codes: uint64 (n, words).
        vectors: (n, d).
        pictures: uint8 (n, y, x) or (n, planes, y, x).
        by_name: Whether names give the order; false where things have an order of their own, as slices do.
    """

    ids: Sequence[str]
    codes: npt.NDArray[np.uint64] | None = None
    vectors: npt.NDArray[np.floating] | None = None
    pictures: npt.NDArray[np.uint8] | None = None
    by_name: bool = True
    order: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        places = sorted(range(len(self.ids)), key=lambda place: self.ids[place]) if self.by_name else range(len(self))
        object.__setattr__(self, "order", np.array(places, dtype=np.int64))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.ids)

    def given(self, name: str) -> npt.NDArray[Any]:
        """Return codes, vectors or pictures.

        Raises:
            ConfigError: They are not there.
        """
        found = getattr(self, name)
        if found is None:
            raise ConfigError(f"This strategy needs {name}, and these have none.")
        table: npt.NDArray[Any] = found
        return table


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of a strategy.

    Attributes:
        size: How many to keep; None where ``radius`` or ``step`` decides.
        radius: How near two must be for one to stand for the other; NaN where the strategy has none.
        step: For "every": every ``step``-th.
        keep: For SemDeDup: which of a group is worth keeping.
        seed: Seed of what is drawn.
    """

    size: int | None
    radius: float
    step: int | None
    keep: Keep
    seed: int


def choose(
    name: str,
    things: Things,
    *,
    size: int | None = None,
    share: float | None = None,
    step: int | None = None,
    radius: float | None = None,
    keep: Keep = "hard",
    seed: int = 0,
) -> Choice:
    """Choose by a strategy.

    Args:
        name: A key of ``STRATEGIES``.
        things: What to choose from.
        size: How many to keep; exactly so many are.
        share: Which share to keep, rounded up.
        step: For "every": every ``step``-th.
        radius: Where neither size nor share is given: how near two must be for one to stand for the other.
        keep: For SemDeDup: which of a group is worth keeping, "hard", "easy" or "random".
        seed: Seed of what is drawn.

    Raises:
        ConfigError: The name is unknown, what it needs is missing, or sizes are out of range.
    """
    row = STRATEGIES.row(name)
    count = len(things)
    wanted = None if size is None and share is None else target_size(count, size=size, share=share)
    if wanted is None and step is None and radius is None and row.radius is None:
        raise ConfigError(f"The strategy '{name}' needs to know how many to keep: give --keep, such as 0.5 or 200.")
    reach = row.radius if radius is None else radius
    asked = Asked(size=wanted, radius=np.nan if reach is None else reach, step=step, keep=keep, seed=seed)
    if not count:
        return chosen_of(0, np.arange(0, dtype=np.int64))
    ordered = _Ordered(things)
    found: Choice = STRATEGIES.load(name)(ordered, asked)
    return ordered.back(found)


def parse_keep(text: str) -> tuple[int | None, float | None]:
    """Return (size, share) of what ``--keep`` was given: "200", "0.25" or "25%".

    Example:
        >>> parse_keep("200"), parse_keep("0.25"), parse_keep("25%"), parse_keep("1.0")
        ((200, None), (None, 0.25), (None, 0.25), (None, 1.0))

    Raises:
        ConfigError: It is none of these.
    """
    said = text.strip()
    try:
        if said.endswith("%"):
            share = float(said[:-1]) / 100
        elif said.isdigit() and said != "0":
            return int(said), None
        else:
            share = float(said)
    except ValueError:
        share = -1.0
    if not 0.0 < share <= 1.0:
        raise ConfigError(f"--keep: found '{text}'; allowed is a number of scans (200) or a share (0.25, 25%).")
    return None, share


class _Ordered:
    """Things in the order of their names, and the way back to the order in which they were listed."""

    def __init__(self, things: Things) -> None:
        self.things, self._order = things, things.order

    def __len__(self) -> int:
        return len(self._order)

    @property
    def ids(self) -> list[str]:
        return [self.things.ids[place] for place in self._order]

    def of(self, name: str) -> npt.NDArray[Any]:
        table: npt.NDArray[Any] = self.things.given(name)[self._order]
        return table

    def back(self, choice: Choice) -> Choice:
        who = np.full(len(self._order), -1, dtype=np.int64)
        stands = choice.representative >= 0
        who[self._order[stands]] = self._order[choice.representative[stands]]
        distance = np.full(len(self._order), np.nan)
        distance[self._order] = choice.distance
        return Choice(who, distance, choice.radius)


def everything(things: _Ordered, asked: Asked) -> Choice:
    """Keep everything."""
    return chosen_of(len(things), np.arange(len(things), dtype=np.int64))


def every(things: _Ordered, asked: Asked) -> Choice:
    """Keep every n-th."""
    count = len(things)
    kept = every_nth(count, size=asked.size) if asked.step is None else every_nth(count, step=asked.step)
    return chosen_of(count, kept)


def at_random(things: _Ordered, asked: Asked) -> Choice:
    """Keep what is drawn."""
    return chosen_of(len(things), random_choice(len(things), size=asked.size, seed=asked.seed))


def by_hash(things: _Ordered, asked: Asked) -> Choice:
    """Keep leaders by perceptual hash."""
    return _leaders(Bits(things.of("codes")), asked)


def by_structure(things: _Ordered, asked: Asked) -> Choice:
    """Keep leaders by structural similarity."""
    return _leaders(Structure(things.of("pictures")), asked)


def by_information(things: _Ordered, asked: Asked) -> Choice:
    """Keep leaders by mutual information."""
    return _leaders(Information(things.of("pictures")), asked)


def by_embedding(things: _Ordered, asked: Asked) -> Choice:
    """Keep leaders by the cosine of embeddings."""
    return _leaders(Cosine(things.of("vectors")), asked)


def farthest(things: _Ordered, asked: Asked) -> Choice:
    """Keep always the one farthest from all chosen, the first being the one nearest to the mean."""
    vectors = things.of("vectors")
    first = int(np.argmin(((vectors - vectors.mean(axis=0)) ** 2).sum(axis=1)))
    return farthest_first(Cosine(vectors), asked.size or 0, start=(first,) if asked.size else ())


def balanced(things: _Ordered, asked: Asked) -> Choice:
    """Keep evenly over a tree of clusters."""
    return chosen_of(len(things), balanced_choice(things.of("vectors"), size=asked.size, seed=asked.seed))


def semdedup_as_published(things: _Ordered, asked: Asked) -> Choice:
    """Keep what SemDeDup's own code keeps."""
    vectors = things.of("vectors")
    kept = semantic_duplicates_as_published(
        vectors,
        eps=asked.radius,
        clusters=max(1, int(len(vectors) ** 0.5)),
        keep=asked.keep,
        seed=asked.seed,
        size=asked.size,
    )
    return chosen_of(len(vectors), kept)


def semdedup(things: _Ordered, asked: Asked) -> Choice:
    """Keep so that what is left out has a kept one within the radius."""
    vectors = things.of("vectors")
    if asked.size is None:
        groups = semantic_duplicates(things.ids, vectors, eps=asked.radius, keep=asked.keep, seed=asked.seed)
        return Choice(groups.leader, groups.distance, asked.radius)
    order = semantic_order(vectors, keep=asked.keep, seed=asked.seed)
    return leaders_to_size(Cosine(vectors), asked.size, order=order)


def _leaders(metric: Metric, asked: Asked) -> Choice:
    return leaders(metric, asked.radius) if asked.size is None else leaders_to_size(metric, asked.size)
