"""The card of an encoder of volumes, whichever verb trained it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medssl import geometry
from medssl.encoders.contract import Encoder
from medssl.engine.card import Card, CardInput
from medssl.engine.train_settings import TrainSettings
from medssl.settings import Settings
from medssl.store.entry import Entry
from medssl.store.normalised import channels_of

__all__ = ["seen_of", "source_spacing", "volume_card"]


def volume_card(
    encoder: Encoder,
    entries: Sequence[Entry],
    train: TrainSettings,
    *,
    settings: Settings,
    window: tuple[int, int, int],
    method: Mapping[str, Any],
    data: Mapping[str, Any],
    citation: Sequence[str],
) -> Card:
    """Return the card.

    Args:
        encoder: What was trained.
        entries: The scans that it was trained on.
        train: How it was trained.
        settings: The encoder's.
        window: What the network sees at once, voxels (z, y, x).
        method: What the method or task says of itself.
        data: Facts about the scans.
        citation: Papers to cite.
    """
    channels = list(zip(*(entry.channels for entry in entries), strict=True))
    inputs = [
        CardInput(
            name=same[0].name,
            modality="+".join(sorted({channel.modality for channel in same if channel.present})),
            # of the cases that have it: what stands for a lacking one is no data
            scale=Counter([c.scale for c in same if c.present] or [c.scale for c in same]).most_common(1)[0][0],
            normalise=scheme,
            numbers=numbers,
        )
        for same, (scheme, numbers) in zip(channels, channels_of(entries), strict=True)
    ]
    z, y, x = np.mean([e.spacing_mm for e in entries], axis=0).tolist()
    return Card(
        encoder={**settings.model_dump(mode="json"), "in_channels": encoder.in_channels},
        in_channels=encoder.in_channels,
        inputs=tuple(inputs),
        channels=encoder.channels,
        strides=encoder.strides,
        spacing_mm=(z, y, x),
        modality="+".join(sorted({kind for e in entries for kind in e.modalities})),
        scale=inputs[0].scale,
        window=window,
        method=dict(method),
        steps=train.steps,
        batch_size=train.batch_size,
        data=dict(data),
        citation=list(citation),
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
