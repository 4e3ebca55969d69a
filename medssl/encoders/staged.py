"""What the convolutional encoders share: settings of their stages, and the pass through them."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from medssl.encoders.blocks import check_input_size, cumulative_strides, initialise, run_stage
from medssl.encoders.contract import Encoder
from medssl.encoders.settings.staged import StagedSettings

__all__ = ["StagedEncoder", "StagedSettings"]


class StagedEncoder(Encoder):
    """A stem, then stages each of which gives one level of the pyramid.

    Attributes:
        settings: The stages.
        kernels: Kernel size of each level, (z, y, x); a decoder that is to fit nnU-Net takes the same.

    Args:
        settings: The stages.
        stem: What runs before the first stage, at full resolution.
        stages: One module a stage.
    """

    def __init__(self, settings: StagedSettings, *, stem: nn.Module, stages: list[nn.Module]) -> None:
        super().__init__()
        self.settings: StagedSettings = settings
        self.in_channels = settings.input_channels
        self.channels = settings.channels
        self.strides = cumulative_strides(settings.stage_strides)
        self.kernels = settings.stage_kernels
        self.size_multiple = self.strides[-1]
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        initialise(self)
        self.pool_by(settings.pool)

    def levels(self, images: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Return one (B, channels[i], z, y, x) tensor a stage of ``images`` (B, C, z, y, x), finest first.

        Raises:
            ConfigError: A size is no multiple of ``size_multiple``, or the channels differ.
        """
        check_input_size(images, in_channels=self.in_channels, size_multiple=self.size_multiple)
        checkpointing = self.settings.checkpointing and self.training
        features = self.stem(images)
        pyramid = []
        before_norm: Tensor | None = None
        for number, stage in enumerate(self.stages, start=1):
            if number == len(self.stages) and self.pooling.kind == "prenorm":
                features, before_norm = run_stage(partial(_last_stage, stage), features, checkpointing=checkpointing)
            else:
                features = run_stage(stage, features, checkpointing=checkpointing)
            pyramid.append(features)
        return pyramid, before_norm


def _last_stage(stage: Any, features: Tensor) -> tuple[Tensor, Tensor]:
    """Run a stage, and keep what enters its last norm."""
    *blocks, last = stage
    for block in blocks:
        features = block(features)
    both: tuple[Tensor, Tensor] = last.with_convolved(features)
    return both
