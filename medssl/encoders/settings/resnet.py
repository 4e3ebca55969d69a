"""Settings of `medssl.encoders.resnet`."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from medssl.encoders.settings.segres import FIXED_WORDS
from medssl.encoders.settings.staged import Positive, StagedSettings, Stride

__all__ = ["ResNetSettings"]


class ResNetSettings(StagedSettings):
    """A 3D ResNet. The defaults are MedicalNet's ResNet-18: stage 1 is the first convolution, by itself.

    For a CPU or a first try: ``channels: [8, 8, 16, 32, 64]``, ``blocks: 1``.
    """

    name: Literal["resnet"] = "resnet"
    usual_blocks: ClassVar[tuple[int, ...]] = (1, 2)
    channels: tuple[Positive, ...] = Field(
        default=(64, 64, 128, 256, 512), min_length=2, description="Channels of each stage, finest first."
    )
    strides: tuple[Stride, ...] | None = Field(
        default=(2, 2, 2, 1, 1), description="Stride with which each stage begins, a number or [z,y,x]."
    )
    kernels: Positive | tuple[Stride, ...] = Field(
        default=(7, 3, 3, 3, 3), description="Kernel size of each stage, a number or [z,y,x], odd."
    )
    dilations: tuple[Positive, ...] = Field(
        default=(1, 1, 1, 2, 4), description="Dilation of each stage's kernels, 1 and more."
    )
    bottleneck: bool = Field(
        default=False, description="Blocks of three convolutions, the middle one a quarter as wide (ResNet-50 and on)."
    )
    shortcut: Literal["projected", "padded"] = Field(
        default="projected",
        description="Where a block changes its channels: a convolution of one voxel (B), or channels of zeros (A).",
    )
    statistics: Literal["batch", "fixed"] = Field(default="batch", description=FIXED_WORDS)

    @model_validator(mode="after")
    def _widths_agree(self) -> Self:
        if len(self.dilations) != len(self.channels):
            raise ValueError(
                f"dilations has {len(self.dilations)} entries and channels has {len(self.channels)}; both count the "
                f"stages. Give {len(self.channels)} entries."
            )
        if self.bottleneck and any(width % 4 for width in self.channels[1:]):
            raise ValueError(f"With bottleneck, channels are multiples of 4. Got {list(self.channels)}.")
        if self.shortcut == "padded" and list(self.channels) != sorted(self.channels):
            raise ValueError(f"shortcut: padded needs channels that do not fall. Got {list(self.channels)}.")
        return self
