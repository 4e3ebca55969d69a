"""The residual U-Net encoder (nnU-Net's ResEnc): the default for pretraining where a GPU is at hand."""

from __future__ import annotations

from typing import Any

from torch import nn

from medssl.encoders.blocks import ConvBlock, ResidualBlock
from medssl.encoders.settings.residual import ResidualSettings
from medssl.encoders.staged import StagedEncoder

__all__ = ["ResidualEncoder", "ResidualSettings"]


class ResidualEncoder(StagedEncoder):
    """Stem (convolution, norm, leaky ReLU), then stages of residual blocks; the first block of a stage strides.

    Differs from nnU-Net's ``ResidualEncoder`` only in that convolutions have no bias, which the normalisation after
    them would remove; weights load there by renaming (``medssl/exporting/nnunet.py``).

    Reference:
        Isensee et al., "nnU-Net revisited: a call for rigorous validation in 3D medical image segmentation",
        MICCAI 2024, arXiv:2404.09556.
    """

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Three stages."""
        return {"channels": (4, 6, 8), "blocks": 1}

    def __init__(self, settings: ResidualSettings) -> None:
        kernels, strides = settings.stage_kernels, settings.stage_strides
        width = settings.channels[0]
        stem = ConvBlock(settings.input_channels, width, kernel=kernels[0])
        stages: list[nn.Module] = []
        for channels, blocks, kernel, stride in zip(
            settings.channels, settings.stage_blocks, kernels, strides, strict=True
        ):
            first = ResidualBlock(width, channels, kernel=kernel, stride=stride)
            rest = [ResidualBlock(channels, channels, kernel=kernel) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(first, *rest))
            width = channels
        super().__init__(settings, stem=stem, stages=stages)
