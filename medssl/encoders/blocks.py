"""Convolution blocks of the U-Net family, laid out as nnU-Net lays them out, so that weights carry over by renaming.

A convolution here has no bias: instance normalisation follows it and subtracts any constant. nnU-Net keeps the bias;
a zero there gives the same function (see ``medssl/exporting/nnunet.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medssl.encoders.settings.sizes import Triple, as_triples
from medssl.errors import ConfigError

__all__ = [
    "BranchBlock",
    "ConvBlock",
    "InstanceNorm",
    "ResidualBlock",
    "Triple",
    "as_triples",
    "check_input_size",
    "cumulative_strides",
    "initialise",
    "run_stage",
]

Output = TypeVar("Output")

NEGATIVE_SLOPE = 0.01  # of every leaky ReLU, and of the Kaiming initialisation that belongs to it
NORM_EPS = 1e-5


class InstanceNorm(nn.Module):
    """Instance normalisation with a learnt scale and shift a channel, by whichever of torch's kernels is the faster.

    On a CPU in float32 that is group normalisation with one group a channel (the same function), which keeps
    channels-last tensors as they lie; in bfloat16 and on a GPU it is instance normalisation.

    Args:
        channels: Channels in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C, z, y, x) with mean ``bias`` and standard deviation ``weight`` over the voxels of a channel."""
        if features.device.type == "cpu" and features.dtype == torch.float32:
            return nn.functional.group_norm(features, self.weight.numel(), self.weight, self.bias, NORM_EPS)
        return nn.functional.instance_norm(features, weight=self.weight, bias=self.bias, eps=NORM_EPS)


class ConvBlock(nn.Module):
    """Convolution, normalisation and, if asked for, a (leaky) ReLU.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel: Odd kernel size, (z, y, x); the padding keeps the size.
        stride: Stride, (z, y, x).
        nonlinear: Whether the ReLU follows.
        norm: Makes the normalisation of so many channels.
        slope: Of the ReLU below 0.
        dilation: Between a kernel's voxels, along all axes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: Triple,
        stride: Triple = (1, 1, 1),
        nonlinear: bool = True,
        norm: Callable[[int], nn.Module] = InstanceNorm,
        slope: float = NEGATIVE_SLOPE,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        z, y, x = (dilation * ((size - 1) // 2) for size in kernel)
        self.conv = nn.Conv3d(in_channels, out_channels, kernel, stride, (z, y, x), dilation, bias=False)
        self.norm = norm(out_channels)
        self.nonlin = nn.LeakyReLU(slope, inplace=True) if nonlinear else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, out_channels, z, y, x) of (B, in_channels, z, y, x)."""
        return self.with_convolved(features)[0]

    def with_convolved(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output, and what the convolution made of ``features``, which the norm takes."""
        convolved = self.conv(features)
        return self.nonlin(self.norm(convolved)), convolved


class BranchBlock(nn.Module):
    """A branch of convolutions, named ``conv1`` and on, beside a skip; a (leaky) ReLU of their sum.

    The last normalisation of the branch starts at zero (see ``initialise``), so that a fresh block is its skip.

    Args:
        branch: The convolutions; the last has no ReLU of its own.
        skip: From the block's input to what is added.
        slope: Of the ReLU below 0.
    """

    def __init__(self, branch: Sequence[ConvBlock], skip: nn.Module, *, slope: float = NEGATIVE_SLOPE) -> None:
        super().__init__()
        self._count = len(branch)
        for number, conv in enumerate(branch, start=1):
            self.add_module(f"conv{number}", conv)
        self.skip = skip
        self.nonlin = nn.LeakyReLU(slope, inplace=True)

    @property
    def branch(self) -> list[ConvBlock]:
        """The convolutions in their order."""
        return [getattr(self, f"conv{number}") for number in range(1, self._count + 1)]

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, out_channels, z, y, x) of (B, in_channels, z, y, x)."""
        return self.with_convolved(features)[0]

    def with_convolved(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output, and what the branch's last convolution makes, which its last norm takes."""
        *before, last = self.branch
        inner = features
        for conv in before:
            inner = conv(inner)
        branch, convolved = last.with_convolved(inner)
        return self.nonlin(branch + self.skip(features)), convolved


class ResidualBlock(BranchBlock):
    """Two convolutions beside a skip that pools where the block strides and projects where the channels change.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel: Odd kernel size of both convolutions, (z, y, x).
        stride: Stride of the first convolution and of the skip's average pooling, (z, y, x).

    Reference:
        He et al., "Bag of tricks for image classification with convolutional neural networks", CVPR 2019,
        arXiv:1812.01187 (ResNet-D); Isensee et al., "nnU-Net revisited", MICCAI 2024, arXiv:2404.09556.
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel: Triple, stride: Triple = (1, 1, 1)) -> None:
        branch = [
            ConvBlock(in_channels, out_channels, kernel=kernel, stride=stride),
            ConvBlock(out_channels, out_channels, kernel=kernel, nonlinear=False),
        ]
        skip: list[nn.Module] = []
        if stride != (1, 1, 1):
            skip.append(nn.AvgPool3d(stride, stride))
        if in_channels != out_channels:
            skip.append(ConvBlock(in_channels, out_channels, kernel=(1, 1, 1), nonlinear=False))
        super().__init__(branch, nn.Sequential(*skip))


def initialise(network: nn.Module) -> None:
    """Set fresh parameters as nnU-Net does: Kaiming-normal convolutions, and residual branches that start at zero.

    Every parameter of the blocks in this file is a convolution's weight or a normalisation's affine pair; the latter
    keep torch's ones and zeros.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, a=NEGATIVE_SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, BranchBlock):
            norm = module.branch[-1].norm
            nn.init.zeros_(norm.weight)  # type: ignore[arg-type]
            nn.init.zeros_(norm.bias)  # type: ignore[arg-type]


def cumulative_strides(strides: Sequence[Triple]) -> tuple[Triple, ...]:
    """Return the stride of each level against the input, from the stride of each level against the one before.

    Example:
        >>> cumulative_strides([(1, 1, 1), (1, 2, 2), (2, 2, 2)])
        ((1, 1, 1), (1, 2, 2), (2, 4, 4))
    """
    return tuple(
        (
            math.prod(stride[0] for stride in strides[: level + 1]),
            math.prod(stride[1] for stride in strides[: level + 1]),
            math.prod(stride[2] for stride in strides[: level + 1]),
        )
        for level in range(len(strides))
    )


def check_input_size(images: Tensor, *, in_channels: int, size_multiple: Triple) -> None:
    """Refuse images that the network cannot take, with a size that it can.

    Nothing is checked while the graph is captured (export, compile), where sizes are symbols.

    Args:
        images: (B, C, z, y, x).
        in_channels: Channels that the network takes.
        size_multiple: What the sizes must be multiples of, (z, y, x).

    Raises:
        ConfigError: Wrong number of axes or channels, a size that is no multiple, or one that leaves a single voxel.
    """
    if torch.compiler.is_compiling():
        return
    if images.dim() != 5 or images.shape[1] != in_channels:
        raise ConfigError(
            f"The encoder takes images (batch, {in_channels}, z, y, x). Got shape {tuple(images.shape)}. "
            "Set in_channels to the number of channels of the data."
        )
    size = tuple(images.shape[2:])
    if any(length % multiple for length, multiple in zip(size, size_multiple, strict=True)):
        allowed = tuple(-(-length // multiple) * multiple for length, multiple in zip(size, size_multiple, strict=True))
        raise ConfigError(
            f"The encoder takes windows whose size (z, y, x) is a multiple of {size_multiple}. Got {size}. "
            f"Try {allowed}."
        )
    if size == size_multiple:
        raise ConfigError(
            f"A window of {size} voxels shrinks to a single voxel at the coarsest level, which normalisation makes a "
            f"constant. Take windows of at least {tuple(2 * multiple for multiple in size_multiple)}, or fewer stages."
        )


def run_stage(stage: Callable[[Tensor], Output], features: Tensor, *, checkpointing: bool) -> Output:
    """Run ``stage``; with ``checkpointing``, forget its activations and compute them again in the backward pass."""
    if checkpointing and torch.is_grad_enabled():
        recomputed: Output = checkpoint(stage, features, use_reentrant=False)
        return recomputed
    return stage(features)
