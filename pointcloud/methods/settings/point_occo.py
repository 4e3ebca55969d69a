"""Settings of `pointcloud.methods.point_occo`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medssl.settings import Settings
from pointcloud.views.settings.occlusion import OcclusionSettings
from pointcloud.views.settings.spatial import SpatialSettings

__all__ = ["PointOcCoSettings"]


class PointOcCoSettings(Settings):
    """Settings of completion; the decoder and both weights are PCN's, the rest ours."""

    name: Literal["point_occo"] = "point_occo"
    points: int = Field(1024, ge=8, description="Points of a cloud that are seen at a step.")
    coarse: int = Field(1024, ge=1, description="Points that are drawn from the embedding alone.")
    grid: int = Field(4, ge=1, description="Each of them becomes a grid of this many by this many points.")
    hidden: int = Field(1024, ge=8, description="Width of the layers that draw the coarse points.")
    fold_hidden: int = Field(512, ge=8, description="Width of the layers that fold the grids.")
    fine_weight: float = Field(0.01, ge=0, description="Weight of the fine points' distance at the start.")
    final_fine_weight: float = Field(1.0, ge=0, description="Weight after its rise.")
    fine_rise: float = Field(0.5, ge=0, le=1, description="Share of the run over which it rises.")
    occlusion: OcclusionSettings = OcclusionSettings()
    spatial: SpatialSettings = SpatialSettings()
