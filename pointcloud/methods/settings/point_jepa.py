"""Settings of `pointcloud.methods.point_jepa`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from medssl.settings import Settings
from pointcloud.views.settings.spatial import SpatialSettings

__all__ = ["PointJEPASettings", "Share"]

Share = Annotated[float, Field(gt=0, lt=1)]


class PointJEPASettings(Settings):
    """Settings of Point-JEPA; the defaults are the paper's."""

    name: Literal["point_jepa"] = "point_jepa"
    points: int = Field(1024, ge=8, description="Points of a cloud that are seen at a step.")
    targets: int = Field(4, ge=1, description="Stretches of patches that are foretold.")
    target_ratio: tuple[Share, Share] = Field((0.15, 0.2), description="Least and greatest share of patches in each.")
    context_ratio: tuple[Share, Share] = Field(
        (0.4, 0.75), description="Least and greatest share, in the context, of the patches that are in no target."
    )
    predictor_width: int = Field(192, ge=4, description="Length of a token of the predictor.")
    predictor_depth: int = Field(6, ge=1, description="Blocks of the predictor.")
    predictor_heads: int = Field(6, ge=1, description="Attention heads of the predictor; divides its width.")
    beta: float = Field(2.0, gt=0, description="Difference at which the loss turns from squared to absolute.")
    momentum: float = Field(0.9995, ge=0, le=1, description="Momentum of the teacher at the start.")
    final_momentum: float = Field(0.99999, ge=0, le=1, description="Momentum at the end; cosine between the two.")
    spatial: SpatialSettings = SpatialSettings(rotate="z", scale=(0.8, 1.25), by_axis=True)

    @model_validator(mode="after")
    def _fits(self) -> PointJEPASettings:
        for name in ("target_ratio", "context_ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must begin with the lower share. Got {(low, high)}.")
        if self.predictor_width % self.predictor_heads:
            raise ValueError(
                f"predictor_heads must divide predictor_width. Got {self.predictor_heads} for {self.predictor_width}."
            )
        return self
