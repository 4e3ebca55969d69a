"""Fine-tuned networks of clouds on disk: loading them again."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from medssl.engine.card import load_card, load_weights
from medssl.errors import CheckpointError
from medssl.quoting import quoted
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.tasks.classification import CloudClassificationTask
from pointcloud.tasks.segmentation import PartSegmentationTask
from pointcloud.tasks.settings import CloudTaskSettings

__all__ = ["load_cloud_task"]


def load_cloud_task(folder: str | Path) -> CloudClassificationTask | PartSegmentationTask:
    """Build a fine-tuning run's task with its trained weights, in evaluation mode, on the CPU.

    ``.network`` is the network: points (B, N, 3) and counts (B,) to logits of classes, or (with the classes' places)
    of parts.

    Args:
        folder: A fine-tuning run on clouds that has ended.

    Raises:
        CheckpointError: Card or weights are missing or damaged, do not fit each other, or are of no such task.
    """
    folder = Path(folder)
    card = load_card(folder)
    facts = card.method
    if card.kind != "cloud" or facts.get("name") not in ("classification", "segmentation"):
        raise CheckpointError(
            f"{folder}: this is a run of '{facts.get('name')}' on {card.kind}s, not of a task on clouds. Make one "
            f"with: medssl finetune {quoted(folder)} --data STORE --task classification --out FOLDER"
        )
    try:
        settings = CloudTaskSettings.model_validate(facts["settings"])
        encoder = CLOUD_ENCODERS.build(card.encoder)
        classes = {int(number): str(name) for number, name in facts["classes"].items()}
        task: CloudClassificationTask | PartSegmentationTask
        if facts["name"] == "classification":
            task = CloudClassificationTask(settings, encoder, classes)
        else:
            parts = {int(number): str(name) for number, name in facts["parts"].items()}
            parts_of = {int(number): tuple(found) for number, found in facts["parts_of"].items()}
            task = PartSegmentationTask(settings, encoder, parts, classes, parts_of)
        task.network.load_state_dict(load_weights(folder, "network"), strict=True)
    except (ValidationError, KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: the weights are not those of the network on the card. {error}") from error
    task.eval()
    return task
