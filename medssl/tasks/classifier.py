"""A fine-tuned classifier on disk: loading it again."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from medssl.encoders.table import build_encoder
from medssl.engine.card import load_card, load_weights
from medssl.errors import CheckpointError
from medssl.normalising import takes
from medssl.quoting import quoted
from medssl.tasks.class_settings import ClassificationSettings
from medssl.tasks.classification import ClassificationTask

__all__ = ["load_classifier"]


def load_classifier(folder: str | Path) -> ClassificationTask:
    """Build a fine-tuning run's classifier with its trained weights, in evaluation mode, on the CPU.

    ``.network`` is the network (images to logits), ``.class_names`` what its outputs stand for.

    Args:
        folder: A classification run that has ended.

    Raises:
        CheckpointError: Card or weights are missing or damaged, do not fit each other, or are of no classifier.
    """
    folder = Path(folder)
    card = load_card(folder)
    if card.method.get("name") != "classification":
        raise CheckpointError(
            f"{folder}: this is a run of '{card.method.get('name')}', not of a classifier. Make one with: "
            f"medssl finetune {quoted(folder)} --data STORE --task classification --out FOLDER"
        )
    try:
        settings = ClassificationSettings.model_validate(card.method["settings"])
        task = ClassificationTask(settings, build_encoder(card.encoder), card.method["classes"])
        task.network.load_state_dict(load_weights(folder, "network"), strict=True)
    except (ValidationError, KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: the weights are not those of the classifier on the card. {error}") from error
    takes(task.encoder, card.schemes)
    task.eval()
    return task
