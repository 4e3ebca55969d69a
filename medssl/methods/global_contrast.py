"""Contrast of partitions: an encoder learns which part of the body an image shows, in every scan the same.

Reference:
    Chaitanya, Erdil, Karani, Konukoglu, NeurIPS 2020, arXiv:2006.10511: the first of its stages, in which the encoder
    alone is trained with a global loss. `medssl.methods.local_contrast` is the second.

As published a batch is drawn as M scans with one slice in each of S partitions along z, an image is seen as it is and
in random crops that are resized to its size, and the head takes the flattened coarsest features. Images are slices
(windows with z = 1) or sub-volumes.

Differs from the authors' code: see `medssl.objectives.partitions`; partitions are cut out of the body box, where the
paper cuts the whole scan (``within: scan``), and by position rather than by the file's slices; a changed version is the
image zoomed by 1.92 about a centre that lies up to 0.3 of half its size away, where theirs is a crop of 100x100 pixels
of 192x192 with its corner in [10, 70), whose centre lies -0.37 to 0.25 of half the image away; AdamW in place of Adam.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from medssl.encoders.contract import Encoder
from medssl.gathering import gathered
from medssl.heads import Projection
from medssl.methods.contract import Losses
from medssl.methods.partition_views import PartitionMethod, PartitionViews
from medssl.methods.settings.global_contrast import GlobalContrastSettings
from medssl.objectives.diagnostics import feature_spread
from medssl.objectives.partitions import partition_contrast
from medssl.randomness import Stream
from medssl.views.intensity import apply_intensity, sample_intensity
from medssl.views.spatial import apply_spatial, sample_spatial
from medssl.windows import WindowBatch

__all__ = ["GlobalContrast", "GlobalContrastSettings"]

# What each loss compares: whether the image itself is among the versions, and how many changed ones there are.
_VERSIONS = {"random": (False, 2), "negatives": (True, 2), "aligned": (True, 1)}


class GlobalContrast(PartitionMethod):
    """Train an encoder to tell partitions apart.

    Args:
        settings: See ``GlobalContrastSettings``.
        encoder: What is pretrained; the window must fit its ``size_multiple``.

    Raises:
        ValueError: If the window does not fit.
    """

    coupled = "images are compared with those of their own part alone"

    def __init__(self, settings: GlobalContrastSettings, encoder: Encoder) -> None:
        super().__init__(settings, encoder)
        self.settings = settings
        self.pools = settings.pool == "mean"
        width = encoder.embedding_dim
        if settings.pool == "flatten":
            width = encoder.channels[-1]
            for length, stride in zip(settings.window, encoder.strides[-1], strict=True):
                width *= length // stride
        self.head: nn.Module = Projection(
            width, settings.hidden, settings.projected, layers=2, norm="none", bias=settings.head_bias
        )

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Two thin parts."""
        return {"window": (8, 16, 12), "partitions": 2, "hidden": 32, "projected": 16}

    def described(self, images: Tensor) -> Tensor:
        """Return what the head takes: flattened; the mean alone is nearly constant behind a normalisation."""
        if self.settings.pool == "mean":
            return super().described(images)
        coarsest: Tensor = self.encoder(images)[-1]
        return coarsest.float().flatten(1)

    def views(self, batch: WindowBatch, stream: Stream) -> PartitionViews:
        """Return the versions of each image that the loss compares; the image itself, where it is one, comes first."""
        chosen = self.settings
        images = batch.network_input()
        itself, count = _VERSIONS[chosen.loss]
        spatial = sample_spatial(chosen.spatial, stream, shape=chosen.window, count=count, spacing_mm=batch.spacing_mm)
        changed, _ = apply_spatial(images.repeat_interleave(count, dim=0), spatial)
        drawn = sample_intensity(chosen.intensity, stream, count=count, channels=batch.channels)
        changed = apply_intensity(changed, drawn, shown=batch.shown(count), unit=batch.unit(count))
        changed = changed.view(len(images), count, *images.shape[1:])
        return PartitionViews(torch.cat([images[:, None], changed], dim=1) if itself else changed, batch.part)

    def forward(self, views: PartitionViews, progress: float) -> Losses:
        """Return the contrast of partitions."""
        chosen = self.settings
        images = views.images.transpose(0, 1)
        described = self.described(images.flatten(0, 1))
        features = self.head(described).view(images.shape[0], -1, chosen.partitions, chosen.projected)
        loss = partition_contrast(
            gathered(features, dim=1), variant=chosen.loss, temperature=chosen.temperature, normalise=chosen.normalise
        )
        return Losses(
            loss, {"partitions": loss.detach()}, {"spread": feature_spread(described.detach(), over_all=True)}
        )
