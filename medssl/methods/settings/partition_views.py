"""Settings of `medssl.methods.partition_views`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medssl.settings import Settings
from medssl.views.settings.intensity import IntensitySettings

__all__ = ["PartitionSettings", "Triple"]

Triple = tuple[int, int, int]


class PartitionSettings(Settings):
    """What images are, and how their contrast is scaled; the defaults are the paper's, on slices."""

    window: Triple = Field((1, 192, 192), description="An image: a slice (z = 1) or a sub-volume, (z, y, x).")
    partitions: int = Field(4, ge=2, description="Parts of the body along z; one image of each scan in each.")
    within: Literal["body", "scan"] = Field(
        "body", description="What is cut into parts: the body box, or the whole scan as published."
    )
    temperature: float = Field(0.1, gt=0, description="Temperature of the contrast.")
    normalise: Literal["mean", "published"] = Field("mean", description="Scale of the loss: a mean, or as released.")
    projected: int = Field(128, ge=8, description="Length of the projected features.")
    intensity: IntensitySettings = IntensitySettings(contrast=(0.7, 1.3), brightness=0.3)
