"""A fine-tuned classifier on disk: loading it again."""

from __future__ import annotations

from pathlib import Path

from medssl.encoders.table import build_encoder
from medssl.engine.card import Card
from medssl.engine.trained_task import trained_task
from medssl.normalising import takes
from medssl.tasks.class_settings import ClassificationSettings
from medssl.tasks.classification import ClassificationTask

__all__ = ["load_classifier"]


def load_classifier(folder: str | Path) -> ClassificationTask:
    """Build a fine-tuning run's classifier with its trained weights; see `trained_task`.

    ``.network`` is the network (images to logits), ``.class_names`` what its outputs stand for.
    """
    return trained_task(
        folder,
        noun="classifier",
        task="classification",
        claims=lambda card: card.method.get("name") == "classification",
        make=_classifier,
    )


def _classifier(card: Card) -> ClassificationTask:
    settings = ClassificationSettings.model_validate(card.method["settings"])
    made = ClassificationTask(settings, build_encoder(card.encoder), card.method["classes"])
    takes(made.encoder, card.schemes)
    return made
