"""A fine-tuned segmenter on disk: what its card says beyond the encoder, and loading it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medssl.encoders.table import build_encoder
from medssl.engine.card import load_card, load_weights
from medssl.errors import CheckpointError
from medssl.normalising import takes
from medssl.quoting import quoted
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
    """Build a fine-tuning run's segmenter with its trained weights, in evaluation mode, on the CPU.

    ``.network`` is the network (images to logits), ``.output`` says what its channels are.

    Args:
        folder: A segmentation run that has ended.

    Raises:
        CheckpointError: Card or weights are missing or damaged, do not fit each other, or are of no segmenter.
    """
    folder = Path(folder)
    card = load_card(folder)
    if card.method.get("name") != _NAME:
        raise CheckpointError(
            f"{folder}: this is a run of '{card.method.get('name')}', not of a segmenter. "
            f"Make one with: medssl finetune {quoted(folder)} --data STORE --out FOLDER"
        )
    try:
        settings = SegmentationSettings.model_validate(card.method["settings"])
        classes = {int(number): str(name) for number, name in card.method["classes"].items()}
        regions = regions_from(card.method.get("regions", ()))
        task = SegmentationTask(settings, build_encoder(card.encoder), classes, regions)
        task.network.load_state_dict(load_weights(folder, "network"), strict=True)
    except (ValidationError, KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: the weights are not those of the segmenter on the card. {error}") from error
    takes(task.encoder, card.schemes)
    task.eval()
    return task
