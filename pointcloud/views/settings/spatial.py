"""Settings of `pointcloud.views.spatial`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medssl.settings import Settings

__all__ = ["Positive", "SpatialSettings"]

Positive = Annotated[float, Field(gt=0)]


class SpatialSettings(Settings):
    """How much a cloud is turned and deformed; lengths are in radii of the cloud."""

    rotate: Literal["none", "z", "any"] = Field("none", description="Turns: none, about the z axis, or any rotation.")
    scale: tuple[Positive, Positive] = Field((1.0, 1.0), description="Least and greatest factor of size.")
    by_axis: bool = Field(False, description="Whether each axis has a factor of its own.")
    translate: float = Field(0.0, ge=0, description="Greatest shift along each axis.")
    jitter: float = Field(0.0, ge=0, description="Standard deviation of the noise on each coordinate.")
    jitter_clip: float = Field(0.05, gt=0, description="Greatest noise.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Greatest share of the points that is left out, evenly drawn.")
