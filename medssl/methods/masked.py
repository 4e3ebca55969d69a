"""Masked reconstruction with a convolutional encoder: hide patches of a window, draw them again from the rest.

References:
    He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, arXiv:2111.06377;
    Wald et al., "Revisiting MAE pre-training for 3D medical image segmentation", CVPR 2025, arXiv:2410.23132;
    Wald et al., "An OpenMind for 3D medical vision self-supervised learning", ICCV 2025, arXiv:2412.17041, whose
    plain "MAE" for residual U-Nets this is: hidden voxels are set to a constant and a U-Net decoder with skips draws
    the window; the error counts in hidden patches only.

Differs from the OpenMind code: padding outside the scan never counts; targets may be normalised patch by patch; the
decoder's weights are kept beside the encoder's, since carrying over both is what helped segmentation most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medssl.decoder import UNetDecoder
from medssl.encoders.contract import Encoder
from medssl.methods.contract import Losses, Method
from medssl.objectives.diagnostics import effective_rank, feature_spread
from medssl.objectives.reconstruction import masked_reconstruction
from medssl.randomness import Stream
from medssl.settings import Settings
from medssl.views.intensity import IntensitySettings, apply_intensity, sample_intensity
from medssl.views.masking import sample_patch_mask, to_voxels
from medssl.views.spatial import SpatialSettings, apply_spatial, sample_spatial
from medssl.windows import WindowBatch, WindowPlan

__all__ = ["MaskedReconstruction", "MaskedReconstructionSettings", "MaskedViews", "inside_scan"]

Triple = tuple[int, int, int]


class MaskedReconstructionSettings(Settings):
    """Settings of masked reconstruction."""

    name: Literal["masked"] = "masked"
    window: Triple = Field((64, 64, 64), description="Window in voxels, (z, y, x).")
    patch: Triple = Field((8, 8, 8), description="Size of the patches that are hidden, in voxels.")
    ratio: float = Field(0.75, gt=0, lt=1, description="Share of the patches that are hidden.")
    normalise: bool = Field(False, description="Normalise each patch of the target to mean 0 and deviation 1.")
    spatial: SpatialSettings = SpatialSettings(rotate_degrees=(10.0, 10.0, 10.0), scale=(0.9, 1.1), probability=0.5)
    intensity: IntensitySettings = IntensitySettings(
        contrast=(0.75, 1.25), brightness=0.1, gamma=(0.8, 1.25), probability=0.3
    )


@dataclass(frozen=True)
class MaskedViews:
    """``target`` (B, 1, z, y, x); ``hidden`` bool by patch, (B, z', y', x'); ``inside`` bool, (B, 1, z, y, x)."""

    target: Tensor
    hidden: Tensor
    inside: Tensor


class MaskedReconstruction(Method):
    """Hide patches, reconstruct them.

    Args:
        settings: See ``MaskedReconstructionSettings``.
        encoder: What is pretrained; the window must fit its ``size_multiple``.

    Raises:
        ValueError: If the window does not fit the encoder or the patch.
    """

    def __init__(self, settings: MaskedReconstructionSettings, encoder: Encoder) -> None:
        super().__init__()
        for name, multiple in (("encoder's multiple", encoder.size_multiple), ("patch", settings.patch)):
            if any(w % m for w, m in zip(settings.window, multiple, strict=True)):
                raise ValueError(f"The window {settings.window} must be a multiple of the {name} {multiple}.")
        self.settings = settings
        self.encoder = encoder
        self.decoder = UNetDecoder(encoder, num_classes=encoder.in_channels)

    @property
    def plan(self) -> WindowPlan:
        """One window a scan."""
        return WindowPlan(size=self.settings.window, placement="body")

    def kept(self) -> dict[str, nn.Module]:
        """Keep the decoder too."""
        return {"encoder": self.encoder, "decoder": self.decoder}

    def views(self, batch: WindowBatch, stream: Stream) -> MaskedViews:
        """Augment each window and draw its mask."""
        chosen = self.settings
        inside = inside_scan(batch)
        spatial = sample_spatial(chosen.spatial, stream, shape=chosen.window, spacing_mm=batch.spacing_mm)
        target, marked = apply_spatial(batch.network_input(), spatial, labels=inside[:, 0].to(torch.int16))
        target = apply_intensity(target, sample_intensity(chosen.intensity, stream))
        hidden = sample_patch_mask(stream, shape=chosen.window, patch=chosen.patch, ratio=chosen.ratio)
        assert marked is not None
        return MaskedViews(target=target, hidden=hidden.to(target.device), inside=(marked > 0)[:, None])

    def reconstruct(self, views: MaskedViews) -> tuple[Tensor, list[Tensor]]:
        """Return the drawn windows, (B, 1, z, y, x), and the pyramid of the masked ones."""
        shown = views.target.masked_fill(to_voxels(views.hidden, self.settings.patch), 0.0)
        pyramid = self.encoder(shown)
        return self.decoder(pyramid, shown)[0], pyramid

    def forward(self, views: MaskedViews, progress: float) -> Losses:
        """Return the squared error in hidden patches."""
        drawn, _ = self.reconstruct(views)
        error = self._error(drawn, views)
        return Losses(error, {"reconstruction": error.detach()})

    def _error(self, drawn: Tensor, views: MaskedViews) -> Tensor:
        return masked_reconstruction(
            drawn,
            views.target,
            views.hidden,
            patch=self.settings.patch,
            normalise=self.settings.normalise,
            counted=views.inside,
        )

    def pictures(self, views: MaskedViews) -> dict[str, Tensor]:
        """Return the windows before and after hiding."""
        hidden = to_voxels(views.hidden, self.settings.patch)
        return {"window": views.target.clamp(0, 1), "shown": views.target.masked_fill(hidden, 0.0).clamp(0, 1)}

    def probe(self, views: MaskedViews) -> dict[str, Tensor]:
        """Return the error on scans that are not trained on, and whether features have collapsed."""
        drawn, pyramid = self.reconstruct(views)
        pooled = self.encoder.pool(pyramid)  # type: ignore[operator]
        return {
            "reconstruction": self._error(drawn, views),
            "spread": feature_spread(pooled),
            "effective_rank": effective_rank(pooled),
        }


def inside_scan(batch: WindowBatch) -> Tensor:
    """Return which voxels of each window lie inside its scan, bool, (B, 1, z, y, x); padding does not."""
    marks = []
    for axis, length in enumerate(batch.values.shape[2:]):
        place = batch.origin[:, axis, None] + torch.arange(length, device=batch.origin.device)
        shape = [len(batch), 1, 1, 1, 1]
        shape[2 + axis] = length
        marks.append(((place >= 0) & (place < batch.extent[:, axis, None])).view(shape))
    return marks[0] & marks[1] & marks[2]
