"""Batch normalisation of volumes, by the statistics of a batch or by those that weights came with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from medssl.encoders.blocks import NORM_EPS

__all__ = ["FixedBatchNorm", "Statistics", "batch_norm"]

Statistics = Literal["batch", "fixed"]


class FixedBatchNorm(nn.Module):
    """A batch norm that takes its running mean and variance in training too, and does not move them.

    A batch of one or two windows says little of a mean, and published weights go with the statistics that they have.
    Scale and shift are trained. Names and shapes are those of ``torch.nn.BatchNorm3d``.

    Args:
        channels: Channels in and out.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C, z, y, x), each channel less its mean, over its deviation, scaled and shifted."""
        return nn.functional.batch_norm(
            features, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=NORM_EPS
        )


def batch_norm(statistics: Statistics) -> Callable[[int], nn.Module]:
    """Return what makes a batch norm of so many channels that goes by such statistics."""
    return FixedBatchNorm if statistics == "fixed" else nn.BatchNorm3d
