"""From a trained network to logits of clouds, or to a part for every point of the store's clouds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from medssl.evaluation.class_logits import ClassLogits
from medssl.randomness import Stream, numpy_generator
from pointcloud.loading import each_cloud
from pointcloud.store import CloudStore
from pointcloud.tasks.classification import CloudClassificationTask
from pointcloud.tasks.contract import places_of
from pointcloud.tasks.segmentation import PartSegmentationTask
from pointcloud.views.spatial import apply_spatial, sample_spatial

__all__ = ["predict_cloud_classes", "predict_parts"]

_ORDER = 4  # counter that keeps these draws apart from others of the seed


@torch.no_grad()
def predict_cloud_classes(
    task: CloudClassificationTask,
    store: CloudStore,
    *,
    batch_size: int,
    device: torch.device | str,
    progress: Callable[[int], None] = lambda _: None,
) -> ClassLogits:
    """Return logits of every cloud, the mean over ``votes``; the first vote is not augmented.

    Args:
        task: The classifier.
        store: What to predict; classes may be unknown.
        batch_size: Clouds that go through the network at once.
        device: Where it runs.
        progress: Told how many clouds are done after each batch, once for all votes.
    """
    task = task.to(device)
    votes = task.settings.votes
    total = np.zeros((len(store), len(task.classes)))
    with _evaluating(task):
        for vote in range(votes):
            for batch in each_cloud(store, task.plan, batch_size, vote):
                there = batch.to(device)
                stream = Stream(vote, 0, batch.slot.tolist())
                points, count = task.augmented(there, stream, always=vote > 0)
                total[batch.item.numpy()] += task.network(points, count).double().cpu().numpy()
                if vote == votes - 1:
                    progress(len(batch))
    entries = store.entries
    labels = torch.tensor([-1 if e.label is None else e.label for e in entries])
    return ClassLogits(
        ids=tuple(e.id for e in entries),
        patients=tuple(e.patient or e.id for e in entries),
        splits=tuple(e.split for e in entries),
        slices=(-1,) * len(entries),
        attended=(-1,) * len(entries),
        truth=places_of(labels, tuple(task.classes)).numpy(),
        logits=total / votes,
    )


@torch.no_grad()
def predict_parts(
    task: PartSegmentationTask,
    store: CloudStore,
    row: int,
    *,
    batch_size: int,
    device: torch.device | str,
) -> npt.NDArray[np.int32]:
    """Return the part of every point of a cloud, int32 (N,), by number.

    A cloud with more points than the network sees at once is dealt out evenly into as few draws as hold all of it.

    Args:
        task: The segmenter, on its device.
        store: The clouds.
        row: Which.
        batch_size: Draws that go through the network at once.
        device: Where it runs.
    """
    entry = store.entries[row]
    placed = (store.points(row).astype(np.float64) - np.array(entry.centre)) / entry.radius
    points = torch.from_numpy(placed.astype(np.float32))
    label = torch.tensor([-1 if entry.label is None else entry.label])
    kind = places_of(label, tuple(task.classes)).to(device)
    total = torch.zeros(len(points), len(task.parts), dtype=torch.float64)
    with _evaluating(task):
        for vote in range(task.settings.votes):
            order = numpy_generator(vote, row, 0, _ORDER).permutation(len(points))
            draws = np.array_split(order, -(-len(points) // task.settings.points))
            for first in range(0, len(draws), batch_size):
                some = draws[first : first + batch_size]
                found = task.logits(*_stacked(task, points, some, vote, row, device), kind.expand(len(some)))
                for rows, logits in zip(some, found, strict=True):
                    total[rows] += logits[: len(rows)].double().cpu()
    total[:, ~task.allowed(kind)[0].cpu()] = -torch.inf
    numbers = np.array(list(task.parts), dtype=np.int32)
    chosen: npt.NDArray[np.int32] = numbers[total.argmax(dim=1).numpy()]
    return chosen


def _stacked(
    task: PartSegmentationTask,
    points: Tensor,
    draws: list[npt.NDArray[np.int64]],
    vote: int,
    row: int,
    device: torch.device | str,
) -> tuple[Tensor, Tensor]:
    """Return draws of one cloud as a padded batch; of votes after the first augmented, all of a cloud alike."""
    count = torch.tensor([len(rows) for rows in draws])
    batch = torch.zeros(len(draws), int(count.max()), 3)
    for place, rows in enumerate(draws):
        batch[place, : len(rows)] = points[rows]
    if vote:
        spatial = sample_spatial(
            task.settings.spatial, Stream(vote, row, [0] * len(draws)), length=task.settings.points
        )
        batch, count = apply_spatial(batch, count, spatial)
    return batch.to(device), count.to(device)


@contextmanager
def _evaluating(task: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in task.modules()}
    task.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
