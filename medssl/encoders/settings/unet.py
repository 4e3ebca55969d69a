"""Settings of `medssl.encoders.unet`."""

from __future__ import annotations

from typing import Literal

from medssl.encoders.settings.staged import StagedSettings

__all__ = ["UNetSettings"]


class UNetSettings(StagedSettings):
    """A plain U-Net encoder; ``blocks`` counts the convolutions of a stage. The defaults are nnU-Net's for 3D.

    For a CPU or a first try: ``channels: [8, 16, 32, 64]``.
    """

    name: Literal["unet"] = "unet"
