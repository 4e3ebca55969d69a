"""Batches in an order that is a pure function of (seed, step), read ahead by threads.

Sample ``g = step * batch_size + slot`` of a run is place ``g mod n`` of the permutation of epoch ``g div n``, so every
item is seen once an epoch, epochs shorter than a batch work, and neither threads, ranks nor a resume change anything.
Where an item has several rows, the sample is the item, and a rank takes all its rows. Where items have groups, the
permutation of an epoch follows them (`medssl.grouped_order`), and may be shorter than the items are many.
"""

from __future__ import annotations

import csv
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, Required, TypedDict, TypeVar, Unpack, get_args

import numpy as np
import torch

from medssl.batch import Batch
from medssl.errors import ConfigError, DataError
from medssl.grouped_order import Numbers, batches_without_repeats, in_batches_of_one_group, one_of_each_group
from medssl.listings import ListedStore
from medssl.randomness import numpy_generator
from medssl.spreadsheet import rows_of_csv
from medssl.windows import Grouping

__all__ = ["Order", "StepLoader", "group_numbers", "order_of", "patient_numbers", "read_groups"]

# A fourth counter, never 0, keeps these draws apart from those of the views, which use (seed, step, slot).
_ORDER = 2

B = TypeVar("B", bound=Batch)


class Order(TypedDict, total=False):
    """In what order every loader goes through its items, and who reads them.

    Attributes:
        batch_size: Rows in the global batch, over all ranks; a multiple of the rows that an item has.
        seed: The run's seed.
        rank: This process; it takes items ``rank``, ``rank + world_size``, ... of the batch. 0 if not given.
        world_size: Number of processes; 1 if not given.
        threads: Threads that read ahead; 0 reads in the caller's thread. 1 if not given.
        pin: Whether to put batches in page-locked memory (where CUDA is present). False if not given.
        grouping: "shuffled", as if not given; "one_per_group", items of a batch are of groups that differ, as far as
            there are such; "one_group", a batch is of one group, and what is left of a group is in no batch of the
            epoch.
        groups: Item id -> its group, for the two; each item of the store has one.
    """

    batch_size: Required[int]
    seed: Required[int]
    rank: int
    world_size: int
    threads: int
    pin: bool
    grouping: Grouping
    groups: Mapping[str, str]


def order_of(settings: Any, *, rank: int, world_size: int, pin: bool) -> Order:
    """Return the order that settings of a run name, for one process."""
    train, data = settings.train, settings.data
    found = Order(
        batch_size=train.batch_size, seed=train.seed, threads=train.threads, rank=rank, world_size=world_size, pin=pin
    )
    grouping: Grouping = getattr(data, "order", "shuffled")  # fine-tuning has none
    if grouping != "shuffled":
        if not data.groups:
            raise ConfigError(
                f"data.order={grouping} needs data.groups, a CSV with the columns scan and group. `medssl embed RUN "
                "--data STORE --groups 10` makes one of the features of a run."
            )
        found |= Order(batch_size=train.batch_size, seed=train.seed, grouping=grouping, groups=read_groups(data.groups))
    elif getattr(data, "groups", ""):
        raise ConfigError(
            "data.groups is given and data.order is 'shuffled', which asks for none. Set data.order=one_per_group or "
            "one_group, or leave data.groups out."
        )
    return found


class StepLoader(ABC, Generic[B]):
    """Which items each step takes, on which rank; a subclass says what an item's row of the batch holds.

    Args:
        count: Items that there are, at least 1.
        ids: Id of each, by which groups are found; not needed where there are none.
        rows_per_item: Rows that each item has in a batch.
        order: See `Order`.

    Raises:
        ConfigError: A number is out of range.
    """

    def __init__(
        self,
        count: int,
        *,
        ids: Sequence[str] = (),
        rows_per_item: int = 1,
        **order: Unpack[Order],
    ) -> None:
        batch_size, seed = order["batch_size"], order["seed"]
        rank, world_size = order.get("rank", 0), order.get("world_size", 1)
        threads, pin = order.get("threads", 1), order.get("pin", False)
        if batch_size < 1:
            raise ConfigError(f"batch_size must be 1 or more. Got {batch_size}.")
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank must be in [0, {world_size}). Got {rank}.")
        if batch_size % rows_per_item:
            raise ConfigError(
                f"batch_size counts windows and must be a multiple of the {rows_per_item} windows that the "
                f"method takes of each scan. Got {batch_size}; try {-(-batch_size // rows_per_item) * rows_per_item}."
            )
        if batch_size // rows_per_item < world_size:
            times = f" times {rows_per_item} windows a scan" if rows_per_item > 1 else ""
            raise ConfigError(
                f"batch_size is the global batch and must be at least the number of processes, {world_size}{times}. "
                f"Got {batch_size}."
            )
        if threads < 0:
            raise ConfigError(f"threads must be 0 or more. Got {threads}.")
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.threads = threads
        self.rows_per_item = rows_per_item
        self._places = range(rank, batch_size // rows_per_item, world_size)
        self.slots = tuple(place * rows_per_item + row for place in self._places for row in range(rows_per_item))
        self.wait_seconds = 0.0
        self._pin = pin and torch.cuda.is_available()
        self._items_a_batch = batch_size // rows_per_item
        self._grouping = order.get("grouping", "shuffled")
        self._groups = _numbered(ids, order.get("groups", {}), self._grouping, self._items_a_batch)
        self._order = lru_cache(maxsize=4)(self._permutation)
        self._epoch = len(self._order(0))

    @abstractmethod
    def batch(self, step: int) -> B:
        """Return this rank's part of the batch of a step."""

    @property
    def numbers(self) -> int:
        """How many numbers ``item`` of a batch takes, from 0 on: the same in every process and after a resume."""
        return self.count

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which every item is seen once; a fraction where the batch does not divide the items."""
        return self._epoch * self.rows_per_item / self.batch_size

    @property
    def doubts(self) -> list[str]:
        """What groups leave out or cannot keep, in sentences."""
        if self._grouping == "one_group" and self._epoch < self.count:
            return [
                f"{self.count - self._epoch} of {self.count} items are in no batch of an epoch: a batch holds "
                f"{self._items_a_batch} of one group, and groups are no multiples of that (others in each epoch; "
                "groups smaller than a batch never)"
            ]
        share = batches_without_repeats(self._order(0), self._groups, self._items_a_batch) if self.grouped else 1.0
        if self._grouping == "one_per_group" and share < 1.0:
            return [f"{1 - share:.0%} of the batches hold a group twice: groups differ in size (data.groups)"]
        return []

    @property
    def grouped(self) -> bool:
        """Whether batches follow groups."""
        return self._grouping != "shuffled"

    def items(self, step: int) -> tuple[int, ...]:
        """Return the items of this rank's part of a step's batch, each once."""
        places = [divmod(step * self._items_a_batch + place, self._epoch) for place in self._places]
        return tuple(int(self._order(epoch)[place]) for epoch, place in places)

    def batches(self, start_step: int, stop_step: int) -> Iterator[B]:
        """Yield the batches of steps ``start_step`` to ``stop_step - 1``, read ahead by ``threads`` threads.

        Closing the iterator, an error in it or in its consumer, and an interrupt all stop the threads.
        ``wait_seconds`` grows by the time that the consumer waited.
        """
        if self.threads == 0:
            for step in range(start_step, stop_step):
                began = time.perf_counter()
                batch = self._ready(step)
                self.wait_seconds += time.perf_counter() - began
                yield batch
            return
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="medssl-loader")
        ahead: deque[Future[B]] = deque()
        steps = iter(range(start_step, stop_step))
        try:
            for step in steps:
                ahead.append(pool.submit(self._ready, step))
                if len(ahead) > self.threads:
                    break
            while ahead:
                began = time.perf_counter()
                batch = ahead.popleft().result()
                self.wait_seconds += time.perf_counter() - began
                following = next(steps, None)
                if following is not None:
                    ahead.append(pool.submit(self._ready, following))
                yield batch
        finally:
            pool.shutdown(wait=True, cancel_futures=True)  # what runs ends within one batch

    def _ready(self, step: int) -> B:
        batch = self.batch(step)
        return batch.pinned() if self._pin else batch

    def _permutation(self, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        generator = numpy_generator(self.seed, epoch, 0, _ORDER)
        found = generator.permutation(self.count)  # drawn first, so that one group is in the order of none
        if not self.grouped:
            return found
        turns = generator.permutation(int(self._groups.max()) + 1)
        if self._grouping == "one_per_group":
            return one_of_each_group(found, self._groups, turns)
        return in_batches_of_one_group(found, self._groups, turns, self._items_a_batch)


def read_groups(path: str | Path) -> dict[str, str]:
    """Return the group of each scan or cloud that a table names.

    Raises:
        DataError: It cannot be read, lacks a column, or names one twice in two groups.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            rows = list(rows_of_csv(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: the table of groups cannot be read ({error}).") from error
    found: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        name, group = row.get("scan"), row.get("group")
        if not name or not group:
            raise DataError(
                f"{path}: a table of groups has the columns scan and group, and both in each row. Row {number} has "
                f"{row}."
            )
        if found.setdefault(name, group) != group:
            raise DataError(
                f"{path}: {name!r} is in the groups {found[name]!r} and {group!r} (row {number}). Keep one."
            )
    return found


def _numbered(ids: Sequence[str], groups: Mapping[str, str], grouping: Grouping, batch: int) -> Numbers:
    """Return the group of each item as a number.

    Raises:
        ConfigError: The order is unknown, or there are too few groups, or all are too small for a batch.
        DataError: An item has no group.
    """
    if grouping not in get_args(Grouping):
        raise ConfigError(f"data.order must be one of {list(get_args(Grouping))}. Got {grouping!r}.")
    if grouping == "shuffled":
        return np.zeros(0, dtype=np.int64)
    bare = [name for name in ids if name not in groups]
    if bare:
        raise DataError(
            f"{len(bare)} of {len(set(ids))} items that are trained on have no group in data.groups, such as "
            f"{bare[0]!r}. Name them there, or train on others (data.splits)."
        )
    found = np.array(group_numbers(groups[name] for name in ids), dtype=np.int64)
    sizes = np.bincount(found)
    if grouping == "one_per_group" and len(sizes) < batch:
        raise ConfigError(
            f"data.order=one_per_group: a batch of {batch} needs as many groups, and data.groups has {len(sizes)}. "
            "Take more groups or a smaller train.batch_size."
        )
    if grouping == "one_group" and sizes.max() < batch:
        raise ConfigError(
            f"data.order=one_group: no group fills a batch of {batch}; the largest of {len(sizes)} has {sizes.max()}. "
            "Take fewer groups or a smaller train.batch_size."
        )
    return found


def group_numbers(keys: Iterable[Hashable]) -> tuple[int, ...]:
    """Return a number for each key, in the order in which they come; equal keys share theirs.

    Example:
        >>> group_numbers(["b", "a", "b"])
        (0, 1, 0)
    """
    numbers: dict[Hashable, int] = {}
    return tuple(numbers.setdefault(key, len(numbers)) for key in keys)


def patient_numbers(store: ListedStore[Any, Any]) -> tuple[int, ...]:
    """Return a number for each item that items of one patient share; an item without a patient has its own."""
    both = zip(store.field("patient"), store.field("id"), strict=True)
    return group_numbers(("patient", patient) if patient else (store.noun, item) for patient, item in both)
