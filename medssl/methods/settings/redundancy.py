"""Settings of `medssl.methods.redundancy`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medssl.methods.settings.crop_views import CropSettings

__all__ = ["BarlowTwinsSettings", "VICRegSettings"]


class BarlowTwinsSettings(CropSettings):
    """Settings of Barlow Twins."""

    name: Literal["barlow"] = "barlow"
    off_diagonal: float = Field(0.0051, ge=0, description="Weight of the off-diagonal correlations.")
    hidden: int = Field(1024, ge=8, description="Width of the projector.")
    projected: int = Field(1024, ge=8, description="Length of the projected features.")


class VICRegSettings(CropSettings):
    """Settings of VICReg."""

    name: Literal["vicreg"] = "vicreg"
    invariance: float = Field(25.0, ge=0, description="Weight of the squared difference of views.")
    variance: float = Field(25.0, ge=0, description="Weight of the hinge on the deviation of each feature.")
    covariance: float = Field(1.0, ge=0, description="Weight of the covariances.")
    hidden: int = Field(1024, ge=8, description="Width of the projector.")
    projected: int = Field(1024, ge=8, description="Length of the projected features.")
