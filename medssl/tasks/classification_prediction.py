"""Predicting with classifiers of scans: calibrated probabilities of one run, or the mean of several."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from medssl.domains.predictors import ClassPredictor
from medssl.encoders.contract import lay_channels_last
from medssl.engine.card import load_card
from medssl.errors import ConfigError
from medssl.evaluation.calibration import Decision, mean_decision, probabilities, read_decision
from medssl.evaluation.class_logits import ClassLogits
from medssl.prediction import Prediction, Target, Written
from medssl.store.read import Store
from medssl.tasks.class_inference import predict_classes
from medssl.tasks.class_samples import samples_of
from medssl.tasks.classification import ClassificationTask
from medssl.tasks.classifier import load_classifier
from medssl.tasks.inference import weights_digest

__all__ = ["ClassFound", "ClassificationPredictor", "Classifying", "class_rows", "classifiers_of"]


@dataclass(frozen=True)
class Classifying:
    """A trained classifier, and the temperature and threshold that its run chose."""

    task: ClassificationTask
    decision: Decision


@dataclass(frozen=True)
class ClassFound:
    """Probabilities (N, classes) of a scan, or of its slices, as ``shown`` lists them, and the classes chosen (N,)."""

    shown: ClassLogits
    probability: npt.NDArray[np.float64]
    predicted: npt.NDArray[np.int64]


class ClassificationPredictor(ClassPredictor):
    """One classifier, or the mean of the calibrated probabilities of several. See `medssl.prediction.Predictor`.

    Args:
        members: The classifiers; moved to ``device``.
        batch_size: Slices that go through a network at once.
        device: Where to compute.

    Raises:
        ConfigError: They do not distinguish the same classes, or not at the same level.
    """

    def __init__(self, members: Sequence[Classifying], batch_size: int, device: torch.device | str) -> None:
        said = {(one.task.class_names, _level(one.task)) for one in members}
        if len(said) > 1:
            raise ConfigError("The runs distinguish different classes, or one scans and one slices. Take like runs.")
        self._members, self._batch_size, self._device = tuple(members), batch_size, device
        self.class_names = members[0].task.class_names
        self.decision = mean_decision([one.decision for one in members])
        for one in members:
            one.task.to(device).eval()
            lay_channels_last(one.task)

    @property
    def key(self) -> str:
        """Hash of weights, settings and decisions."""
        said = [
            [weights_digest(one.task.network), one.task.settings.model_dump(mode="json"), asdict(one.decision)]
            for one in self._members
        ]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def predict(self, store: Store, row: int) -> ClassFound:
        """Return the probabilities of a scan."""
        alone = store.subset([store.entries[row].id])
        found = [
            predict_classes(
                one.task,
                samples_of(alone, one.task.settings, self.class_names),
                batch_size=self._batch_size,
                device=self._device,
            )
            for one in self._members
        ]
        each = [probabilities(f.logits, m.decision.temperature) for f, m in zip(found, self._members, strict=True)]
        mean = each[0] if len(each) == 1 else np.mean(each, axis=0)
        return ClassFound(found[0], mean, self.decision.predicted(mean))

    def shown(self, found: ClassFound, entry: Any) -> Prediction:
        """Return the class and its probabilities, of slices those of each."""
        chosen = [self.class_names[int(number)] for number in found.predicted]
        each = [dict(zip(self.class_names, row, strict=True)) for row in found.probability.tolist()]
        if found.shown.slices == (-1,):
            return Prediction(None, predicted=chosen[0], probabilities=each[0])
        return Prediction(None, predicted=chosen, probabilities=each)

    def write(self, found: ClassFound, store: Store, row: int, target: Target) -> Written:
        """Return the rows of the table: the class predicted and ``p_CLASS`` of each, of slices the slice too."""
        return Written(rows=tuple(class_rows(found, self.class_names)))


def classifiers_of(runs: Sequence[Path], batch_size: int | None, device: torch.device | str) -> ClassificationPredictor:
    """Return the classifiers of runs; ``batch_size`` None takes that of the first one's training.

    Raises:
        CheckpointError: A run is damaged.
        ConfigError: They do not distinguish the same classes.
    """
    tasks = [load_classifier(run) for run in runs]
    members = [Classifying(task, read_decision(run, task.class_names)) for run, task in zip(runs, tasks, strict=True)]
    return ClassificationPredictor(members, batch_size or load_card(runs[0]).batch_size or 1, device)


def class_rows(found: ClassFound, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return rows of a table of predictions, as a fine-tuning run writes them."""
    rows: list[dict[str, Any]] = []
    for number in range(len(found.shown)):
        place, attended = found.shown.slices[number], found.shown.attended[number]
        values = {f"p_{name}": f"{p:.6g}" for name, p in zip(classes, found.probability[number], strict=True)}
        rows.append(
            {
                "slice": place if place >= 0 else None,
                "attended": attended if attended >= 0 else None,
                "predicted": classes[int(found.predicted[number])],
                **values,
            }
        )
    return rows


def _level(task: ClassificationTask) -> tuple[bool, bool]:
    return task.settings.level == "slice", task.settings.shows is None
