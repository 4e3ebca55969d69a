"""Settings of `pointcloud.methods.point_mae`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medssl.settings import Settings
from pointcloud.views.settings.spatial import SpatialSettings

__all__ = ["PointMAESettings"]


class PointMAESettings(Settings):
    """Settings of Point-MAE; the defaults are the paper's."""

    name: Literal["point_mae"] = "point_mae"
    points: int = Field(1024, ge=8, description="Points of a cloud that are seen at a step.")
    ratio: float = Field(0.6, gt=0, lt=1, description="Share of the patches that are hidden.")
    decoder_depth: int = Field(4, ge=1, description="Blocks of the decoder, as wide as the encoder's.")
    spatial: SpatialSettings = SpatialSettings(scale=(2 / 3, 3 / 2), by_axis=True, translate=0.2)
