"""Settings of `pointcloud.views.crops`."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from medssl.settings import Settings

__all__ = ["CropSettings", "Share"]

Share = Annotated[float, Field(gt=0, le=1)]


class CropSettings(Settings):
    """Which crops are taken of each cloud."""

    number: int = Field(2, ge=0, description="Crops of each cloud.")
    share: tuple[Share, Share] = Field((0.5, 0.9), description="Least and greatest share of the points in a crop.")
    shape: Literal["ball", "box"] = Field("ball", description="A ball, or a box of any direction.")
    aspect: float = Field(3.0, ge=1, description="Greatest ratio of a box's side to what it would be in a cube.")

    @model_validator(mode="after")
    def _in_order(self) -> CropSettings:
        if self.share[0] > self.share[1]:
            raise ValueError(f"share must begin with the lower number. Got {self.share}.")
        return self

    def length(self, points: int) -> int:
        """Return the most points that a crop of a cloud of ``points`` can have."""
        import numpy as np  # here: showing and checking settings needs none

        share = float(np.float32(self.share[1]))  # shares are drawn in float32, and as many points are kept of each
        return max(1, math.ceil(share * points - 1e-6))
