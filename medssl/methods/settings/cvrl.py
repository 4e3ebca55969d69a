"""Settings of `medssl.methods.cvrl`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medssl.methods.settings.simclr import SimCLRSettings

__all__ = ["CVRLSettings", "Triple"]

Triple = tuple[int, int, int]


class CVRLSettings(SimCLRSettings):
    """Settings of CVRL. A crop that is as long as its window along ``axis`` keeps the distance that was drawn."""

    name: Literal["cvrl"] = "cvrl"  # type: ignore[assignment]
    window: Triple = Field((64, 96, 96), description="Window read from a scan, in voxels, (z, y, x).")
    crop: Triple = Field((64, 64, 64), description="Size of a view; it lies at random in the window.")
    views: Literal[2] = Field(2, description="Always two: one of each window.")
    local_views: Literal[0] = Field(0, description="Always none.")
    apart: Literal["gap", "frame"] = Field(
        "gap", description="gap: two places of one scan; frame: and of two scans of the patient, where there are."
    )
    axis: Literal[0, 1, 2] = Field(0, description="Axis of the distance: 0 is z.")
    gap_mm: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Largest distance in mm; None allows the whole length."
    )
    gap_power: float = Field(
        1.0, gt=0, description="How fast the density of distances falls; 1 is linear, as published."
    )
