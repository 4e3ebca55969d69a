"""From an encoder's pyramid back to full resolution: the decoder of a U-Net, and the network that joins the two.

Names and arithmetic are those of nnU-Net's ``UNetDecoder`` (dynamic_network_architectures 0.4), so weights carry over
by name: ``transpconvs.i``, ``stages.i.convs.j.conv`` / ``.norm``, ``seg_layers.i``, coarsest stage first. As in the
encoders, a convolution that a norm follows has no bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from medssl.encoders.blocks import NEGATIVE_SLOPE, ConvBlock, initialise
from medssl.encoders.contract import Encoder

__all__ = [
    "ColumnNeck",
    "DecoderBlocks",
    "Level",
    "SegmentationNetwork",
    "StackedConvBlocks",
    "UNetDecoder",
    "decoder_levels",
]

Triple = tuple[int, int, int]
_EVERYWHERE = (3, 3, 3)
_IN_PLANE = (1, 3, 3)


class StackedConvBlocks(nn.Module):
    """``count`` blocks of convolution, instance norm and leaky ReLU, as the encoders have them."""

    def __init__(self, in_channels: int, out_channels: int, *, count: int, kernel: Triple = _EVERYWHERE) -> None:
        super().__init__()
        widths = [in_channels] + [out_channels] * count
        self.convs = nn.Sequential(*(ConvBlock(a, b, kernel=kernel) for a, b in pairwise(widths)))

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, out_channels, z, y, x) from (B, in_channels, z, y, x)."""
        result: Tensor = self.convs(features)
        return result


@dataclass(frozen=True)
class Level:
    """One level of a decoder: its channels, its stride (z, y, x), and where its skip comes from."""

    channels: int
    stride: Triple
    skip: Literal["pyramid", "image", "none"]


def decoder_levels(encoder: Encoder) -> list[Level]:
    """Return the decoder's levels, finest first, ending with the encoder's coarsest.

    Levels of one and the same stride, as plain transformers have them, become levels of halved strides (see
    ``ColumnNeck``). Where the finest level is below full resolution, levels of half the stride and half the channels
    are put before it until full resolution; the first of them takes the image itself, through convolutions, as its
    skip.
    """
    levels = [Level(c, s, "pyramid") for c, s in zip(encoder.channels, encoder.strides, strict=True)]
    if _is_column(encoder):
        for number in range(len(levels) - 2, -1, -1):
            below = levels[number + 1].stride
            width = max(8, encoder.channels[number] // (3 * 2 ** (len(levels) - 1 - number)))
            levels[number] = Level(width, _halved(below), "pyramid")
    while max(levels[0].stride) > 1:
        stride = _halved(levels[0].stride)
        levels.insert(0, Level(max(8, levels[0].channels // 2), stride, "image" if max(stride) == 1 else "none"))
    return levels


class ColumnNeck(nn.Module):
    """The levels of a plain transformer, all of one stride, as a pyramid: what UNETR has on its skips.

    Each level but the last is taken to its finer stride by transposed convolutions, each after the first followed by
    a convolution block.

    Args:
        channels: Channels of the transformer's levels.
        levels: What the levels are to become, finest first, ending with the last as it is.

    Reference:
        Hatamizadeh et al., "UNETR: transformers for 3D medical image segmentation", WACV 2022, arXiv:2103.10504.
    """

    def __init__(self, channels: Sequence[int], levels: Sequence[Level]) -> None:
        super().__init__()
        steps = nn.ModuleList()
        for number, width in enumerate(channels[:-1]):
            wanted = levels[number].channels
            parts: list[nn.Module] = []
            for fine, coarse in list(pairwise(levels[number:]))[::-1]:
                up = _ratio(coarse.stride, fine.stride)
                parts.append(nn.ConvTranspose3d(wanted if parts else width, wanted, up, up))
                if len(parts) > 1:
                    parts.append(ConvBlock(wanted, wanted, kernel=_EVERYWHERE))
            steps.append(nn.Sequential(*parts))
        self.levels = steps

    def forward(self, column: Sequence[Tensor]) -> list[Tensor]:
        """Return the pyramid, finest first, of the transformer's levels."""
        return [*(step(level) for step, level in zip(self.levels, column[:-1], strict=True)), column[-1]]


class DecoderBlocks(nn.Module):
    """Blocks of a U-Net's decoder, coarsest first: transposed convolution, concatenation with the skip, convolutions.

    Under the names that `UNetDecoder` has them by, so that the first blocks can be trained by themselves and carried
    over.

    Args:
        encoder: Gives ``channels`` and ``strides`` of the pyramid; not kept.
        blocks: How many, from the coarsest on; None takes all, up to full resolution.
        convs_per_stage: Convolution blocks a stage.
        kernels: Kernel size of each level's blocks, finest first. None takes the encoder's own where it
            names them (``kernels``), else 3x3x3.

    Raises:
        ValueError: If there are not so many blocks.
    """

    def __init__(
        self,
        encoder: Encoder,
        blocks: int | None = None,
        *,
        convs_per_stage: int = 1,
        kernels: Sequence[Triple] | None = None,
    ) -> None:
        super().__init__()
        self._build(encoder, blocks, convs_per_stage=convs_per_stage, kernels=kernels)
        self._draw()

    def _build(
        self, encoder: Encoder, blocks: int | None, *, convs_per_stage: int, kernels: Sequence[Triple] | None
    ) -> None:
        levels = decoder_levels(encoder)
        added = len(levels) - len(encoder.channels)
        kernels = kernels or getattr(encoder, "kernels", None)
        kernels = list(kernels or [_EVERYWHERE] * len(encoder.channels))
        planar = all(kernel[0] == 1 for kernel in kernels)
        level_kernels = [_IN_PLANE if planar else _EVERYWHERE] * added + kernels
        if blocks is not None and not 1 <= blocks < len(levels):
            raise ValueError(f"A decoder of this encoder has {len(levels) - 1} blocks. Got blocks: {blocks}.")
        self.levels = levels[-2::-1][:blocks]
        self.neck = ColumnNeck(encoder.channels, levels[added:]) if _is_column(encoder) else None
        self.stem: StackedConvBlocks | None = None
        if self.levels[-1].skip == "image":
            self.stem = StackedConvBlocks(encoder.in_channels, levels[0].channels, count=2, kernel=level_kernels[0])
        transposed, stages = [], []
        for below, level, kernel in zip(levels[::-1], self.levels, level_kernels[-2::-1], strict=False):
            up = _ratio(below.stride, level.stride)
            transposed.append(nn.ConvTranspose3d(below.channels, level.channels, up, up))
            width = level.channels if level.skip == "none" else 2 * level.channels
            stages.append(StackedConvBlocks(width, level.channels, count=convs_per_stage, kernel=kernel))
        self.transpconvs = nn.ModuleList(transposed)
        self.stages = nn.ModuleList(stages)

    def _draw(self) -> None:
        """Draw initial weights."""
        initialise(self)
        for module in self.modules():
            if isinstance(module, nn.ConvTranspose3d):
                _initialise_transposed(module)

    def features(self, pyramid: Sequence[Tensor], images: Tensor) -> list[Tensor]:
        """Return what each block gives, (B, C, ...) at the stride of its level, coarsest first.

        Args:
            pyramid: The encoder's levels, finest first.
            images: What the encoder saw, (B, C, z, y, x).
        """
        waiting = list(pyramid) if self.neck is None else self.neck(pyramid)
        features = waiting.pop()
        found: list[Tensor] = []
        for level, transposed, stage in zip(self.levels, self.transpconvs, self.stages, strict=True):
            features = transposed(features)
            if level.skip == "pyramid":
                features = torch.cat((features, waiting.pop()), dim=1)
            elif level.skip == "image" and self.stem is not None:
                features = torch.cat((features, self.stem(images)), dim=1)
            features = stage(features)
            found.append(features)
        return found


class UNetDecoder(DecoderBlocks):
    """All blocks of a U-Net's decoder, and a 1x1x1 head of logits.

    Args:
        encoder: Gives ``channels`` and ``strides`` of the pyramid; not kept.
        num_classes: Channels of the logits, background included.
        convs_per_stage: Convolution blocks a stage.
        deep_supervision: Whether coarser stages have heads too, and training gets their logits.
        kernels: As of `DecoderBlocks`.
    """

    def __init__(
        self,
        encoder: Encoder,
        num_classes: int,
        *,
        convs_per_stage: int = 1,
        deep_supervision: bool = False,
        kernels: Sequence[Triple] | None = None,
    ) -> None:
        nn.Module.__init__(self)
        self._build(encoder, None, convs_per_stage=convs_per_stage, kernels=kernels)
        self.deep_supervision = deep_supervision
        # Only heads that are used exist, under their nnU-Net names: an idle parameter breaks DDP.
        first = 0 if deep_supervision else len(self.levels) - 1
        self.seg_layers = nn.ModuleDict(
            {str(i): nn.Conv3d(self.levels[i].channels, num_classes, 1) for i in range(first, len(self.levels))}
        )
        self._draw()

    def forward(self, pyramid: Sequence[Tensor], images: Tensor) -> list[Tensor]:
        """Return logits, (B, num_classes, ...) each, full resolution first.

        Args:
            pyramid: The encoder's levels, finest first.
            images: What the encoder saw, (B, C, z, y, x).

        Returns:
            One tensor; while training with deep supervision one a stage.
        """
        found = self.features(pyramid, images)
        first = 0 if self.deep_supervision and self.training else len(found) - 1
        return [self.seg_layers[str(i)](found[i]) for i in range(len(found) - 1, first - 1, -1)]


class SegmentationNetwork(nn.Module):
    """An encoder and a decoder; logits of every class at the resolution of the image.

    Args:
        encoder: Gives the pyramid.
        decoder: Takes it back to full resolution.
    """

    def __init__(self, encoder: Encoder, decoder: UNetDecoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes, z, y, x) of images (B, C, z, y, x) whose sizes fit ``encoder.size_multiple``."""
        return self.supervised(images)[0]

    def supervised(self, images: Tensor) -> list[Tensor]:
        """Return the logits of every supervised stage, full resolution first."""
        logits: list[Tensor] = self.decoder(self.encoder(images), images)
        return logits


def _is_column(encoder: Encoder) -> bool:
    """Return whether an encoder has several levels, all of one stride."""
    return len(encoder.strides) > len(set(encoder.strides)) == 1


def _halved(stride: Triple) -> Triple:
    z, y, x = (length // 2 if length % 2 == 0 else 1 for length in stride)
    return z, y, x


def _ratio(coarse: Triple, fine: Triple) -> Triple:
    for a, b in zip(coarse, fine, strict=True):
        if a % b:
            raise ValueError(f"Strides of neighbouring levels must divide each other. Got {coarse} after {fine}.")
    return coarse[0] // fine[0], coarse[1] // fine[1], coarse[2] // fine[2]


def _initialise_transposed(convolution: nn.ConvTranspose3d) -> None:
    """Draw weights as for a convolution (Kaiming for the leaky ReLU, zero bias), as nnU-Net does."""
    nn.init.kaiming_normal_(convolution.weight, a=NEGATIVE_SLOPE)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
