"""The card of a network that was fine-tuned on scans, and what is doubtful about its start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medssl import geometry
from medssl.encoders.contract import Encoder
from medssl.encoders.table import ENCODERS
from medssl.engine.card import Card, load_card
from medssl.store.entry import Entry
from medssl.store.read import Store
from medssl.volumes import start_doubts
from pipelines.finetune_settings import FinetuneSettings
from pipelines.volume_card import volume_card

__all__ = ["scan_card", "scan_doubts", "seen_of", "source_spacing"]


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
            "seen": seen_of(entries),
            "predicts": {
                "inference": settings.inference.model_dump(mode="json"),
                "precision": settings.train.precision,
            },
        },
        citation=[ENCODERS[settings.encoder.name].paper],
    )


def seen_of(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return what the files of scans were like: smallest and largest voxel size, mm (z, y, x) in RAS, orientations."""
    sizes = np.array([source_spacing(e) for e in entries])
    return {
        "spacing_mm": [sizes.min(axis=0).round(4).tolist(), sizes.max(axis=0).round(4).tolist()],
        "orientations": sorted({geometry.orientation(np.array(e.source_affine)) for e in entries}),
    }


def source_spacing(entry: Entry) -> tuple[float, float, float]:
    """Return the voxel size of a scan's file, mm, (z, y, x) once it is turned to RAS."""
    affine = np.array(entry.source_affine, dtype=np.float64)
    return geometry.spacing_mm(geometry.to_canonical(np.empty((1, 1, 1), dtype=np.int8), affine)[1])


def scan_doubts(settings: FinetuneSettings, entries: Sequence[Entry]) -> list[str]:
    """Return how the data differ from what the encoder was pretrained on, where that is worth a thought."""
    if not settings.transfer.run or settings.transfer.from_scratch:
        return []
    return start_doubts(load_card(Path(settings.transfer.run)), entries)
