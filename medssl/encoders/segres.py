"""The encoder of SegResNet (Myronenko), as MONAI, CT-FM and SuPreM have it: norm and ReLU before each convolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from medssl.encoders.batch_norm import batch_norm
from medssl.encoders.blocks import Triple
from medssl.encoders.settings.segres import SegResSettings
from medssl.encoders.staged import StagedEncoder

__all__ = ["SegResEncoder", "SegResSettings"]


class PreNormBlock(nn.Module):
    """Norm, ReLU, convolution, twice, added to what came in.

    Args:
        channels: Channels in and out.
        kernel: Odd kernel size, (z, y, x).
        norm: Makes the normalisation of so many channels.
    """

    def __init__(self, channels: int, kernel: Triple, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(channels), norm(channels)
        self.conv1, self.conv2 = (Convolution(channels, channels, kernel) for _ in range(2))
        self.relu = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, channels, z, y, x) of the same."""
        return self.with_convolved(features)[0]

    def with_convolved(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output, and what the first convolution makes, which the last norm takes."""
        convolved = self.conv1(self.relu(self.norm1(features)))
        return features + self.conv2(self.relu(self.norm2(convolved))), convolved


class Convolution(nn.Conv3d):
    """A convolution without bias; along some axes it sees beyond the end in the place of before the start.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel: Odd kernel size, (z, y, x).
        stride: Stride, (z, y, x).
        beyond: Axes of (z, y, x), by number, along which a strided convolution does.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Triple,
        stride: Triple = (1, 1, 1),
        beyond: tuple[int, ...] = (),
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, bias=False)
        self.around: list[int] = []
        for axis in (2, 1, 0):  # the last axis first
            reach = (kernel[axis] - 1) // 2
            moved = stride[axis] - 1 if axis in beyond else 0
            self.around += [reach - moved, reach + moved]

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, out_channels, z', y', x') of (B, in_channels, z, y, x)."""
        return super().forward(nn.functional.pad(features, self.around))


class SegResEncoder(StagedEncoder):
    """Stem (convolution), then stages of pre-norm residual blocks; a strided convolution begins each but the first.

    MONAI's ``SegResNet`` (SuPreM: group norm) begins a stage with its strided convolution, and ``SegResEncoder``
    (CT-FM: batch norm) ends the one before with it: one and the same network.

    Reference:
        Myronenko, "3D MRI brain tumor segmentation using autoencoder regularization", BrainLes 2018, arXiv:1810.11654;
        Pai et al., "Vision foundation models for computed tomography" (CT-FM), 2025, arXiv:2501.09001.
    """

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Three stages."""
        return {"channels": (4, 6, 8), "blocks": 1}

    def __init__(self, settings: SegResSettings) -> None:
        kernels, strides = settings.stage_kernels, settings.stage_strides
        beyond = tuple("zyx".index(axis) for axis in settings.beyond)
        width = settings.channels[0]
        stem = Convolution(settings.input_channels, width, kernels[0])
        norm = batch_norm(settings.statistics) if settings.norm == "batch" else _group_norm(settings.groups)
        stages: list[nn.Module] = []
        for channels, blocks, kernel, stride in zip(
            settings.channels, settings.stage_blocks, kernels, strides, strict=True
        ):
            enters = stride != (1, 1, 1) or channels != width
            first = [Convolution(width, channels, kernel, stride, beyond)] if enters else []
            stages.append(nn.Sequential(*first, *(PreNormBlock(channels, kernel, norm) for _ in range(blocks))))
            width = channels
        super().__init__(settings, stem=stem, stages=stages)


def _group_norm(groups: int) -> Callable[[int], nn.Module]:
    return lambda channels: nn.GroupNorm(groups, channels)
