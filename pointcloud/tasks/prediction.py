"""Predicting with networks of clouds: a class for each cloud, or a part for each point of its file."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from medssl.domains.predictors import ClassPredictor, MapPredictor
from medssl.engine.card import load_card
from medssl.errors import ConfigError
from medssl.evaluation.calibration import Decision, mean_decision, probabilities, read_decision
from medssl.pool import isolated
from medssl.prediction import Prediction, Target, Written
from pointcloud.formats.ply_write import write_ply
from pointcloud.formats.reading import read
from pointcloud.store import CloudStore
from pointcloud.tasks.classification import CloudClassificationTask
from pointcloud.tasks.contract import CloudTask
from pointcloud.tasks.inference import likeliest_parts, part_logits, predict_cloud_classes
from pointcloud.tasks.loading import load_cloud_task
from pointcloud.tasks.segmentation import PartSegmentationTask

__all__ = [
    "CloudClassPredictor",
    "CloudClassifying",
    "PartPredictor",
    "PartsFound",
    "cloud_classifiers_of",
    "part_segmenters_of",
]

Values = npt.NDArray[np.float64]
_UNKNOWN = -1  # the part of a row of the file that is no point


@dataclass(frozen=True)
class CloudClassifying:
    """A trained classifier, and the temperature and threshold that its run chose."""

    task: CloudClassificationTask
    decision: Decision


class CloudClassPredictor(ClassPredictor):
    """One classifier of clouds, or the mean of the calibrated probabilities of several.

    See `medssl.prediction.Predictor`.

    Args:
        members: The classifiers; moved to ``device``.
        device: Where to compute.

    Raises:
        ConfigError: They do not distinguish the same classes.
    """

    whole = False  # as many points of a cloud as the training store kept

    def __init__(self, members: Sequence[CloudClassifying], device: torch.device | str) -> None:
        if len({one.task.class_names for one in members}) > 1:
            raise ConfigError("The runs distinguish different classes, and their mean has no meaning. Take like runs.")
        self._members, self._device = tuple(members), device
        self.classes = members[0].task.classes
        self.class_names = members[0].task.class_names
        self.decision = mean_decision([one.decision for one in members])
        for one in members:
            one.task.to(device).eval()

    @property
    def key(self) -> str:
        """Hash of weights, settings and decisions."""
        return _key([one.task for one in self._members], [asdict(one.decision) for one in self._members])

    def predict(self, store: CloudStore, row: int) -> Values:
        """Return the probabilities of a cloud's classes, (classes,)."""
        alone = store.subset([store.entries[row].id])
        each = [
            probabilities(predict_cloud_classes(one.task, alone, device=self._device).logits, one.decision.temperature)[
                0
            ]
            for one in self._members
        ]
        found: Values = each[0] if len(each) == 1 else np.mean(each, axis=0)
        return found

    def shown(self, found: Values, entry: Any) -> Prediction:
        """Return the class and its probabilities."""
        chosen = self.class_names[int(self.decision.predicted(found[None])[0])]
        shares = dict(zip(self.class_names, found.tolist(), strict=True))
        return Prediction(None, predicted=chosen, probabilities=shares)

    def write(self, found: Values, store: CloudStore, row: int, target: Target) -> Written:
        """Return the row of the table: the class predicted, and ``p_CLASS`` of each."""
        chosen = self.class_names[int(self.decision.predicted(found[None])[0])]
        values = {f"p_{name}": f"{p:.6g}" for name, p in zip(self.class_names, found, strict=True)}
        return Written(rows=({"predicted": chosen, **values},))


@dataclass(frozen=True)
class PartsFound:
    """The part of every point by number, int32 (N,), and the probabilities of the parts, (N, parts)."""

    parts: npt.NDArray[np.int32]
    probability: Values


class PartPredictor(MapPredictor):
    """One segmenter of points, or the mean of the probabilities of several. See `medssl.prediction.Predictor`.

    Args:
        members: The segmenters; moved to ``device``.
        batch_size: Draws of a cloud that go through a network at once.
        device: Where to compute.

    Raises:
        ConfigError: They do not distinguish the same parts.
    """

    what = "parts"
    whole = True  # every point of the file gets a part

    def __init__(self, members: Sequence[PartSegmentationTask], batch_size: int, device: torch.device | str) -> None:
        if any((one.parts, one.classes) != (members[0].parts, members[0].classes) for one in members):
            raise ConfigError("The runs distinguish different parts, and their mean has no meaning. Take like runs.")
        self._members, self._batch_size, self._device = tuple(members), batch_size, device
        self.names, self.classes = dict(members[0].parts), members[0].classes
        for one in members:
            one.to(device).eval()

    @property
    def told(self) -> bool:
        """Whether a network is told the class of a cloud."""
        return any(one.told for one in self._members)

    @property
    def key(self) -> str:
        """Hash of weights and settings."""
        return _key(self._members, [])

    def predict(self, store: CloudStore, row: int) -> PartsFound:
        """Return the part of every point of a cloud."""
        each = [part_logits(one, store, row, batch_size=self._batch_size, device=self._device) for one in self._members]
        mean = sum((torch.softmax(found, dim=1) for found in each), torch.zeros(())) / len(each)
        # of one network the logits decide, as in its training run: a softmax may round two of them to one
        chosen = likeliest_parts(self._members[0], each[0] if len(each) == 1 else mean)
        return PartsFound(chosen, mean.numpy())

    def shown(self, found: PartsFound, entry: Any) -> Prediction:
        """Return the part of each point."""
        return Prediction(found.parts, dict(self.names), probabilities=found.probability)

    def sidecar(self) -> dict[str, Any]:
        """Return the names of parts."""
        return {"parts": {str(number): name for number, name in self.names.items()}}

    def files(self, target: Target) -> tuple[str, ...]:
        """Return the name of the cloud."""
        return (f"{target.stem}.ply",)

    def write(self, found: PartsFound, store: CloudStore, row: int, target: Target) -> Written:
        """Write the points of the file in their order, all of them, with the property ``label``.

        Rows that are no points, for their coordinates are not finite, are there with label -1.
        """
        cloud = isolated(partial(read, item=target.item, samples=0), target.source)
        if len(cloud) != len(found.parts):
            raise ConfigError(f"{target.source}: it has changed while it was predicted. Run the same command again.")
        count = len(cloud) + len(cloud.left_out)
        here = np.setdiff1d(np.arange(count), cloud.left_out, assume_unique=True)

        def spread(values: npt.NDArray[Any], empty: float) -> npt.NDArray[Any]:
            result = np.full((count, *values.shape[1:]), empty, dtype=values.dtype)
            result[here] = values
            return result

        columns: dict[str, npt.NDArray[Any]] = {"label": spread(found.parts, _UNKNOWN)}
        if cloud.colours is not None:
            colours = spread(cloud.colours, 0)
            columns = {name: colours[:, n] for n, name in enumerate(("red", "green", "blue"))} | columns
        if target.wanted.probabilities:
            for place, name in enumerate(self.names.values()):
                columns[f"p_{_safe(name)}"] = spread(found.probability[:, place].astype(np.float32), np.nan)
        if target.wanted.uncertainty:
            entropy = -np.sum(found.probability * np.log(np.maximum(found.probability, 1e-300)), axis=1)
            columns["uncertainty"] = spread((entropy / math.log(len(self.names))).astype(np.float32), np.nan)
        path = target.folder / f"{target.stem}.ply"
        write_ply(path, spread(cloud.positions(), np.nan), columns)
        counts = {f"points_{name}": int((found.parts == number).sum()) for number, name in self.names.items()}
        notes = [f"{len(cloud.left_out)} rows of the file are no points; label -1"] if len(cloud.left_out) else []
        return Written(files=(path,), rows=(counts,), notes=tuple(notes))


def cloud_classifiers_of(runs: Sequence[Path], device: torch.device | str) -> CloudClassPredictor:
    """Return the classifiers of runs.

    Raises:
        CheckpointError: A run is damaged.
        ConfigError: They do not distinguish the same classes.
    """
    members = []
    for run in runs:
        task = load_cloud_task(run)
        assert isinstance(task, CloudClassificationTask)
        members.append(CloudClassifying(task, read_decision(run, task.class_names)))
    return CloudClassPredictor(members, device)


def part_segmenters_of(runs: Sequence[Path], batch_size: int | None, device: torch.device | str) -> PartPredictor:
    """Return the segmenters of runs; ``batch_size`` None takes that of the first one's training.

    Raises:
        CheckpointError: A run is damaged.
        ConfigError: They do not distinguish the same parts.
    """
    tasks = [load_cloud_task(run) for run in runs]
    size = batch_size or load_card(runs[0]).batch_size or 1
    return PartPredictor([task for task in tasks if isinstance(task, PartSegmentationTask)], size, device)


def _key(tasks: Sequence[CloudTask], more: Sequence[Any]) -> str:
    digest = hashlib.sha256(json.dumps(list(more)).encode())
    for task in tasks:
        digest.update(json.dumps(task.settings.model_dump(mode="json")).encode())
        for name, tensor in task.network.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "part"
