"""A fine-tuned segmenter on disk: what its card says beyond the encoder, and loading it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medssl.encoders.table import build_encoder
from medssl.engine.card import Card
from medssl.engine.trained_task import trained_task
from medssl.normalising import takes
from medssl.regions import regions_from, regions_json
from medssl.tasks.segmentation import SegmentationSettings, SegmentationTask

__all__ = ["describe_segmenter", "load_segmenter"]

_NAME = "segmentation"


def describe_segmenter(
    task: SegmentationTask, classes: Mapping[int, str], *, start: str, unseen: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what a card's ``method`` holds of a segmenter.

    Args:
        task: The segmenter.
        classes: Structure numbers of its store and their names.
        start: The run whose weights it started from, "" for none.
        unseen: Names of structures that no scan it was trained on shows.
    """
    return {
        "name": _NAME,
        "settings": task.settings.model_dump(mode="json"),
        "classes": {str(number): name for number, name in sorted(classes.items())},
        **({"regions": regions_json(task.regions)} if task.regions else {}),
        **({"unseen": list(unseen)} if unseen else {}),
        "start": start,
    }


def load_segmenter(folder: str | Path) -> SegmentationTask:
    """Build a fine-tuning run's segmenter with its trained weights; see `trained_task`.

    ``.network`` is the network (images to logits), ``.output`` says what its channels are.
    """
    return trained_task(
        folder,
        noun="segmenter",
        task=_NAME,
        claims=lambda card: card.method.get("name") == _NAME,
        make=_segmenter,
    )


def _segmenter(card: Card) -> SegmentationTask:
    settings = SegmentationSettings.model_validate(card.method["settings"])
    classes = {int(number): str(name) for number, name in card.method["classes"].items()}
    made = SegmentationTask(
        settings, build_encoder(card.encoder), classes, regions_from(card.method.get("regions", ()))
    )
    takes(made.encoder, card.schemes)
    return made
