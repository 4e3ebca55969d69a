"""Settings of `pointcloud.views.multi_crop`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from medssl.settings import Settings
from pointcloud.views.settings.crops import CropSettings
from pointcloud.views.settings.spatial import SpatialSettings

__all__ = ["MultiCropSettings"]


class MultiCropSettings(Settings):
    """Where views come from and how they are changed; the defaults are those of the published code."""

    points: int = Field(1024, ge=8, description="Points of a cloud from which its views are cut.")
    large: CropSettings = CropSettings(number=2, share=(0.5, 0.9))
    small: CropSettings = CropSettings(number=8, share=(0.2, 0.5))
    spatial: SpatialSettings = SpatialSettings(scale=(2 / 3, 3 / 2), by_axis=True, translate=0.2, jitter=0.01)
    fill: bool = Field(
        False, description="Whether crops are filled by interpolation up to one number of points, as was published."
    )
    thinned: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        (512, 256, 128, 64), description="Numbers of points to which the whole cloud is thinned for further views."
    )
    thinned_number: int = Field(2, ge=1, description="Views at each of these numbers.")
    thinned_spatial: SpatialSettings = SpatialSettings(translate=1.0, jitter=0.01)
