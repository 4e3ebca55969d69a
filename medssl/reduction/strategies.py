"""The strategies by name, on anything that has names: scans, slices, parts of scans, pictures, clouds.

All six of "Less is More" (all, every n-th, SSIM, mutual information, embedding similarity, hash), SemDeDup as published
and as repaired, balanced choice, k-centre, and random at the same size, which each of the others has to beat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import ConfigError, did_you_mean
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

__all__ = ["STRATEGIES", "Strategy", "Things", "choose", "parse_keep"]


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """One row of the table.

    Attributes:
        name: As in ``--by``.
        needs: What it looks at: "codes", "vectors", "pictures" or "" for names alone.
        radius: The default radius where no size is asked for; None where a size is needed.
        unit: What the radius counts, in words.
        summary: What it does, in one line.
    """

    name: str
    needs: str
    radius: float | None
    unit: str
    summary: str


_ROWS = (
    Strategy(name="all", needs="", radius=0.0, unit="", summary="Keep everything."),
    Strategy(name="every", needs="", radius=None, unit="", summary="Every n-th, in the order in which they lie."),
    Strategy(name="random", needs="", radius=None, unit="", summary="At random: the baseline at the same size."),
    Strategy(name="hash", needs="codes", radius=6.0, unit="differing bits",
             summary="Leaders by perceptual hash; on slices, Hash-6 of 'Less is More' exactly."),
    Strategy(name="ssim", needs="pictures", radius=0.1, unit="1 - SSIM", summary="Leaders by structural similarity."),
    Strategy(name="mi", needs="pictures", radius=0.5, unit="1 - normalised mutual information",
             summary="Leaders by mutual information."),
    Strategy(name="embedding", needs="vectors", radius=0.05, unit="1 - cosine",
             summary="Leaders by the cosine of embeddings."),
    Strategy(name="semdedup", needs="vectors", radius=0.05, unit="1 - cosine",
             summary="SemDeDup, repaired: what is left out has a kept one within the radius."),
    Strategy(name="semdedup-published", needs="vectors", radius=0.05, unit="1 - cosine",
             summary="SemDeDup as its code does it, for comparison."),
    Strategy(name="kcentre", needs="vectors", radius=None, unit="1 - cosine",
             summary="Always the one farthest from all chosen (coreset)."),
    Strategy(name="balanced", needs="vectors", radius=None, unit="",
             summary="Evenly over a tree of clusters: the rare is kept, the frequent thinned out."),
)  # fmt: skip
STRATEGIES: dict[str, Strategy] = {row.name: row for row in _ROWS}


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
    if name not in STRATEGIES:
        raise ConfigError(f"There is no strategy '{name}'. {did_you_mean(name, STRATEGIES)}")
    row = STRATEGIES[name]
    count = len(things)
    wanted = None if size is None and share is None else target_size(count, size=size, share=share)
    if wanted is None and step is None and radius is None and row.radius is None:
        raise ConfigError(f"The strategy '{name}' needs to know how many to keep: give --keep, such as 0.5 or 200.")
    ordered = _Ordered(things)
    if name == "all" or not count:
        return chosen_of(count, np.arange(count, dtype=np.int64))
    if name == "every":
        kept = every_nth(count, step=step) if step is not None else every_nth(count, size=wanted)
        return ordered.back(chosen_of(count, kept))
    if name == "random":
        return ordered.back(chosen_of(count, random_choice(count, size=wanted, seed=seed)))
    if name == "balanced":
        kept = balanced_choice(ordered.of("vectors"), size=wanted, seed=seed)
        return ordered.back(chosen_of(count, kept))
    reach = row.radius if radius is None else radius
    if name == "semdedup-published":
        return ordered.back(_published(ordered, reach or 0.0, wanted, keep, seed))
    if name == "semdedup":
        return ordered.back(_repaired(ordered, reach or 0.0, wanted, keep, seed))
    metric = _METRICS[name](ordered.of(row.needs))
    if name == "kcentre":
        middle = ordered.of("vectors")
        first = int(np.argmin(((middle - middle.mean(axis=0)) ** 2).sum(axis=1)))
        return ordered.back(farthest_first(metric, wanted or 0, start=(first,) if wanted else ()))
    found = leaders(metric, reach or 0.0) if wanted is None else leaders_to_size(metric, wanted)
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


_METRICS: dict[str, Callable[[Any], Metric]] = {
    "hash": Bits,
    "ssim": Structure,
    "mi": Information,
    "embedding": Cosine,
    "kcentre": Cosine,
}


class _Ordered:
    """Things in the order of their names, and the way back to the order in which they were listed."""

    def __init__(self, things: Things) -> None:
        self.things, self._order = things, things.order

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


def _published(ordered: _Ordered, eps: float, size: int | None, keep: Keep, seed: int) -> Choice:
    vectors = ordered.of("vectors")
    clusters = max(1, int(len(vectors) ** 0.5))
    kept = semantic_duplicates_as_published(vectors, eps=eps, clusters=clusters, keep=keep, seed=seed, size=size)
    return chosen_of(len(vectors), kept)


def _repaired(ordered: _Ordered, eps: float, size: int | None, keep: Keep, seed: int) -> Choice:
    vectors = ordered.of("vectors")
    if size is None:
        groups = semantic_duplicates(ordered.ids, vectors, eps=eps, keep=keep, seed=seed)
        return Choice(groups.leader, groups.distance, eps)
    order = semantic_order(vectors, keep=keep, seed=seed)
    return leaders_to_size(Cosine(vectors), size, order=order)
