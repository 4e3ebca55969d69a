"""The 3D ResNet of MedicalNet: batch norms, a max-pool behind the first convolution, dilation in place of strides."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from medssl.encoders.batch_norm import batch_norm
from medssl.encoders.blocks import BranchBlock, ConvBlock, Triple
from medssl.encoders.settings.resnet import ResNetSettings
from medssl.encoders.staged import StagedEncoder

__all__ = ["ResNetEncoder", "ResNetSettings"]

_POINT = (1, 1, 1)


class PaddedSkip(nn.Module):
    """Every stride-th voxel, and channels of zeros behind those that came in (shortcut A).

    Args:
        added: Channels of zeros.
        stride: Stride, (z, y, x).
    """

    def __init__(self, added: int, stride: Triple) -> None:
        super().__init__()
        self.added = added
        self.pool = nn.AvgPool3d(_POINT, stride)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C + added, z', y', x') of (B, C, z, y, x)."""
        return nn.functional.pad(self.pool(features), (0, 0, 0, 0, 0, 0, 0, self.added))


class ResNetEncoder(StagedEncoder):
    """The first convolution (a level of its own), a max-pool, then stages of residual blocks.

    With the default strides 2, 4, 8, 8, 8 the last two stages see further by dilation. Differs from MedicalNet's in
    that gradients pass shortcuts of zeros, which its code cuts off.

    Reference:
        Chen et al., "Med3D: transfer learning for 3D medical image analysis", 2019, arXiv:1904.00625; He et al.,
        CVPR 2016, arXiv:1512.03385.
    """

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """One block a stage."""
        return {"channels": (4, 4, 6, 8, 8), "blocks": 1}

    def __init__(self, settings: ResNetSettings) -> None:
        norm = batch_norm(settings.statistics)
        kernels, strides = settings.stage_kernels, settings.stage_strides
        width = settings.channels[0]
        conv = partial(ConvBlock, norm=norm, slope=0.0)
        stages: list[nn.Module] = [
            nn.Sequential(conv(settings.input_channels, width, kernel=kernels[0], stride=strides[0]))
        ]
        for number, channels in enumerate(settings.channels[1:], start=1):
            inner = channels // 4 if settings.bottleneck else channels
            pooled = number == 1  # the max-pool has the stride of the stage behind it
            blocks: list[nn.Module] = [_max_pool(strides[1])] if pooled else []
            for block in range(settings.stage_blocks[number]):
                stride = strides[number] if block == 0 and not pooled else _POINT
                dilated = partial(conv, kernel=kernels[number], dilation=settings.dilations[number])
                if settings.bottleneck:
                    branch = [conv(width, inner, kernel=_POINT), dilated(inner, inner, stride=stride)]
                    branch.append(conv(inner, channels, kernel=_POINT, nonlinear=False))
                else:
                    branch = [dilated(width, inner, stride=stride), dilated(inner, channels, nonlinear=False)]
                skip: nn.Module = nn.Identity()
                if settings.shortcut == "padded" and (stride != _POINT or channels != width):
                    skip = PaddedSkip(channels - width, stride)
                elif stride != _POINT or channels != width:
                    skip = conv(width, channels, kernel=_POINT, stride=stride, nonlinear=False)
                blocks.append(BranchBlock(branch, skip, slope=0.0))
                width = channels
            stages.append(nn.Sequential(*blocks))
        super().__init__(settings, stem=nn.Identity(), stages=stages)


def _max_pool(stride: Triple) -> nn.Module:
    """Return the largest of 3 voxels along each axis that strides."""
    z, y, x = (3 if step > 1 else 1 for step in stride)
    return nn.MaxPool3d((z, y, x), stride, (z // 2, y // 2, x // 2))
