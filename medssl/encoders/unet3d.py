"""The encoder of the first 3D U-Net, as Models Genesis and SuPreM have it: max-pools, and widths that double."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from medssl.encoders.blocks import ConvBlock
from medssl.encoders.settings.unet3d import UNet3DSettings
from medssl.encoders.staged import StagedEncoder

__all__ = ["UNet3DEncoder", "UNet3DSettings"]


class UNet3DEncoder(StagedEncoder):
    """Stages of a max-pool (but the first) and two convolutions with norm and ReLU, the first half as wide.

    Differs from Çiçek et al. in that instance norms stand for batch norms: Models Genesis's batch norms take the
    statistics of the batch at hand in use too, which for a batch of one are those of an instance norm.

    Reference:
        Çiçek et al., "3D U-Net: learning dense volumetric segmentation from sparse annotation", MICCAI 2016,
        arXiv:1606.06650; Zhou et al., "Models Genesis", Medical Image Analysis 2021, arXiv:2004.07882.
    """

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Three stages."""
        return {"channels": (4, 6, 8)}

    def __init__(self, settings: UNet3DSettings) -> None:
        stages: list[nn.Module] = []
        width = settings.input_channels
        for channels, kernel, stride in zip(
            settings.channels, settings.stage_kernels, settings.stage_strides, strict=True
        ):
            conv = partial(ConvBlock, kernel=kernel, slope=0.0)
            pool = [nn.MaxPool3d(stride, stride)] if stride != (1, 1, 1) else []
            stages.append(nn.Sequential(*pool, conv(width, channels // 2), conv(channels // 2, channels)))
            width = channels
        super().__init__(settings, stem=nn.Identity(), stages=stages)
