"""Settings of `medssl.methods.swav`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medssl.methods.settings.crop_views import CropSettings

__all__ = ["SwAVSettings"]


class SwAVSettings(CropSettings):
    """Settings of SwAV."""

    name: Literal["swav"] = "swav"
    prototypes: int = Field(300, ge=2, description="Prototypes; 3000 in the paper, for a million images.")
    temperature: float = Field(0.1, gt=0, description="Temperature of the prediction.")
    epsilon: float = Field(0.05, gt=0, description="Smoothness of the assignments.")
    iterations: int = Field(3, ge=1, description="Sinkhorn iterations.")
    queue: int = Field(512, ge=0, description="Features of each view that are kept to assign with small batches.")
    queue_from: float = Field(0.15, ge=0, le=1, description="Share of the run before the queue is used.")
    freeze_prototypes: float = Field(0.01, ge=0, le=1, description="Share of the run in which prototypes stand still.")
    hidden: int = Field(512, ge=8, description="Width of the projector; 2048 in the paper.")
    projected: int = Field(128, ge=8, description="Length of the projected features.")
