"""Windows of a store as batches, in an order and at places that are a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medssl.errors import ConfigError, DataError
from medssl.randomness import numpy_generator
from medssl.step_loader import StepLoader, group_numbers
from medssl.store.read import Store
from medssl.windows import WindowBatch, WindowPlan

__all__ = ["WindowLoader", "held_out_batches", "patient_numbers", "place_window"]

Triple = tuple[int, int, int]
# A fourth counter, never 0, keeps these draws apart from those of the views, which use (seed, step, slot).
_ORIGINS, _HELD_OUT = 1, 3  # 2 is the order's
_PLACEMENTS = ("body", "anywhere", "foreground")


class WindowLoader(StepLoader[WindowBatch]):
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
        _check(store, plan)
        super().__init__(
            len(store), batch_size=batch_size, seed=seed, rank=rank, world_size=world_size, threads=threads, pin=pin
        )
        self.store, self.plan = store, plan
        self._patients = patient_numbers(store)

    def batch(self, step: int) -> WindowBatch:
        """Return this rank's part of the batch of a step."""
        items = self.items(step)
        origins = [
            place_window(self.store, item, self.plan, numpy_generator(self.seed, step, slot, _ORIGINS))
            for item, slot in zip(items, self.slots, strict=True)
        ]
        return _gather(self.store, self.plan, items, origins, self.slots, self._patients)


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
    _check(store, plan)
    if batch_size < 1:
        raise ConfigError(f"batch_size must be 1 or more. Got {batch_size}.")
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
    return group_numbers(("patient", e.patient) if e.patient else ("scan", e.id) for e in store.entries)


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


def _check(store: Store, plan: WindowPlan) -> None:
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
