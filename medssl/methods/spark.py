"""SparK: masked reconstruction for convolutional encoders that see visible voxels only, with skips at every scale.

References:
    Tian et al., "Designing BERT for convolutional networks: sparse and hierarchical masked modeling", ICLR 2023,
    arXiv:2301.03580;
    Wald et al., "Revisiting MAE pre-training for 3D medical image segmentation", CVPR 2025, arXiv:2410.23132, whose S3D
    is SparK with the decoder of the U-Net (``decoder: unet``), 75 % hidden and targets that are not normalised.

The encoder runs as a sparse one (``medssl/encoders/sparse.py``). Each level of its pyramid is then normalised over
active places, filled with a learnt mask token where nothing was visible, and projected: for the light decoder 1x1x1 at
the coarsest level, nothing where the widths agree there, and 3x3x3 elsewhere, as in SparK; for that of the U-Net 3x3x3
everywhere but at full resolution, and its norms have no weights, as in nnssl's S3D (``projected``). The decoder adds
the levels up from the coarsest on. The error is the mean square over hidden patches of targets that are normalised
patch by patch, with the variance of N - 1.

Differs from the published code: hidden voxels never reach a convolution (nnssl's S3D masks what its first convolution
gives, which so sees one voxel beyond what is visible); at levels coarser than the patches nnssl takes every place as
active; every level of a U-Net's pyramid is a skip, the one at full resolution included, where
the ResNets of the paper begin at stride 4; the decoder is as wide as the encoder's coarsest level unless told
otherwise (768 there), and halves from level to level; patches may be finer than the coarsest stride, a place then
counts as active where anything under it is visible; padding outside the scan does not count. Augmentation is that of
``masked``, so that the two compare (the paper: random resized crops and flips). The optimiser is the preset's (LAMB
there).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medssl.decoder import UNetDecoder, decoder_levels
from medssl.encoders.blocks import InstanceNorm
from medssl.encoders.contract import Encoder
from medssl.encoders.sparse import active_only, active_places, sparse_pyramid
from medssl.encoders.staged import StagedEncoder
from medssl.methods.masked_window import MaskedViews, MaskedWindow
from medssl.methods.settings.spark import SparKSettings, Triple

__all__ = ["Densify", "LightDecoder", "SparK", "SparKSettings"]


class SparK(MaskedWindow):
    """Hide patches from a convolutional encoder and reconstruct them.

    Args:
        settings: See ``SparKSettings``.
        encoder: What is pretrained, a U-Net encoder.

    Raises:
        ValueError: If the encoder is not of that kind, or window, patch and encoder do not fit each other.
    """

    def __init__(self, settings: SparKSettings, encoder: Encoder) -> None:
        if not isinstance(encoder, StagedEncoder):
            raise ValueError(
                f"SparK is for encoders of convolutions ('residual', 'unet'). Got {type(encoder).__name__}; for "
                "transformers take 'mae' or 'simmim'."
            )
        super().__init__(settings, encoder, patch=settings.patch or encoder.size_multiple)
        for stride in encoder.strides:
            if any(p % s and s % p for p, s in zip(self.patch, stride, strict=True)):
                raise ValueError(
                    f"The patch {self.patch} and the encoder's stride {stride} must be multiples one of the other. "
                    f"Try the encoder's total stride, {encoder.size_multiple}."
                )
        self.staged: StagedEncoder = encoder
        coarsest = encoder.channels[-1]
        width = settings.width or coarsest
        light = settings.decoder == "light"
        widths = [max(8, width >> k) for k in range(len(encoder.channels))][::-1] if light else list(encoder.channels)
        coarser = (settings.projected or ("finer" if light else "coarser")) == "coarser"
        self.densify = nn.ModuleList(
            Densify(channels, into, coarsest=level == len(widths) - 1)
            if not coarser
            else Densify(channels, into, kernel=3 if level or channels != into else 0, affine=False)
            for level, (channels, into) in enumerate(zip(encoder.channels, widths, strict=True))
        )
        self.decoder: LightDecoder | UNetDecoder
        self.decoder = LightDecoder(encoder, widths) if light else UNetDecoder(encoder, encoder.in_channels)

    def exported_modules(self) -> dict[str, nn.Module]:
        """Keep the encoder, and the decoder where it is the one that segmentation has."""
        kept: dict[str, nn.Module] = {"encoder": self.encoder}
        return {**kept, "decoder": self.decoder} if isinstance(self.decoder, UNetDecoder) else kept

    def reconstruct(self, views: MaskedViews) -> Tensor:
        """Return the drawn windows, (B, C, z, y, x)."""
        visible = ~views.hidden
        pyramid = sparse_pyramid(self.staged, views.target, visible)
        dense = [densify(level, visible) for densify, level in zip(self.densify, pyramid, strict=True)]
        if isinstance(self.decoder, UNetDecoder):
            logits: list[Tensor] = self.decoder(dense, self.shown(views))
            return logits[0]
        drawn: Tensor = self.decoder(dense)
        return drawn


class Densify(nn.Module):
    """From a sparse level to a dense one: normalise what is active, put a token where nothing is, project.

    Args:
        channels: Channels of the level.
        into: Channels of the result.
        coarsest: Whether this is the coarsest level, whose projection is pointwise; there is none where widths agree.
        kernel: Length of the projection's kernel, whatever the level; 0 for none.
        affine: Whether the norm has a weight and a bias.
    """

    def __init__(
        self, channels: int, into: int, *, coarsest: bool = False, kernel: int | None = None, affine: bool = True
    ) -> None:
        super().__init__()
        self.norm = InstanceNorm(channels).requires_grad_(affine)
        self.token = nn.Parameter(torch.zeros(1, channels, 1, 1, 1))
        nn.init.trunc_normal_(self.token, std=0.02, a=-0.02, b=0.02)
        self.projection: nn.Module = nn.Identity()
        if kernel is None:
            kernel = 3 if not coarsest else 1 if channels != into else 0
        if kernel:
            self.projection = nn.Conv3d(channels, into, kernel, padding=kernel // 2)

    def forward(self, level: Tensor, visible: Tensor) -> Tensor:
        """Return (B, into, z, y, x) from (B, channels, z, y, x) and the visible patches (B, z', y', x')."""
        with active_only(self.norm, visible):
            normed = self.norm(level)
        filled = torch.where(active_places(visible, level.shape[2:]), normed, self.token.to(normed.dtype))
        dense: Tensor = self.projection(filled)
        return dense


class LightDecoder(nn.Module):
    """SparK's decoder: two convolutions after each upsampling, levels added, a 1x1x1 convolution at the end.

    Args:
        encoder: Gives the strides and the channels to draw; not kept.
        widths: Channels of each level of the dense pyramid, finest first.
    """

    def __init__(self, encoder: Encoder, widths: list[int]) -> None:
        super().__init__()
        strides = [level.stride for level in decoder_levels(encoder)]
        while len(widths) < len(strides):
            widths = [max(8, widths[0] // 2), *widths]
        self.blocks = nn.ModuleList(
            UpBlock(widths[level + 1], widths[level], coarse=strides[level + 1], fine=strides[level])
            for level in range(len(strides) - 2, -1, -1)
        )
        self.head = nn.Conv3d(widths[0], encoder.in_channels, 1)

    def forward(self, dense: list[Tensor]) -> Tensor:
        """Return the drawn windows, (B, C, z, y, x), of dense levels, finest first."""
        waiting = list(dense)
        features = waiting.pop()
        for block in self.blocks:
            features = block(features)
            if waiting:
                features = features + waiting.pop()
        drawn: Tensor = self.head(features)
        return drawn


class UpBlock(nn.Module):
    """Transposed convolution to the finer stride, then convolution, batch norm, ReLU6, convolution, batch norm."""

    def __init__(self, channels: int, into: int, *, coarse: Triple, fine: Triple) -> None:
        super().__init__()
        ratio = [c // f for c, f in zip(coarse, fine, strict=True)]
        margin = [r // 2 for r in ratio]
        kernel = [r + 2 * m for r, m in zip(ratio, margin, strict=True)]  # 4 for a ratio of 2, as published
        self.up = nn.ConvTranspose3d(channels, channels, tuple(kernel), tuple(ratio), tuple(margin))  # type: ignore[arg-type]
        self.convs = nn.Sequential(
            nn.Conv3d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm3d(channels),
            nn.ReLU6(inplace=True),
            nn.Conv3d(channels, into, 3, padding=1, bias=False),
            nn.BatchNorm3d(into),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, into, ...) at the finer stride."""
        finer: Tensor = self.convs(self.up(features))
        return finer
