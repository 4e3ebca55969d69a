"""In what order a run takes its items: shuffled, or by groups of them; a pure function of (seed, step).

References:
    Chakraborty et al., "G-SimCLR", ICDMW 2020, arXiv:2009.12007, for batches of one item of each group; Zhang et al.,
    "Multistage contrastive learning" (MCL), ECCV 2024, arXiv:2402.11816, for batches of one group.

Differ from their code: groups are shuffled anew each epoch (G-SimCLR's order is made once), and dealt so that a group
of more items than an epoch has batches is spread over all of them (there the last batches hold nothing but the largest
groups); batches of one group take turns by the sizes of groups, evenly spaced at random places, and what of a group
does not fill a batch begins its next one (MCL leaves it out for the epoch, and goes round the groups).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from medssl.batch import Ordering
from medssl.errors import ConfigError
from medssl.randomness import numpy_generator

__all__ = ["ItemOrder", "OneGroup", "OnePerGroup", "order_of_items"]

# Counters, never 0, that keep these draws apart from those of the views, which use (seed, step, slot).
_ORDER, _DEAL, _TURNS = 2, 12, 13

Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]


class ItemOrder:
    """Shuffled: place ``g = step * taken + place`` of a run is ``g mod n`` of the permutation of epoch ``g div n``.

    Args:
        count: Items that there are, at least 1.
        taken: Items of the global batch.
        seed: The run's seed.
    """

    def __init__(self, count: int, taken: int, seed: int) -> None:
        self.count, self.taken, self.seed = count, taken, seed
        self._permuted = lru_cache(maxsize=4)(self._permutation)

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which every item is seen once; a fraction where the batch does not divide the items."""
        return self.count / self.taken

    def items(self, step: int, places: Sequence[int]) -> tuple[int, ...]:
        """Return the items at places of a step's global batch."""
        found = [divmod(step * self.taken + place, self.count) for place in places]
        return tuple(int(self._permuted(epoch)[place]) for epoch, place in found)

    def _permutation(self, epoch: int) -> Numbers:
        return numpy_generator(self.seed, epoch, 0, _ORDER).permutation(self.count)


class OnePerGroup(ItemOrder):
    """Batches whose items are of as many groups as can be.

    An epoch has as many whole batches as the items fill; what is left over, drawn anew each epoch, waits for another.
    In no batch of an epoch of M does a group of n items (of those dealt) have more than n / M, rounded up: one alone
    where n is M or less.

    Args:
        groups: A group number for each item.
        taken: Items of the global batch.
        seed: The run's seed.

    Raises:
        ConfigError: The items do not fill a batch.
    """

    def __init__(self, groups: Sequence[int], taken: int, seed: int) -> None:
        super().__init__(len(groups), taken, seed)
        self._groups = np.asarray(groups, dtype=np.int64)
        self._batches = self.count // taken
        if not self._batches:
            raise ConfigError(
                f"data.order=one_per_group deals {self.count} items to batches of {taken}, which they do not fill. "
                "Set a smaller train.batch_size."
            )

    @property
    def steps_per_epoch(self) -> float:
        """Batches of an epoch, a whole number: what does not fill a batch waits."""
        return float(self._batches)

    def items(self, step: int, places: Sequence[int]) -> tuple[int, ...]:
        """Return the items at places of a step's global batch."""
        epoch, batch = divmod(step, self._batches)
        own = self._permuted(epoch)[batch * self.taken : (batch + 1) * self.taken]
        return tuple(int(own[place]) for place in places)

    def _permutation(self, epoch: int) -> Numbers:
        dealt = super()._permutation(epoch)[: self._batches * self.taken]
        draws = numpy_generator(self.seed, epoch, 0, _DEAL)
        turn = draws.permutation(int(self._groups.max()) + 1)  # whose items are dealt first
        dealt = dealt[np.argsort(turn[self._groups[dealt]], kind="stable")]
        # Like cards: consecutive items, and so those of a group, go to different batches.
        hands = dealt.reshape(self.taken, self._batches).T[draws.permutation(self._batches)]
        return hands.reshape(-1)


class OneGroup(ItemOrder):
    """Batches of the items of one group each; with a single group the shuffled order, bit for bit.

    Each group goes through its own shuffled items again and again. Of as many steps as there are items (of groups that
    fill a batch), as many are a group's as it has items, so that all items come equally often. A group that does not
    fill a batch is left out, as in the paper's code.

    Args:
        groups: A group number for each item, from 0 on.
        taken: Items of the global batch.
        seed: The run's seed.

    Raises:
        ConfigError: No group fills a batch.
    """

    def __init__(self, groups: Sequence[int], taken: int, seed: int) -> None:
        numbers = np.asarray(groups, dtype=np.int64)
        sizes = np.bincount(numbers)
        if sizes.max() < taken:
            raise ConfigError(
                f"data.order=one_group: the largest of {np.count_nonzero(sizes)} groups has {sizes.max()} items, and a "
                f"batch takes {taken} of one group. Set a smaller train.batch_size, or make fewer groups."
            )
        self._members = [np.flatnonzero(numbers == group) for group, size in enumerate(sizes) if size >= taken]
        self.left_out = int(sizes[sizes < taken].sum())
        super().__init__(int(sum(map(len, self._members))), taken, seed)
        self._turned = lru_cache(maxsize=4)(self._turns)
        self._own = lru_cache(maxsize=4 * len(self._members))(self._own_permutation)

    def items(self, step: int, places: Sequence[int]) -> tuple[int, ...]:
        """Return the items at places of a step's global batch."""
        cycle, at = divmod(step, self.count)
        turns = self._turned(cycle)
        group = int(turns[at])
        members = self._members[group]
        before = cycle * len(members) + int(np.count_nonzero(turns[:at] == group))
        found = [divmod(before * self.taken + place, len(members)) for place in places]
        return tuple(int(members[self._own(group, epoch)[place]]) for epoch, place in found)

    def _turns(self, cycle: int) -> Numbers:
        """Return the group of each of as many steps as there are items: each group's are spread over all of them."""
        sizes = np.array([len(own) for own in self._members])
        group = np.repeat(np.arange(len(sizes)), sizes)
        number = np.concatenate([np.arange(size) for size in sizes])
        shift = numpy_generator(self.seed, cycle, 0, _TURNS).random(len(sizes))
        return group[np.argsort((number + shift[group]) / sizes[group], kind="stable")]

    def _own_permutation(self, group: int, epoch: int) -> Numbers:
        return numpy_generator(self.seed, epoch, group, _ORDER).permutation(len(self._members[group]))


def order_of_items(ordering: Ordering, count: int, groups: Sequence[int] | None, taken: int, seed: int) -> ItemOrder:
    """Return the order by its name.

    Args:
        ordering: Its name.
        count: Items that there are.
        groups: A group number for each item, from 0 on; not for "shuffled".
        taken: Items of the global batch.
        seed: The run's seed.

    Raises:
        ConfigError: The groups do not fill batches.
    """
    if ordering == "shuffled":
        return ItemOrder(count, taken, seed)
    assert groups is not None
    return (OnePerGroup if ordering == "one_per_group" else OneGroup)(groups, taken, seed)
