"""Settings of `medssl.encoders.unet3d`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from medssl.encoders.settings.staged import Positive, StagedSettings

__all__ = ["UNet3DSettings"]


class UNet3DSettings(StagedSettings):
    """The encoder of the first 3D U-Net. The defaults are Models Genesis's.

    For a CPU or a first try: ``channels: [8, 16, 32]``.
    """

    name: Literal["unet3d"] = "unet3d"
    channels: tuple[Positive, ...] = Field(
        default=(64, 128, 256, 512), min_length=1, description="Channels of each stage, finest first; even numbers."
    )

    @model_validator(mode="after")
    def _two_convolutions(self) -> Self:
        odd = [width for width in self.channels if width % 2]
        if odd or set(self.stage_blocks) != {2}:
            raise ValueError(
                "A stage of unet3d has two convolutions, the first half as wide: blocks is 2, and channels are even. "
                f"Got blocks {list(self.stage_blocks)} and channels {list(self.channels)}."
            )
        return self
