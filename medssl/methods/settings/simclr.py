"""Settings of `medssl.methods.simclr`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medssl.methods.settings.crop_views import CropSettings

__all__ = ["SimCLRSettings"]


class SimCLRSettings(CropSettings):
    """Settings of SimCLR."""

    name: Literal["simclr"] = "simclr"
    temperature: float = Field(0.1, gt=0, description="Temperature of the contrast.")
    decoupled: Literal["no", "dcl", "dclw"] = Field(
        "no", description="no: NT-Xent; dcl: the positive leaves the denominator; dclw: and hard positives weigh more."
    )
    sigma: float = Field(0.5, gt=0, description="Sharpness of the weights of dclw.")
    hidden: int = Field(512, ge=8, description="Width of the projection head.")
    projected: int = Field(128, ge=8, description="Length of the projected features.")
