"""Windows of a store as batches, in an order and at places that are a pure function of (seed, step).

Sample ``g = step * batch_size + slot`` of a run is place ``g mod n`` of the permutation of epoch ``g div n``, so every
scan is seen once an epoch, epochs shorter than a batch work, and neither threads, ranks nor a resume change anything.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from medssl.errors import ConfigError, DataError
from medssl.randomness import numpy_generator
from medssl.store.read import Store
from medssl.windows import WindowBatch, WindowPlan

__all__ = ["WindowLoader", "held_out_batches", "patient_numbers", "place_window"]

Triple = tuple[int, int, int]
# A fourth counter, never 0, keeps these draws apart from those of the views, which use (seed, step, slot).
_ORIGINS, _ORDER, _HELD_OUT = 1, 2, 3
_PLACEMENTS = ("body", "anywhere", "foreground")


class WindowLoader:
    """Batches of windows for a training run.

    Args:
        store: The scans.
        plan: Which windows to take.
        batch_size: Windows in the global batch, over all ranks.
        seed: The run's seed.
        rank: This process; it takes slots ``rank``, ``rank + world_size``, ...
        world_size: Number of processes.
        threads: Threads that read ahead; 0 reads in the caller's thread.
        pin: Whether to put batches in page-locked memory (where CUDA is present).

    Raises:
        DataError: The store is empty, or the plan asks for labels that a scan does not have.
        ConfigError: A number is out of range.
    """

    def __init__(
        self,
        store: Store,
        plan: WindowPlan,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        threads: int = 1,
        pin: bool = False,
    ) -> None:
        _check(store, plan, batch_size)
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank must be in [0, {world_size}). Got {rank}.")
        if batch_size < world_size:
            raise ConfigError(
                f"batch_size is the global batch and must be at least the number of processes, {world_size}. "
                f"Got {batch_size}."
            )
        if threads < 0:
            raise ConfigError(f"threads must be 0 or more. Got {threads}.")
        self.store, self.plan, self.batch_size, self.seed = store, plan, batch_size, seed
        self.threads = threads
        self.slots = tuple(range(rank, batch_size, world_size))
        self.wait_seconds = 0.0
        self._pin = pin and torch.cuda.is_available()
        self._patients = patient_numbers(store)
        self._order = lru_cache(maxsize=4)(self._permutation)

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which every scan is seen once; a fraction where the batch does not divide the scans."""
        return len(self.store) / self.batch_size

    def items(self, step: int) -> tuple[int, ...]:
        """Return the scans of this rank's part of a step's batch."""
        count = len(self.store)
        places = [divmod(step * self.batch_size + slot, count) for slot in self.slots]
        return tuple(int(self._order(epoch)[place]) for epoch, place in places)

    def batch(self, step: int) -> WindowBatch:
        """Return this rank's part of the batch of a step."""
        items = self.items(step)
        origins = [
            place_window(self.store, item, self.plan, numpy_generator(self.seed, step, slot, _ORIGINS))
            for item, slot in zip(items, self.slots, strict=True)
        ]
        return _gather(self.store, self.plan, items, origins, self.slots, self._patients)

    def batches(self, start_step: int, stop_step: int) -> Iterator[WindowBatch]:
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
        ahead: deque[Future[WindowBatch]] = deque()
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

    def _ready(self, step: int) -> WindowBatch:
        batch = self.batch(step)
        return batch.pinned() if self._pin else batch

    def _permutation(self, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return numpy_generator(self.seed, epoch, 0, _ORDER).permutation(len(self.store))


def held_out_batches(store: Store, plan: WindowPlan, batch_size: int, seed: int) -> list[WindowBatch]:
    """Return one window of every scan, the same at every call, in batches of nearly equal size.

    Args:
        store: The held-out scans.
        plan: Which windows to take.
        batch_size: Largest number of windows in a batch.
        seed: Decides where the windows lie.

    Raises:
        DataError: The store is empty, or the plan asks for labels that a scan does not have.
    """
    _check(store, plan, batch_size)
    patients = patient_numbers(store)
    parts = np.array_split(np.arange(len(store)), -(-len(store) // batch_size))
    batches = []
    for part in parts:
        items = [int(item) for item in part]
        origins = [place_window(store, item, plan, numpy_generator(seed, item, 0, _HELD_OUT)) for item in items]
        batches.append(_gather(store, plan, items, origins, items, patients))
    return batches


def patient_numbers(store: Store) -> tuple[int, ...]:
    """Return a number for each scan that scans of one patient share; a scan without a patient has its own."""
    numbers: dict[tuple[str, str], int] = {}
    return tuple(
        numbers.setdefault(("patient", e.patient) if e.patient else ("scan", e.id), len(numbers)) for e in store.entries
    )


def place_window(store: Store, item: int, plan: WindowPlan, generator: np.random.Generator) -> Triple:
    """Draw the first voxel (z, y, x) of a window of a scan.

    The window stays inside the scan wherever the scan is large enough, and is centred on it where it is not.

    Args:
        store: The scans.
        item: The scan.
        plan: Size and placement.
        generator: The window's own stream.
    """
    entry = store.entries[item]
    (low, high), size = entry.body_box, plan.size
    if plan.placement != "body":
        low, high = (0, 0, 0), entry.shape
    if plan.placement == "foreground" and generator.random() < plan.foreground_share:
        structures = store.foreground(item)
        if structures:
            points = structures[sorted(structures)[int(generator.integers(len(structures)))]]
            z, y, x = (int(v) for v in points[int(generator.integers(len(points)))])
            low, high = (z, y, x), (z + 1, y + 1, x + 1)
    origin = []
    for first, last, extent, wanted in zip(low, high, entry.shape, size, strict=True):
        room = (last - first) - wanted
        place = first + int(generator.integers(room + 1)) if room >= 0 else first + room // 2
        spare = extent - wanted
        origin.append(min(max(place, 0), spare) if spare >= 0 else spare // 2)
    return origin[0], origin[1], origin[2]


def _gather(
    store: Store,
    plan: WindowPlan,
    items: Sequence[int],
    origins: Sequence[Triple],
    slots: Sequence[int],
    patients: Sequence[int],
) -> WindowBatch:
    values = np.empty((len(items), 1, *plan.size), dtype=np.int16)
    labels = np.empty((len(items), *plan.size), dtype=np.int16) if plan.labels else None
    for row, (item, origin) in enumerate(zip(items, origins, strict=True)):
        values[row, 0] = store.window(item, origin, plan.size)
        if labels is not None:
            labels[row] = store.label_window(item, origin, plan.size)
    entries = [store.entries[item] for item in items]
    return WindowBatch(
        values=torch.from_numpy(values),
        origin=_whole_numbers(origins),
        extent=_whole_numbers([e.shape for e in entries]),
        body_box=torch.tensor([e.body_box for e in entries], dtype=torch.float32),
        spacing_mm=torch.tensor([e.spacing_mm for e in entries], dtype=torch.float32),
        scale=torch.tensor([e.scale for e in entries], dtype=torch.float32),
        item=_whole_numbers(items),
        patient=_whole_numbers([patients[item] for item in items]),
        slot=_whole_numbers(slots),
        labels=None if labels is None else torch.from_numpy(labels),
    )


def _whole_numbers(values: Sequence[int] | Sequence[Triple]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.int64)


def _check(store: Store, plan: WindowPlan, batch_size: int) -> None:
    if batch_size < 1:
        raise ConfigError(f"batch_size must be 1 or more. Got {batch_size}.")
    if plan.placement not in _PLACEMENTS:
        raise ConfigError(f"placement must be one of {', '.join(_PLACEMENTS)}. Got {plan.placement!r}.")
    if min(plan.size) < 1:
        raise ConfigError(f"The window must have at least one voxel on each axis. Got {plan.size}.")
    if len(store) == 0:
        raise DataError(f"{store.folder}: there is no scan to take windows from. Check the manifest and its splits.")
    if plan.labels or plan.placement == "foreground":
        bare = [entry.id for entry in store.entries if entry.label_file is None]
        if bare:
            shown = ", ".join(bare[:5]) + (", ..." if len(bare) > 5 else "")
            raise DataError(
                f"{store.folder}: labels were asked for, but {len(bare)} of {len(store)} scans have none ({shown}). "
                "Leave these out, or name their labels in the manifest and run `medssl cache` again."
            )
