"""Whether a store suits a network that was trained elsewhere: what differs, by how much, and what mends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medssl.engine.card import Card
from medssl.store.write import CT_RANGE

__all__ = ["cache_line", "store_misfits"]

_SPACING = 1.1  # ratio of voxel sizes from which on it is said


def cache_line(card: Card) -> str:
    """Return the command that makes a store for a network; "" where any store does."""
    words = []
    if card.spacing_mm is not None:
        words.append("'spacing_mm=[{:.4g},{:.4g},{:.4g}]'".format(*card.spacing_mm))
    clipped = [one.numbers for one in card.inputs if one.numbers is not None and one.modality == "CT"]
    low, high = (min((n[0] for n in clipped), default=0.0), max((n[1] for n in clipped), default=0.0))
    if low < CT_RANGE[0] or high > CT_RANGE[1]:
        words.append(f"'hu_range=[{min(low, CT_RANGE[0]):.0f},{max(high, CT_RANGE[1]):.0f}]'")
    return " ".join(["medssl cache MANIFEST --out STORE", *words]) if words else ""


def store_misfits(card: Card, entries: Sequence[Any], settings: Mapping[str, Any] | None = None) -> list[str]:
    """Return how scans of a store differ from what a published network was trained on, with the line that mends it.

    Args:
        card: Of the network.
        entries: Scans, with ``spacing_mm`` (z, y, x).
        settings: Of the store; None where they are not known.
    """
    said = []
    if card.spacing_mm is not None and len(entries):
        theirs = np.array(card.spacing_mm)
        ours = np.array([entry.spacing_mm for entry in entries])
        ratios = np.maximum(ours / theirs, theirs / ours).max(axis=1)
        off = int((ratios > _SPACING).sum())
        if off:
            mean = " x ".join(f"{value:.3g}" for value in ours.mean(axis=0))
            wanted = " x ".join(f"{value:.3g}" for value in theirs)
            said.append(
                f"{off} of {len(entries)} scans differ by more than {_SPACING - 1:.0%} from the {wanted} mm that the "
                f"network was trained at (mean {mean} mm, up to {ratios.max():.2g} times)"
            )
    low, high = (settings or {}).get("hu_range", (-np.inf, np.inf))
    for one in card.inputs:
        if one.numbers is not None and one.modality == "CT" and (one.numbers[0] < low or one.numbers[1] > high):
            said.append(
                f"the network takes {one.numbers[0]:g} to {one.numbers[1]:g} HU, and the store kept {low:g} to {high:g}"
            )
    line = cache_line(card)
    return [f"doubtful: {one}; mend it with: {line}" for one in said]
