"""Settings of `medssl.encoders.stunet`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from medssl.encoders.settings.staged import Positive, StagedSettings

__all__ = ["STUNetSettings"]


class STUNetSettings(StagedSettings):
    """An STU-Net encoder. The defaults are STU-Net-B.

    For a CPU or a first try: ``channels: [8, 16, 32, 64]``.
    """

    name: Literal["stunet"] = "stunet"
    usual_blocks: ClassVar[tuple[int, ...]] = (1,)
    channels: tuple[Positive, ...] = Field(
        default=(32, 64, 128, 256, 512, 512), min_length=1, description="Channels of each stage, finest first."
    )
