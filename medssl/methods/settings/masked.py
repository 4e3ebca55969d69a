"""Settings of `medssl.methods.masked`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medssl.methods.settings.masked_window import MaskedWindowSettings

__all__ = ["MaskedReconstructionSettings", "Triple"]

Triple = tuple[int, int, int]


class MaskedReconstructionSettings(MaskedWindowSettings):
    """Settings of masked reconstruction."""

    name: Literal["masked"] = "masked"
    patch: Triple = Field((8, 8, 8), description="Size of the patches that are hidden, in voxels.")
