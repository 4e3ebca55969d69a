"""Fine-tuned networks of clouds on disk: loading them again."""

from __future__ import annotations

from pathlib import Path

from medssl.engine.card import Card
from medssl.engine.trained_task import trained_task
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.tasks.classification import CloudClassificationTask
from pointcloud.tasks.segmentation import PartSegmentationTask
from pointcloud.tasks.settings import CloudTaskSettings

__all__ = ["load_cloud_task"]


def load_cloud_task(folder: str | Path) -> CloudClassificationTask | PartSegmentationTask:
    """Build a fine-tuning run's task with its trained weights; see `trained_task`.

    ``.network`` is the network: points (B, N, 3) and counts (B,) to logits of classes, or (with the classes' places)
    of parts.
    """
    return trained_task(
        folder,
        noun="network of clouds",
        task="classification",
        claims=lambda card: card.kind == "cloud" and card.method.get("name") in ("classification", "segmentation"),
        make=_task,
    )


def _task(card: Card) -> CloudClassificationTask | PartSegmentationTask:
    facts = card.method
    settings = CloudTaskSettings.model_validate(facts["settings"])
    encoder = CLOUD_ENCODERS.build(card.encoder)
    classes = {int(number): str(name) for number, name in facts["classes"].items()}
    if facts["name"] == "classification":
        return CloudClassificationTask(settings, encoder, classes)
    parts = {int(number): str(name) for number, name in facts["parts"].items()}
    parts_of = {int(number): tuple(found) for number, found in facts["parts_of"].items()}
    return PartSegmentationTask(settings, encoder, parts, classes, parts_of)
