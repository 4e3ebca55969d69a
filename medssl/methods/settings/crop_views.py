"""Settings of `medssl.methods.crop_views`."""

from __future__ import annotations

from pydantic import Field

from medssl.settings import Settings
from medssl.views.settings.intensity import IntensitySettings
from medssl.views.settings.spatial import SpatialSettings

__all__ = ["CropSettings", "Triple"]

Triple = tuple[int, int, int]


class CropSettings(Settings):
    """Where views come from and how they are changed."""

    window: Triple = Field((96, 96, 96), description="Window read from a scan, in voxels, (z, y, x).")
    crop: Triple = Field((64, 64, 64), description="Size of a view; it lies at random in the window.")
    views: int = Field(2, ge=2, description="Views of this size a window.")
    local_crop: Triple = Field((32, 32, 32), description="Size of the small views, where there are any.")
    local_views: int = Field(0, ge=0, description="Small views a window (multi-crop); the teacher never sees them.")
    spatial: SpatialSettings = SpatialSettings(
        flip=(0.0, 0.0, 0.5), rotate_degrees=(15.0, 15.0, 15.0), scale=(0.8, 1.25), probability=0.8
    )
    intensity: IntensitySettings = IntensitySettings(
        contrast=(0.65, 1.5),
        brightness=0.15,
        gamma=(0.7, 1.5),
        noise=0.08,
        blur_voxels=1.0,
        low_resolution=1.5,
        probability=0.5,
    )
