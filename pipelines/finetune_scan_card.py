"""The card of a network that was fine-tuned on scans, and what is doubtful about its start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medssl.encoders.contract import Encoder
from medssl.encoders.table import ENCODERS
from medssl.engine.card import Card, load_card
from medssl.store.entry import Entry
from medssl.store.read import Store
from pipelines.finetune_settings import FinetuneSettings
from pipelines.volume_card import volume_card

__all__ = ["scan_card", "scan_doubts"]


def scan_card(
    settings: FinetuneSettings,
    store: Store,
    entries: Sequence[Entry],
    encoder: Encoder,
    *,
    window: tuple[int, int, int],
    method: Mapping[str, Any],
) -> Card:
    """Return the card.

    Args:
        settings: Of the run.
        store: All scans.
        entries: Those that were trained on.
        encoder: The network's encoder.
        window: What the network sees at once.
        method: What the task says of itself.
    """
    return volume_card(
        encoder,
        entries,
        settings.train,
        settings=settings.encoder,
        window=window,
        method=method,
        data={
            "scans": [e.id for e in entries],
            "patients": len({e.patient or e.id for e in entries}),
            "store_settings": store.settings,
        },
        citation=[ENCODERS[settings.encoder.name].paper],
    )


def scan_doubts(settings: FinetuneSettings, entries: Sequence[Entry]) -> list[str]:
    """Return how the data differ from what the encoder was pretrained on, where that is worth a thought."""
    if not settings.transfer.run or settings.transfer.from_scratch:
        return []
    card = load_card(Path(settings.transfer.run))
    doubts = []
    here = np.mean([e.spacing_mm for e in entries], axis=0)
    if card.spacing_mm is not None:
        ratio = np.maximum(here / np.array(card.spacing_mm), np.array(card.spacing_mm) / here).max()
        if ratio > 1.5:
            theirs, ours = (" x ".join(f"{v:.3g}" for v in s) for s in (card.spacing_mm, here))
            doubts.append(f"doubtful: the encoder was pretrained at {theirs} mm, and the store has {ours} mm")
    modalities = {kind for e in entries for kind in e.modalities}
    if card.modality and not modalities & set(card.modality.split("+")):
        doubts.append(f"doubtful: the encoder was pretrained on {card.modality}, the store is {'+'.join(modalities)}")
    return doubts
