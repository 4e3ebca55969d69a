"""Settings of `pointcloud.encoders.pointnet`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medssl.settings import Settings

__all__ = ["PointNetSettings"]


class PointNetSettings(Settings):
    """Settings of PointNet; the defaults are the paper's."""

    name: Literal["pointnet"] = "pointnet"
    widths: tuple[int, ...] = Field((64, 64, 64, 128, 1024), min_length=2, description="Outputs of the shared layers.")
    transforms: bool = Field(
        True, description="Whether the cloud, and its features after two layers, are turned by learned matrices."
    )
