"""Local contrast: with the encoder frozen, the first blocks of a decoder learn to tell the regions of an image apart.

Reference:
    Chaitanya, Erdil, Karani, Konukoglu, NeurIPS 2020, arXiv:2006.10511: the second of its stages. The first is
    `medssl.methods.global_contrast`; a run of it is given with ``--init-from``. Fine-tuning carries over the encoder
    and the blocks that were trained here.

As published two versions of an image differ in intensity alone, so that places correspond; a head of two pointwise
convolutions and, for regions of more than one voxel, a shared linear layer gives the features that are compared.

Differs from the authors' code: see `medssl.objectives.local_regions`; the frozen encoder is in evaluation mode, where
theirs went on moving the statistics of its batch normalisation; a block of the decoder is that of our segmenter
(transposed convolution, instance norm); every image draws its own change of intensity; AdamW in place of Adam.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from medssl.decoder import DecoderBlocks
from medssl.encoders.contract import Encoder
from medssl.gathering import gathered
from medssl.methods.contract import Losses
from medssl.methods.partition_views import PartitionMethod, PartitionViews
from medssl.methods.settings.local_contrast import LocalContrastSettings
from medssl.objectives.diagnostics import effective_rank, feature_spread, view_retrieval
from medssl.objectives.local_regions import cut_regions, local_contrast, nearest_regions, region_starts
from medssl.randomness import Stream
from medssl.views.intensity import apply_intensity, sample_intensity
from medssl.windows import WindowBatch

__all__ = ["LocalContrast", "LocalContrastSettings"]

Triple = tuple[int, int, int]
_VERSIONS = 2
_PUBLISHED_NEIGHBOURS = {"random": 5, "aligned": 4}  # in each of two maps


class LocalContrast(PartitionMethod):
    """Train the first blocks of a decoder on a frozen encoder.

    Args:
        settings: See ``LocalContrastSettings``.
        encoder: Frozen; the window must fit its ``size_multiple``.

    Raises:
        ValueError: If the window does not fit, the decoder has not so many blocks, or regions do not fit their map.
    """

    unfit = "it starts from a finished run of global_contrast (--init-from)"
    coupled = "with loss=aligned, regions are sought in the scans of their own part alone"

    def __init__(self, settings: LocalContrastSettings, encoder: Encoder) -> None:
        super().__init__(settings, encoder)
        self.settings = settings
        if len(set(encoder.strides)) < len(encoder.strides):
            raise ValueError("Local contrast takes an encoder whose levels differ in stride, such as 'unet'.")
        encoder.requires_grad_(False).eval()
        self.decoder = DecoderBlocks(encoder, settings.blocks)
        level = self.decoder.levels[-1]
        z, y, x = (length // stride for length, stride in zip(settings.window, level.stride, strict=True))
        size = tuple(min(settings.region, length) for length in (z, y, x))
        self._size: Triple = (size[0], size[1], size[2])
        self._starts = region_starts((z, y, x), self._size)
        counts = {"published": _PUBLISHED_NEIGHBOURS[settings.loss], "all": None}
        wanted = counts[settings.negatives] if isinstance(settings.negatives, str) else settings.negatives
        self.register_buffer("repels", nearest_regions(self._starts, self._size, wanted), persistent=False)
        width, voxels = level.channels, size[0] * size[1] * size[2]
        self.pointwise = nn.Sequential(
            nn.Conv3d(width, width, 1, bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
            nn.Conv3d(width, width, 1, bias=False),
        )
        self.shared: nn.Module = nn.Identity()
        if voxels > 1:
            self.shared = nn.Linear(width * voxels, settings.projected, bias=False)

    repels: Tensor

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Two thin parts, one block of the decoder."""
        return {"window": (8, 32, 24), "partitions": 2, "blocks": 1, "region": 2, "projected": 16}

    def train(self, mode: bool = True) -> Self:
        """Set the mode of what is trained; the encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def exported_modules(self) -> dict[str, nn.Module]:
        """Keep the encoder as it came, and the blocks of the decoder."""
        return {"encoder": self.encoder, "decoder": self.decoder}

    def views(self, batch: WindowBatch, stream: Stream) -> PartitionViews:
        """Return two versions of each image that differ in intensity alone."""
        images = batch.network_input().repeat_interleave(_VERSIONS, dim=0)
        drawn = sample_intensity(self.settings.intensity, stream, count=_VERSIONS, channels=batch.channels)
        changed = apply_intensity(images, drawn, shown=batch.shown(_VERSIONS), unit=batch.unit(_VERSIONS))
        return PartitionViews(changed.view(len(batch), _VERSIONS, *changed.shape[1:]), batch.part)

    def forward(self, views: PartitionViews, progress: float) -> Losses:
        """Return the contrast of regions."""
        chosen = self.settings
        images = views.images.transpose(0, 1)
        maps = self._maps(images.flatten(0, 1))
        regions = self.shared(cut_regions(self.pointwise(maps).float(), self._starts, self._size))
        features = regions.view(_VERSIONS, -1, chosen.partitions, *regions.shape[1:])
        loss = local_contrast(
            gathered(features, dim=1),
            self.repels,
            variant=chosen.loss,
            temperature=chosen.temperature,
            normalise=chosen.normalise,
        )
        signals = {
            "spread": feature_spread(cut_regions(maps.detach(), self._starts, self._size).flatten(0, 1), over_all=True)
        }
        return Losses(loss, {"regions": loss.detach()}, signals)

    def probe(self, views: PartitionViews) -> dict[str, Tensor]:
        """Return what the last block's features hold on held-out scans.

        ``region_retrieval`` is the share of regions that find themselves in the other version, among all regions of
        all images, and ``scan_retrieval`` the share that find their place in the next scan, among those of the same
        part; by chance one in as many.
        """
        count = self.settings.partitions
        first, second = (
            cut_regions(self._maps(views.images[:, v]), self._starts, self._size) for v in range(_VERSIONS)
        )
        flat = first.flatten(0, 1)
        measured = {
            "spread": feature_spread(flat),
            "effective_rank": effective_rank(flat),
            "region_retrieval": view_retrieval(flat, second.flatten(0, 1)),
        }
        if len(first) > count:
            found = [view_retrieval(first[i], first[(i + count) % len(first)]) for i in range(len(first))]
            measured["scan_retrieval"] = torch.stack(found).mean()
        return measured

    def chance(self, views: PartitionViews) -> dict[str, Tensor]:
        """Return what guessing finds: one region of all, and one of an image's."""
        images, count = len(views.images), len(self._starts)
        guessed = {"region_retrieval": torch.tensor(1.0 / (images * count), device=views.images.device)}
        if images > self.settings.partitions:
            guessed["scan_retrieval"] = torch.tensor(1.0 / count, device=views.images.device)
        return guessed

    def _maps(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            pyramid = self.encoder(images)
        return self.decoder.features(pyramid, images)[-1]
