"""Fine-tuned runs as what predicts: one, or the mean of several that were trained on like data for the same task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from medssl.engine.card import Card, CardInput, load_card
from medssl.errors import CheckpointError, ConfigError
from medssl.evaluation.calibration import Decision, decision_words, read_decision
from medssl.quoting import quoted
from medssl.settings import load_yaml
from medssl.tasks.classification_prediction import ClassificationPredictor, Classifying
from medssl.tasks.classifier import load_classifier
from medssl.tasks.inference import InferenceSettings, Segmenting
from medssl.tasks.segmentation import SegmentationTask
from medssl.tasks.segmentation_prediction import SegmentationPredictor
from medssl.tasks.segmenter import load_segmenter
from pipelines.predict_inputs import Takes
from pipelines.predict_settings import PredictSettings
from pointcloud.tasks.classification import CloudClassificationTask
from pointcloud.tasks.loading import load_cloud_task
from pointcloud.tasks.prediction import CloudClassifying, CloudClassPredictor, PartPredictor
from pointcloud.tasks.segmentation import PartSegmentationTask

__all__ = ["Predicting", "load_runs"]

TASKS = ("segmentation", "classification")
AnyPredictor = SegmentationPredictor | ClassificationPredictor | CloudClassPredictor | PartPredictor


@dataclass(frozen=True)
class Predicting:
    """Runs that are ready to predict.

    Attributes:
        predictor: What predicts.
        card: The first run's card.
        takes: What it takes.
        precision: As ``train.precision`` of the first run.
        names: Label value or part -> name, for the sidecar; empty for classes.
        store_settings: How the training store was made.
        seen: What the files that it was trained on were like; empty on cards of earlier releases.
        notes: What a person should know of the runs.
    """

    predictor: AnyPredictor
    card: Card
    takes: Takes
    precision: str
    names: dict[int, str]
    store_settings: dict[str, Any]
    seen: dict[str, Any]
    notes: tuple[str, ...] = field(default=())

    @property
    def decision(self) -> Decision | None:
        """Of classifiers, how probabilities become a class."""
        return getattr(self.predictor, "decision", None)

    def said(self) -> str:
        """What is predicted, and of classes how they are decided."""
        if self.decision is None or isinstance(self.predictor, SegmentationPredictor | PartPredictor):
            return self.predictor.noun
        return f"{self.predictor.noun}. {decision_words(self.decision, self.predictor.class_names)}"


def load_runs(runs: Sequence[Path], settings: PredictSettings, device: torch.device) -> Predicting:
    """Load fine-tuning runs.

    Args:
        runs: One, or several whose probabilities are averaged.
        settings: What is asked for otherwise than the runs say.
        device: Where they shall compute.

    Raises:
        CheckpointError: A run has not ended, cannot be read, or is a pretraining run.
        ConfigError: The runs do not go together, or a setting does not fit them.
    """
    cards = [_card(run) for run in runs]
    first = cards[0]
    for run, card in zip(runs[1:], cards[1:], strict=True):
        _same(runs[0], first, run, card)
    said = [_predicts(run, card) for run, card in zip(runs, cards, strict=True)]
    store_settings = dict(first.data.get("store_settings", {}))
    takes = Takes(
        kind=first.kind,
        channels=first.inputs_known if first.kind == "volume" else (),
        fills=store_settings.get("missing") == "fill",
        run=str(runs[0]),
    )
    foreign = [name for name in ("overlap", "mirror") if getattr(settings, name) is not None]
    segments = first.kind == "volume" and first.method["name"] == "segmentation"
    if foreign and not segments:
        raise ConfigError(f"{foreign[0]}: is of segmenters of scans, and {runs[0]} is none. Leave it out.")
    batch = settings.batch_size or first.batch_size or 1
    predictor: AnyPredictor
    names: dict[int, str] = {}
    notes: tuple[str, ...] = ()
    if first.kind == "cloud":
        tasks = [load_cloud_task(run) for run in runs]
        if isinstance(tasks[0], CloudClassificationTask):
            of_classes = [task for task in tasks if isinstance(task, CloudClassificationTask)]
            members = [
                CloudClassifying(t, read_decision(run, t.class_names)) for run, t in zip(runs, of_classes, strict=True)
            ]
            predictor = CloudClassPredictor(members, device)
        else:
            predictor = PartPredictor([t for t in tasks if isinstance(t, PartSegmentationTask)], batch, device)
            names = dict(predictor.names)
    elif segments:
        found = [load_segmenter(run) for run in runs]
        each = [_segmenting(run, t, s, settings) for run, t, s in zip(runs, found, said, strict=True)]
        names = _names(found[0])
        predictor = SegmentationPredictor(each, names, device)
        unseen = first.method.get("unseen") or ()
        notes = (f"no scan it was trained on shows {', '.join(unseen)}",) if unseen else ()
    else:
        classifiers = [load_classifier(run) for run in runs]
        predictor = ClassificationPredictor(
            [Classifying(t, read_decision(run, t.class_names)) for run, t in zip(runs, classifiers, strict=True)],
            batch,
            device,
        )
    return Predicting(
        predictor, first, takes, said[0]["precision"], names, store_settings, dict(first.data.get("seen", {})), notes
    )


def _card(run: Path) -> Card:
    card = load_card(run)
    if card.method.get("name") not in TASKS or "network.safetensors" not in card.weights:
        raise CheckpointError(
            f"{run}: this is a pretraining run ({card.method.get('name', 'unknown')}): an encoder, which names no "
            f"structure or class yet. Next: medssl finetune {quoted(run)} --data STORE --out {quoted(f'{run}-tuned')}"
        )
    return card


def _same(first: Path, one: Card, run: Path, other: Card) -> None:
    """Refuse runs whose mean has no meaning, or that want their scans prepared differently."""
    facts = {
        "kind": (one.kind, other.kind),
        "task": (one.method["name"], other.method["name"]),
        "channels": (_channel_names(one), _channel_names(other)),
        "intensity scales": ([c.scale for c in one.inputs_known], [c.scale for c in other.inputs_known]),
        "normalised inputs": ([_input(c) for c in one.inputs_known], [_input(c) for c in other.inputs_known]),
        "store settings": (_prepared(one), _prepared(other)),
    }
    for name, (ours, theirs) in facts.items():
        if ours != theirs:
            raise ConfigError(
                f"{run} and {first} cannot be averaged: their {name} differ ({theirs} and {ours}). Take runs of one "
                "task that were trained on stores made alike."
            )


def _channel_names(card: Card) -> list[str]:
    return [channel.name for channel in card.inputs_known] if card.in_channels > 1 else ["one"]


def _input(channel: CardInput) -> tuple[object, ...]:
    return (channel.normalise, *(channel.numbers or ()))


def _prepared(card: Card) -> dict[str, Any]:
    """Return what of a store's settings decides the voxels or points of an item."""
    said = dict(card.data.get("store_settings", {}))
    no_part = ("accept", "mixed_scales", "channels", "channel_gap_mm", "normalise")
    return {k: v for k, v in said.items() if k not in no_part}


def _predicts(run: Path, card: Card) -> dict[str, Any]:
    """Return how a run predicts: what its card says, or of earlier releases its run.yaml."""
    found = dict(card.data.get("predicts", {}))
    if not {"inference", "precision"} <= set(found) and (run / "run.yaml").is_file():
        written = load_yaml(run / "run.yaml")
        precision = written.get("train", {}).get("precision", "auto")
        found = {"inference": written.get("inference", {}), "precision": precision, **found}
    return {"inference": {}, "precision": "auto", **found}


def _segmenting(run: Path, task: SegmentationTask, said: Mapping[str, Any], settings: PredictSettings) -> Segmenting:
    own = InferenceSettings.model_validate(said["inference"])
    changes: dict[str, Any] = {}
    if settings.overlap is not None:
        changes["overlap"] = settings.overlap
    if settings.batch_size is not None:
        changes["batch_size"] = settings.batch_size
    if settings.mirror is not None:
        flipped = tuple(axis for axis, p in zip("zyx", task.settings.spatial.flip, strict=True) if p > 0)
        if settings.mirror and not flipped:
            raise ConfigError(
                f"mirror: {run} was trained without flips, so that mirrored scans are none that it knows. Leave it "
                "out, or train with segmentation.spatial.flip=[0.5,0.5,0.5]."
            )
        changes["mirror"] = flipped if settings.mirror else ()
    return Segmenting(task.network, task.output, task.settings.window, own.model_copy(update=changes))


def _names(task: SegmentationTask) -> dict[int, str]:
    """Return label value -> name of what a segmenter writes."""
    return dict(zip(task.output.numbers[1:], task.class_names, strict=True))
