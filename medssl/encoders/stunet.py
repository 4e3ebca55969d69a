"""The encoder of STU-Net: residual blocks whose skip is a strided convolution, without a stem."""

from __future__ import annotations

from typing import Any

from torch import nn

from medssl.encoders.blocks import BranchBlock, ConvBlock
from medssl.encoders.settings.stunet import STUNetSettings
from medssl.encoders.staged import StagedEncoder

__all__ = ["STUNetEncoder", "STUNetSettings"]


class STUNetEncoder(StagedEncoder):
    """Stages of residual blocks; the skip of a stage's first is a strided convolution of one voxel, with a bias.

    Differs from STU-Net's encoder only in that convolutions before a norm have no bias, which it would remove.

    Reference:
        Huang et al., "STU-Net: scalable and transferable medical image segmentation models empowered by large-scale
        supervised pre-training", 2023, arXiv:2304.06716.
    """

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Three stages."""
        return {"channels": (4, 6, 8)}

    def __init__(self, settings: STUNetSettings) -> None:
        stages: list[nn.Module] = []
        width = settings.input_channels
        for channels, blocks, kernel, stride in zip(
            settings.channels, settings.stage_blocks, settings.stage_kernels, settings.stage_strides, strict=True
        ):
            stage: list[nn.Module] = []
            for block in range(blocks):
                branch = [
                    ConvBlock(width, channels, kernel=kernel, stride=stride if block == 0 else (1, 1, 1)),
                    ConvBlock(channels, channels, kernel=kernel, nonlinear=False),
                ]
                skip = nn.Conv3d(width, channels, 1, stride) if block == 0 else nn.Identity()
                stage.append(BranchBlock(branch, skip))
                width = channels
            stages.append(nn.Sequential(*stage))
        super().__init__(settings, stem=nn.Identity(), stages=stages)
