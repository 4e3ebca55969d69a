"""From a trained network to logits of clouds, or to a part for every point of the store's clouds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from medssl.evaluation.class_logits import ClassLogits
from medssl.randomness import Stream, numpy_generator
from medssl.step_loader import patient_numbers
from pointcloud.loading import gather_clouds
from pointcloud.store import CloudStore
from pointcloud.tasks.classification import CloudClassificationTask
from pointcloud.tasks.contract import places_of
from pointcloud.tasks.segmentation import PartSegmentationTask
from pointcloud.views.spatial import apply_spatial, sample_spatial

__all__ = ["draw_key", "likeliest_parts", "part_logits", "predict_cloud_classes", "predict_parts"]

_POINTS, _ORDER = 3, 4  # counters that keep these draws apart from others of the seed


@torch.no_grad()
def predict_cloud_classes(
    task: CloudClassificationTask,
    store: CloudStore,
    *,
    device: torch.device | str,
    progress: Callable[[int], None] = lambda _: None,
) -> ClassLogits:
    """Return logits of every cloud, the mean over ``votes``; the first vote is not augmented.

    Clouds go through the network one by one, and what is drawn of one hangs on its points alone: its logits are the
    same bits in any company.

    Args:
        task: The classifier.
        store: What to predict; classes may be unknown.
        device: Where it runs.
        progress: Told how many clouds are done.
    """
    task = task.to(device)
    votes, patients = task.settings.votes, patient_numbers(store)
    total = np.zeros((len(store), len(task.classes)))
    with _evaluating(task):
        for row in range(len(store)):
            key = draw_key(store, row)
            for vote in range(votes):
                generators = [numpy_generator(vote, key, 0, _POINTS)]
                batch = gather_clouds(store, task.plan, [row], generators, [row], patients).to(device)
                points, count = task.augmented(batch, Stream(vote, 0, [key]), always=vote > 0)
                total[row] += task.network(points, count)[0].double().cpu().numpy()
            progress(1)
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


def predict_parts(
    task: PartSegmentationTask,
    store: CloudStore,
    row: int,
    *,
    batch_size: int,
    device: torch.device | str,
) -> npt.NDArray[np.int32]:
    """Return the part of every point of a cloud, int32 (N,), by number; see `part_logits`."""
    return likeliest_parts(task, part_logits(task, store, row, batch_size=batch_size, device=device))


def likeliest_parts(task: PartSegmentationTask, scores: Tensor) -> npt.NDArray[np.int32]:
    """Return the number of the part that scores highest of every point, int32 (N,), of scores (N, parts)."""
    numbers = np.array(list(task.parts), dtype=np.int32)
    chosen: npt.NDArray[np.int32] = numbers[scores.argmax(dim=1).numpy()]
    return chosen


@torch.no_grad()
def part_logits(
    task: PartSegmentationTask,
    store: CloudStore,
    row: int,
    *,
    batch_size: int,
    device: torch.device | str,
) -> Tensor:
    """Return the mean logits of every point's parts, float64 (N, parts); -inf where the cloud's class has no such part.

    A cloud with more points than the network sees at once is dealt out evenly into as few draws as hold all of it; the
    deal hangs on its points alone.

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
    key = draw_key(store, row)
    with _evaluating(task):
        for vote in range(task.settings.votes):
            order = numpy_generator(vote, key, 0, _ORDER).permutation(len(points))
            draws = np.array_split(order, -(-len(points) // task.settings.points))
            for first in range(0, len(draws), batch_size):
                some = draws[first : first + batch_size]
                found = task.logits(*_stacked(task, points, some, vote, key, device), kind.expand(len(some)))
                for rows, logits in zip(some, found, strict=True):
                    total[rows] += logits[: len(rows)].double().cpu()
    total /= task.settings.votes
    total[:, ~task.allowed(kind)[0].cpu()] = -torch.inf
    return total


def draw_key(store: CloudStore, row: int) -> int:
    """Return a number that hangs on a cloud's points alone, by which its draws are named: not its place in a store."""
    points = np.ascontiguousarray(store.points(row))
    return int.from_bytes(hashlib.sha256(points.tobytes()).digest()[:7], "big")


def _stacked(
    task: PartSegmentationTask,
    points: Tensor,
    draws: list[npt.NDArray[np.int64]],
    vote: int,
    key: int,
    device: torch.device | str,
) -> tuple[Tensor, Tensor]:
    """Return draws of one cloud as a padded batch; of votes after the first augmented, all of a cloud alike."""
    count = torch.tensor([len(rows) for rows in draws])
    batch = torch.zeros(len(draws), int(count.max()), 3)
    for place, rows in enumerate(draws):
        batch[place, : len(rows)] = points[rows]
    if vote:
        spatial = sample_spatial(
            task.settings.spatial, Stream(vote, key, [0] * len(draws)), length=task.settings.points
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
