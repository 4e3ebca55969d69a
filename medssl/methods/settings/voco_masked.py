"""Settings of `medssl.methods.voco_masked`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medssl.methods.settings.masked import MaskedReconstructionSettings
from medssl.methods.settings.voco import VoCoSettings
from medssl.settings import Settings

__all__ = ["VoCoMaskedSettings"]


class VoCoMaskedSettings(Settings):
    """Settings of the joined method: those of its two parts, and the weight of each."""

    name: Literal["voco_masked"] = "voco_masked"
    voco: VoCoSettings = VoCoSettings()
    masked: MaskedReconstructionSettings = MaskedReconstructionSettings()
    voco_weight: float = Field(1.0, ge=0, description="Weight of the position contrast.")
    masked_weight: float = Field(10.0, ge=0, description="Weight of the reconstruction (its error is far below 1).")
