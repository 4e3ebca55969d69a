"""What the methods that compare crops of a window share: their settings, their views, their pictures and probe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medssl.encoders.contract import Encoder
from medssl.methods.contract import Method
from medssl.methods.fitting import Room
from medssl.methods.parts.contract import seeds
from medssl.methods.settings.crop_views import CropSettings
from medssl.objectives.diagnostics import effective_rank, view_retrieval
from medssl.randomness import Stream
from medssl.views.random_crops import random_crops
from medssl.windows import WindowBatch, WindowPlan

__all__ = ["CropMethod", "CropSettings", "CropViews"]


@dataclass(frozen=True)
class CropViews:
    """``crops`` (B, V, C, z, y, x); ``local`` (B, V', C, z, y, x) or None; ``item`` and ``patient`` (B,).

    ``seeds`` (B,) where parts of a contrast draw, see `medssl.methods.parts.contract.seeds`.
    """

    crops: Tensor
    local: Tensor | None
    item: Tensor
    patient: Tensor
    seeds: Tensor | None = None


class CropMethod(Method):
    """A method whose views are crops of one window, and whose network gives one vector a crop.

    Args:
        settings: Where views come from.
        encoder: What is pretrained; views must fit its ``size_multiple``.
        pairs_only: Whether the method compares exactly two views.

    Raises:
        ValueError: If a view does not fit the encoder or the window, or there are too many.
    """

    pools = True
    pairs_channels = True
    draws = False  # whether its views carry seeds for what is drawn afterwards

    def __init__(self, settings: CropSettings, encoder: Encoder, *, pairs_only: bool = False) -> None:
        super().__init__()
        if pairs_only and settings.views != 2:
            raise ValueError(f"This method takes two views, not {settings.views}.")
        sizes = {"crop": settings.crop} | ({"local_crop": settings.local_crop} if settings.local_views else {})
        for name, size in sizes.items():
            if any(s % m for s, m in zip(size, encoder.size_multiple, strict=True)):
                raise ValueError(f"{name} {size} must be a multiple of {encoder.size_multiple} (the encoder's).")
            if any(w < s for w, s in zip(settings.window, size, strict=True)):
                raise ValueError(f"The window {settings.window} is smaller than {name} {size}.")
        self.crop_settings = settings

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Two crops of a window that the smallest encoder halves twice."""
        return {"window": (16, 24, 16), "crop": (12, 16, 12), "hidden": 32, "projected": 16}

    @classmethod
    def fit(cls, room: Room) -> dict[str, Any]:
        """Take crops of 0.7 of the window."""
        return {"window": list(room.window), "crop": room.share(0.7)}

    def check(self) -> None:
        """See that the encoder takes crops of these sizes."""
        chosen = self.crop_settings
        for size in (chosen.crop, *([chosen.local_crop] if chosen.local_views else [])):
            self.encoder.check_size(size)  # type: ignore[operator]

    @property
    def plan(self) -> WindowPlan:
        """One window a scan, in its body."""
        return WindowPlan(size=self.crop_settings.window, placement="body")

    def views(self, batch: WindowBatch, stream: Stream) -> CropViews:
        """Cut and augment the views of each window."""
        chosen = self.crop_settings
        crops = random_crops(
            batch, stream, size=chosen.crop, count=chosen.views, spatial=chosen.spatial, intensity=chosen.intensity
        )
        local = None
        if chosen.local_views:
            local = random_crops(
                batch,
                stream,
                size=chosen.local_crop,
                count=chosen.local_views,
                spatial=chosen.spatial,
                intensity=chosen.intensity,
            )
        own = seeds(stream) if self.draws else None
        return CropViews(crops=crops, local=local, item=batch.item, patient=batch.patient, seeds=own)

    def pictures(self, views: CropViews) -> dict[str, Tensor]:
        """Return the views of the first scans."""
        shown = {"views": self.displayed(views.crops[:4].flatten(0, 1))}
        if views.local is not None:
            shown["small views"] = self.displayed(views.local[:2].flatten(0, 1))
        return shown

    def probe(self, views: CropViews) -> dict[str, Tensor]:
        """Return on held-out scans whether features have collapsed, and how often a view finds its other view.

        ``retrieval`` is the share of first views whose nearest second view, by cosine of the encoder's standardised
        features, is of the same scan; by chance 1 / B.
        """
        batch = views.crops.shape[0]
        pooled: Tensor = self.encoder.embed(views.crops[:, :2].transpose(0, 1).flatten(0, 1))  # type: ignore[operator]
        return {
            "retrieval": view_retrieval(pooled[:batch], pooled[batch:]),
            "effective_rank": effective_rank(pooled),
        }

    def chance(self, views: CropViews) -> dict[str, Tensor]:
        """Return the share of first views whose other view is found by guessing."""
        return {"retrieval": torch.tensor(1.0 / len(views.crops), device=views.crops.device)}
