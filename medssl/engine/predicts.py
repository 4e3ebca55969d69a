"""How a fine-tuned run predicts, as it was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medssl.engine.card import Card
from medssl.settings import load_yaml

__all__ = ["predicts_as"]


def predicts_as(run: Path, card: Card) -> dict[str, Any]:
    """Return how a run predicts: what its card says, or of earlier releases its run.yaml."""
    found = dict(card.data.get("predicts", {}))
    if not {"inference", "precision"} <= set(found) and (run / "run.yaml").is_file():
        written = load_yaml(run / "run.yaml")
        precision = written.get("train", {}).get("precision", "auto")
        found = {"inference": written.get("inference", {}), "precision": precision, **found}
    return {"inference": {}, "precision": "auto", **found}
