"""From a trained classifier to one row of logits a scan, or a slice."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from medssl.evaluation.class_logits import ClassLogits
from medssl.normalising import check_takes
from medssl.tasks.class_loading import Reader
from medssl.tasks.class_samples import Samples
from medssl.tasks.classification import ClassificationTask

__all__ = ["predict_classes"]


@torch.no_grad()
def predict_classes(
    task: ClassificationTask,
    samples: Samples,
    *,
    batch_size: int,
    device: torch.device | str,
    progress: Callable[[int], None] = lambda _: None,
) -> ClassLogits:
    """Return logits of every scan or slice.

    Nothing is augmented. A batch holds samples of one scan: its logits are the same bits in any company. A set is
    looked at whole, up to ``set_limit`` slices of it. Slices whose class is their scan's are joined: the scan's logits
    are the mean of theirs.

    Args:
        task: The classifier.
        samples: What to predict; classes may be unknown.
        batch_size: Most samples that go through the network at once.
        device: Where it runs.
        progress: Told how many samples are done after each batch.
    """
    task = task.to(device)
    modes = {module: module.training for module in task.modules()}
    task.eval()
    for entry in samples.store.entries[:1]:
        check_takes(task.encoder, entry.schemes)
    reader = Reader(samples, task.settings)
    logits = np.zeros((len(samples), len(samples.classes)))
    attended = np.full(len(samples), -1)
    for rows in _batches(samples, 1 if task.settings.level == "set" else batch_size):
        batch = reader.batch(rows, rows, instances=reader.instances_of(rows[0]))
        per_item = batch.values.shape[1]
        images = batch.to(device).network_input().flatten(0, 1)
        found, weights = task.network.explained(images.contiguous(memory_format=torch.channels_last_3d), per_item)
        logits[rows] = found.double().cpu().numpy()
        if task.settings.level == "set":
            best = int(weights[0].argmax())
            (low, _, _), (high, _, _) = samples.store.entries[int(samples.item[rows[0]])].body_box
            attended[rows[0]] = low + int((best + 0.5) * (high - low) / per_item)
        progress(len(rows))
    for module, mode in modes.items():
        module.training = mode
    return _joined(samples, logits, attended, by_scan=task.settings.level == "slice" and task.settings.shows is None)


def _batches(samples: Samples, size: int) -> list[list[int]]:
    """Return rows in batches of one scan each: what is said of a scan does not depend on which others are asked."""
    starts = [0, *(np.flatnonzero(np.diff(samples.item)) + 1).tolist(), len(samples)]
    return [
        list(range(first, min(first + size, end)))
        for start, end in pairwise(starts)
        for first in range(start, end, size)
    ]


def _joined(
    samples: Samples, logits: npt.NDArray[np.float64], attended: npt.NDArray[np.int64], *, by_scan: bool
) -> ClassLogits:
    entries = samples.store.entries
    if by_scan:
        groups = [np.flatnonzero(samples.item == item) for item in np.unique(samples.item)]
    else:
        groups = [np.array([row]) for row in range(len(samples))]
    first = [int(group[0]) for group in groups]
    owners = [entries[int(samples.item[row])] for row in first]
    return ClassLogits(
        ids=tuple(e.id for e in owners),
        patients=tuple(e.patient or e.id for e in owners),
        splits=tuple(e.split for e in owners),
        slices=tuple(-1 if by_scan else int(samples.place[row]) for row in first),
        attended=tuple(int(attended[row]) for row in first),
        truth=samples.target[first],
        logits=np.stack([logits[group].mean(axis=0) for group in groups]) if groups else np.zeros((0, logits.shape[1])),
    )
