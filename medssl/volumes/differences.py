"""How a new scan differs from those that a run was trained on, in sentences for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medssl import geometry
from medssl.engine.card import Card
from medssl.store.alone import Recipe
from medssl.store.entry import Entry
from medssl.volumes.card import source_spacing

__all__ = ["scan_differences"]

_BEYOND = 1.1  # times what was seen
_UNLIKE = 1.5  # times the mean, where a card says no more
_SAID = ("frame-", "nonfinite", "constant", "channel-")


def scan_differences(
    entry: Entry, card: Card, recipe: Recipe, seen: Mapping[str, Any], flags: tuple[str, ...]
) -> tuple[str, ...]:
    """Return how a stored scan or case differs from those of a run, most telling first.

    Args:
        entry: The scan, as stored.
        card: The run's card.
        recipe: How the training store was made.
        seen: What the card says of the files that it was trained on.
        flags: What was noticed when it was stored.
    """
    said = []
    for channel, known in zip(entry.channels, card.inputs_known, strict=True):
        name = f"{known.name}: " if len(card.inputs_known) > 1 else ""
        if not channel.present:
            continue
        modalities = known.modality.split("+") if known.modality else []
        if modalities and channel.modality not in modalities:
            said.append(f"{name}modality {channel.modality}; trained on {known.modality}")
        if tuple(channel.scale) != tuple(known.scale) and len(modalities) < 2:
            ours = "HU" if channel.slope == 1.0 and channel.modality == "CT" else "percentiles, its values are not HU"
            said.append(f"{name}intensity scale ({ours}) is not that of training")
    if recipe.spacings and not recipe.spacing_of(entry.modality)[1]:
        said.append(
            f"the training store had no {entry.modality}, so the voxel size of {next(iter(recipe.spacings))} was taken"
        )
    said += _spacing(source_spacing(entry), card, recipe, seen)
    turned = geometry.orientation(np.array(entry.source_affine))
    if seen.get("orientations") and turned not in seen["orientations"]:
        said.append(f"orientation {turned}; trained on {', '.join(seen['orientations'])}; turned to RAS as those were")
    for flag in flags:
        words = flag.replace("-", " ") if ":" not in flag else flag
        said.append(f"{words} alone is predicted" if flag.startswith("frame-") else words)
    return tuple(said)


def _spacing(size: tuple[float, float, float], card: Card, recipe: Recipe, seen: Mapping[str, Any]) -> list[str]:
    words = " x ".join(f"{v:.3g}" for v in size)
    if "spacing_mm" in seen:
        low, high = (np.array(v) for v in seen["spacing_mm"])
        if (np.array(size) > high * _BEYOND).any() or (np.array(size) < low / _BEYOND).any():
            least, most = (" x ".join(f"{v:.3g}" for v in side) for side in (low, high))
            known = least if least == most else f"{least} to {most}"
            return [f"voxels of {words} mm (z, y, x); trained on {known}"]
        return []
    if card.spacing_mm is None or recipe.spacings:
        return []
    ratio = np.maximum(np.array(size) / card.spacing_mm, np.array(card.spacing_mm) / size).max()
    mean = " x ".join(f"{v:.3g}" for v in card.spacing_mm)
    return [f"voxels of {words} mm (z, y, x); trained on {mean} on average"] if ratio > _UNLIKE else []
