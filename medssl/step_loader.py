"""Batches in an order that is a pure function of (seed, step), read ahead by threads.

Shuffled, sample ``g = step * batch_size + slot`` of a run is place ``g mod n`` of the permutation of epoch ``g div n``,
so every item is seen once an epoch and epochs shorter than a batch work; `medssl.item_orders` has orders by groups too.
Neither threads, ranks nor a resume change anything. Where an item has several rows, the
sample is the item, and a rank takes all its rows.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, Required, TypedDict, TypeVar, Unpack

import torch

from medssl.batch import Batch, Ordering
from medssl.errors import ConfigError
from medssl.item_orders import order_of_items
from medssl.listings import ListedStore

__all__ = ["Grouping", "Order", "StepLoader", "group_numbers", "order_of", "patient_numbers"]

B = TypeVar("B", bound=Batch)


class Grouping(TypedDict, total=False):
    """In which order items are taken; shuffled if nothing is given.

    Attributes:
        ordering: See `medssl.item_orders`.
        groups: A group number for each item, from 0 on; for orders by groups.
    """

    ordering: Ordering
    groups: Sequence[int]


class Order(Grouping, total=False):
    """In what order every loader goes through its items, and who reads them.

    Attributes:
        batch_size: Rows in the global batch, over all ranks; a multiple of the rows that an item has.
        seed: The run's seed.
        rank: This process; it takes items ``rank``, ``rank + world_size``, ... of the batch. 0 if not given.
        world_size: Number of processes; 1 if not given.
        threads: Threads that read ahead; 0 reads in the caller's thread. 1 if not given.
        pin: Whether to put batches in page-locked memory (where CUDA is present). False if not given.
    """

    batch_size: Required[int]
    seed: Required[int]
    rank: int
    world_size: int
    threads: int
    pin: bool


def order_of(train: Any, *, rank: int, world_size: int, pin: bool) -> Order:
    """Return the order that settings of training name, for one process."""
    return Order(
        batch_size=train.batch_size, seed=train.seed, threads=train.threads, rank=rank, world_size=world_size, pin=pin
    )


class StepLoader(ABC, Generic[B]):
    """Which items each step takes, on which rank; a subclass says what an item's row of the batch holds.

    Args:
        count: Items that there are, at least 1.
        rows_per_item: Rows that each item has in a batch.
        order: See `Order`.

    Raises:
        ConfigError: A number is out of range.
    """

    def __init__(
        self,
        count: int,
        *,
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
        self._order = order_of_items(
            order.get("ordering", "shuffled"), count, order.get("groups"), batch_size // rows_per_item, seed
        )

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
        return self._order.steps_per_epoch

    def items(self, step: int) -> tuple[int, ...]:
        """Return the items of this rank's part of a step's batch, each once."""
        return self._order.items(step, self._places)

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
