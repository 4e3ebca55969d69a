"""Settings of `pointcloud.views.occlusion`."""

from __future__ import annotations

from pydantic import Field

from medssl.settings import Settings

__all__ = ["OcclusionSettings"]


class OcclusionSettings(Settings):
    """How dense a camera's pixels are; lengths are in radii of the cloud. Ours, for 500 to 2000 points."""

    pixel: float = Field(0.15, gt=0, description="Edge of a pixel; one should hold several points of a surface.")
    depth: float = Field(0.15, gt=0, description="How far behind a pixel's nearest point others are seen too.")
