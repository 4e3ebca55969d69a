"""Settings of `medssl.methods.masked_window`."""

from __future__ import annotations

from pydantic import Field

from medssl.settings import Settings
from medssl.views.settings.intensity import IntensitySettings
from medssl.views.settings.spatial import SpatialSettings

__all__ = ["MaskedWindowSettings", "Triple"]

Triple = tuple[int, int, int]


class MaskedWindowSettings(Settings):
    """What every masked reconstruction may be told."""

    window: Triple = Field((64, 64, 64), description="Window in voxels, (z, y, x).")
    ratio: float = Field(0.75, gt=0, lt=1, description="Share of the patches that are hidden.")
    normalise: bool = Field(False, description="Normalise each patch of the target to mean 0 and deviation 1.")
    spatial: SpatialSettings = SpatialSettings(rotate_degrees=(10.0, 10.0, 10.0), scale=(0.9, 1.1), probability=0.5)
    intensity: IntensitySettings = IntensitySettings(
        contrast=(0.75, 1.25), brightness=0.1, gamma=(0.8, 1.25), probability=0.3
    )
