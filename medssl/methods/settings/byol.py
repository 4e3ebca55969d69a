"""Settings of `medssl.methods.byol`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medssl.methods.settings.crop_views import CropSettings
from medssl.methods.settings.parts import WithParts

__all__ = ["BYOLSettings", "SimSiamSettings"]


class BYOLSettings(WithParts, CropSettings):
    """Settings of BYOL."""

    name: Literal["byol"] = "byol"
    momentum: float = Field(0.99, ge=0, le=1, description="Momentum of the teacher at the start; .996 for long runs.")
    final_momentum: float = Field(1.0, ge=0, le=1, description="Momentum at the end; cosine between the two.")
    hidden: int = Field(1024, ge=8, description="Width of projector and predictor; 4096 in the paper.")
    projected: int = Field(256, ge=8, description="Length of the projected features.")

    @property
    def offers(self) -> frozenset[str]:
        """A teacher, whose features are predicted."""
        return frozenset({"prediction"})


class SimSiamSettings(CropSettings):
    """Settings of SimSiam."""

    name: Literal["simsiam"] = "simsiam"
    hidden: int = Field(512, ge=8, description="Width of the projector; 2048 in the paper.")
    projected: int = Field(512, ge=8, description="Length of the projected features; 2048 in the paper.")
    bottleneck: int = Field(128, ge=4, description="Width of the predictor, a quarter of the features in the paper.")
