"""The plain U-Net encoder (nnU-Net's original): few parameters and little compute, the choice for a CPU."""

from __future__ import annotations

from typing import Any

from torch import nn

from medssl.encoders.blocks import ConvBlock
from medssl.encoders.settings.unet import UNetSettings
from medssl.encoders.staged import StagedEncoder

__all__ = ["UNetEncoder", "UNetSettings"]


class UNetEncoder(StagedEncoder):
    """Stages of (convolution, norm, leaky ReLU) blocks; the first convolution of a stage strides.

    Differs from nnU-Net's ``PlainConvEncoder`` only in that convolutions have no bias, which the normalisation after
    them would remove; weights load there by renaming (``medssl/exporting/nnunet.py``).

    Reference:
        Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation",
        Nature Methods 2021, arXiv:1904.08128.
    """

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Three stages."""
        return {"channels": (4, 6, 8), "blocks": 1}

    def __init__(self, settings: UNetSettings) -> None:
        stages: list[nn.Module] = []
        width = settings.input_channels
        for channels, blocks, kernel, stride in zip(
            settings.channels, settings.stage_blocks, settings.stage_kernels, settings.stage_strides, strict=True
        ):
            first = ConvBlock(width, channels, kernel=kernel, stride=stride)
            rest = [ConvBlock(channels, channels, kernel=kernel) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(first, *rest))
            width = channels
        super().__init__(settings, stem=nn.Identity(), stages=stages)
