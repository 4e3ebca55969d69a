"""Clouds of a store as batches, in an order and of points that are a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Unpack

import numpy as np
import torch
from torch import Tensor

from medssl.errors import ConfigError, DataError
from medssl.randomness import numpy_generator
from medssl.step_loader import Order, StepLoader, patient_numbers
from pointcloud.batch import CloudBatch, CloudPlan
from pointcloud.point_draws import id_key
from pointcloud.store import CloudStore

__all__ = ["CloudLoader", "each_cloud", "gather_clouds", "held_out_clouds"]

# A fourth counter, never 0, keeps these draws apart from those of the views, which use (seed, step, slot).
_POINTS, _HELD_OUT = 1, 3  # 2 is the order's


class CloudLoader(StepLoader[CloudBatch]):
    """Batches of clouds for a training run.

    Args:
        store: The clouds.
        plan: Which points to take of each.
        order: See `Order`; a row of the batch is a cloud.

    Raises:
        DataError: The store is empty, or the plan asks for labels that a cloud does not have.
        ConfigError: A number is out of range.
    """

    def __init__(
        self,
        store: CloudStore,
        plan: CloudPlan,
        **order: Unpack[Order],
    ) -> None:
        _check(store, plan)
        super().__init__(len(store), **order)
        self.store, self.plan = store, plan
        self._patients = patient_numbers(store)

    def batch(self, step: int) -> CloudBatch:
        """Return this rank's part of the batch of a step."""
        items = self.items(step)
        generators = [numpy_generator(self.seed, step, slot, _POINTS) for slot in self.slots]
        return gather_clouds(self.store, self.plan, items, generators, self.slots, self._patients)


def held_out_clouds(store: CloudStore, plan: CloudPlan, batch_size: int, seed: int) -> list[CloudBatch]:
    """Return the batches of ``each_cloud`` at once, for whoever goes through them again and again."""
    return list(each_cloud(store, plan, batch_size, seed))


def each_cloud(
    store: CloudStore, plan: CloudPlan, batch_size: int, seed: int, *, draw: int = 0
) -> Iterator[CloudBatch]:
    """Yield every cloud once, the same points of it at every call, in batches of nearly equal size.

    Points are drawn by a cloud's id, so that they are the same whatever lies beside it in the store or the subset.

    Args:
        store: The clouds.
        plan: Which points to take of each.
        batch_size: Largest number of clouds in a batch.
        seed: Decides which points.
        draw: Which of several draws of each cloud's points.

    Raises:
        DataError: The store is empty, or the plan asks for labels that a cloud does not have.
    """
    _check(store, plan)
    if batch_size < 1:
        raise ConfigError(f"batch_size must be 1 or more. Got {batch_size}.")
    patients = patient_numbers(store)
    for part in np.array_split(np.arange(len(store)), -(-len(store) // batch_size)):
        items = [int(item) for item in part]
        generators = [numpy_generator(seed, id_key(store.entries[item].id), draw, _HELD_OUT) for item in items]
        yield gather_clouds(store, plan, items, generators, items, patients)


def gather_clouds(
    store: CloudStore,
    plan: CloudPlan,
    items: Sequence[int],
    generators: Sequence[np.random.Generator],
    slots: Sequence[int],
    patients: Sequence[int],
) -> CloudBatch:
    """Read clouds into a batch.

    Args:
        store: The clouds.
        plan: Which points to take of each.
        items: Rows of the store.
        generators: One for each item; decides its points.
        slots: The items' places in the global batch.
        patients: A number for each cloud of the store, as from ``patient_numbers``.
    """
    entries = [store.entries[item] for item in items]
    counts = [e.points if plan.points is None else min(e.points, plan.points) for e in entries]
    points = np.zeros((len(items), max(counts), 3), dtype=np.float32)
    labels = np.full((len(items), max(counts)), -1, dtype=np.int64) if plan.labels else None
    for row, (item, count, generator) in enumerate(zip(items, counts, generators, strict=True)):
        chosen: slice | np.ndarray = slice(None)
        if count < entries[row].points:
            # In the order of the file: reading runs forwards, and the order of points means nothing to a method.
            chosen = np.sort(generator.choice(entries[row].points, count, replace=False, shuffle=False))
        points[row, :count] = store.points(item)[chosen]
        if labels is not None:
            labels[row, :count] = store.labels(item)[chosen]
    return CloudBatch(
        points=torch.from_numpy(points),
        count=_whole_numbers(counts),
        centre=torch.tensor([e.centre for e in entries], dtype=torch.float32),
        radius=torch.tensor([e.radius for e in entries], dtype=torch.float32),
        label=_whole_numbers([-1 if e.label is None else e.label for e in entries]),
        labels=None if labels is None else torch.from_numpy(labels),
        item=_whole_numbers(items),
        patient=_whole_numbers([patients[item] for item in items]),
        slot=_whole_numbers(slots),
    )


def _whole_numbers(values: Sequence[int]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.int64)


def _check(store: CloudStore, plan: CloudPlan) -> None:
    if plan.points is not None and plan.points < 2:
        raise ConfigError(f"A cloud needs two points or more. Got points={plan.points}.")
    if len(store) == 0:
        raise DataError(f"{store.folder}: there is no cloud in it. Check the manifest and its splits.")
    bare = [entry.id for entry in store.entries if entry.label_file is None] if plan.labels else []
    if bare:
        shown = ", ".join(bare[:5]) + (", ..." if len(bare) > 5 else "")
        raise DataError(
            f"{store.folder}: labels of points were asked for, but {len(bare)} of {len(store)} clouds have none "
            f"({shown}). Leave these out."
        )
