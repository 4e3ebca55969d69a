"""Contrast of partitions: an encoder learns which part of the body an image shows, in every scan the same.

Reference:
    Chaitanya, Erdil, Karani, Konukoglu, NeurIPS 2020, arXiv:2006.10511: the first of its stages, in which the encoder
    alone is trained with a global loss. The local loss, which trains the first blocks of a decoder, is not part of this
    method.

As published a batch is drawn as M scans with one slice in each of S partitions along z, an image is seen as it is and
in two random crops that are resized to its size, and the head takes the flattened coarsest features. Images are slices
(windows with z = 1) or sub-volumes.

Differs from the authors' code: see `medssl.objectives.partitions`; partitions are cut out of the body box, by position,
rather than out of the file's slices; a version is the image zoomed by 1.92 and shifted by up to 0.3 of half its size,
which is about their crop of 100x100 pixels of 192x192 with its corner in [10, 70), resized; AdamW in place of Adam.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medssl.encoders.contract import Encoder
from medssl.heads import Projection
from medssl.methods.contract import Losses, Method
from medssl.objectives.diagnostics import effective_rank, feature_spread
from medssl.objectives.partitions import partition_contrast
from medssl.randomness import Stream
from medssl.settings import Settings
from medssl.views.intensity import IntensitySettings, apply_intensity, sample_intensity
from medssl.views.spatial import SpatialSettings, apply_spatial, sample_spatial
from medssl.windows import WindowBatch, WindowPlan

__all__ = ["GlobalContrast", "GlobalContrastSettings", "PartitionViews"]

Triple = tuple[int, int, int]
_VERSIONS = 3


class GlobalContrastSettings(Settings):
    """Settings of the contrast of partitions; the defaults are the paper's, on slices."""

    name: Literal["global_contrast"] = "global_contrast"
    window: Triple = Field((1, 192, 192), description="An image: a slice (z = 1) or a sub-volume, (z, y, x).")
    partitions: int = Field(4, ge=2, description="Parts of the body along z; one image of each scan in each.")
    loss: Literal["random", "negatives", "aligned"] = Field(
        "aligned", description="G^R, G^D- or G^D of the paper; the last needs scans that show the same region."
    )
    temperature: float = Field(0.1, gt=0, description="Temperature of the contrast.")
    normalise: Literal["mean", "published"] = Field("mean", description="Scale of the loss: a mean, or as released.")
    hidden: int = Field(1024, ge=8, description="Width of the head.")
    projected: int = Field(128, ge=8, description="Length of the projected features.")
    pool: Literal["flatten", "mean"] = Field("flatten", description="What the head takes of the coarsest features.")
    spatial: SpatialSettings = SpatialSettings(scale=(1.92, 1.92), translate=0.3)
    intensity: IntensitySettings = IntensitySettings(contrast=(0.7, 1.3), brightness=0.3)


@dataclass(frozen=True)
class PartitionViews:
    """``images`` (B, 3, 1, z, y, x): as they are, and two changed versions; ``part`` (B,), scan-major."""

    images: Tensor
    part: Tensor


class GlobalContrast(Method):
    """Train an encoder to tell partitions apart.

    Args:
        settings: See ``GlobalContrastSettings``.
        encoder: What is pretrained; the window must fit its ``size_multiple``.

    Raises:
        ValueError: If the window does not fit.
    """

    def __init__(self, settings: GlobalContrastSettings, encoder: Encoder) -> None:
        super().__init__()
        if any(w % m for w, m in zip(settings.window, encoder.size_multiple, strict=True)):
            raise ValueError(f"The window {settings.window} must be a multiple of {encoder.size_multiple}.")
        self.settings = settings
        self.encoder = encoder
        width = encoder.embedding_dim
        if settings.pool == "flatten":
            width = encoder.channels[-1]
            for length, stride in zip(settings.window, encoder.strides[-1], strict=True):
                width *= length // stride
        self.head: nn.Module = Projection(width, settings.hidden, settings.projected, layers=2, norm="none")

    @property
    def plan(self) -> WindowPlan:
        """One window in each partition of a scan."""
        chosen = self.settings
        return WindowPlan(size=chosen.window, placement="body", count=chosen.partitions, relation="partitions", axis=0)

    def views(self, batch: WindowBatch, stream: Stream) -> PartitionViews:
        """Return each image as it is and in two changed versions."""
        chosen = self.settings
        images = batch.network_input()
        count = _VERSIONS - 1
        spatial = sample_spatial(chosen.spatial, stream, shape=chosen.window, count=count, spacing_mm=batch.spacing_mm)
        changed, _ = apply_spatial(images.repeat_interleave(count, dim=0), spatial)
        changed = apply_intensity(changed, sample_intensity(chosen.intensity, stream, count=count))
        versions = torch.cat([images[:, None], changed.view(len(images), count, *images.shape[1:])], dim=1)
        return PartitionViews(versions, batch.part)

    def forward(self, views: PartitionViews, progress: float) -> Losses:
        """Return the contrast of partitions."""
        chosen = self.settings
        images = views.images.transpose(0, 1)[: 2 if chosen.loss == "aligned" else _VERSIONS]
        pyramid = self.encoder(images.flatten(0, 1))
        pooled: Tensor = self.encoder.pool(pyramid)  # type: ignore[operator]
        flat = pyramid[-1].float().flatten(1) if chosen.pool == "flatten" else pooled
        features = self.head(flat).view(images.shape[0], -1, chosen.partitions, chosen.projected)
        loss = partition_contrast(
            features, variant=chosen.loss, temperature=chosen.temperature, normalise=chosen.normalise
        )
        return Losses(loss, {"partitions": loss.detach()}, {"spread": feature_spread(pooled.detach())})

    def pictures(self, views: PartitionViews) -> dict[str, Tensor]:
        """Return the first scan's images, part by part, and their changed versions."""
        number = self.settings.partitions
        return {
            "images, part by part": views.images[:number, 0].clamp(0, 1),
            "first version": views.images[:number, 1].clamp(0, 1),
            "second version": views.images[:number, 2].clamp(0, 1),
        }

    def probe(self, views: PartitionViews) -> dict[str, Tensor]:
        """Return how often the nearest image of another scan shows the same part, and how far features spread."""
        pooled: Tensor = self.encoder.embed(views.images[:, 0])  # type: ignore[operator]
        deviation, mean = torch.std_mean(pooled.float(), dim=0, unbiased=False)
        unit = nn.functional.normalize((pooled.float() - mean) / deviation.clamp(min=1e-6), dim=1)
        scan = torch.arange(len(pooled), device=pooled.device) // self.settings.partitions
        measured = {"spread": feature_spread(pooled), "effective_rank": effective_rank(pooled)}
        if int(scan[-1]) > 0:
            cosine = (unit @ unit.T).masked_fill(scan[:, None] == scan[None], float("-inf"))
            right = views.part[cosine.argmax(dim=1)] == views.part
            measured["part_accuracy"] = right.float().mean()
        return measured
