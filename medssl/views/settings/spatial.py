"""Settings of `medssl.views.spatial`."""

from __future__ import annotations

from pydantic import Field

from medssl.settings import Settings

__all__ = ["SpatialSettings"]


class SpatialSettings(Settings):
    """How far and how often items are flipped, turned and scaled.

    The default changes nothing; each method and task states what its labels allow.
    """

    flip: tuple[float, float, float] = Field(
        (0.0, 0.0, 0.0), description="Probability of a flip along z, y, x; x swaps left and right."
    )
    quarter_turn: float = Field(0.0, ge=0, le=1, description="Probability of a random quarter turn in the y-x plane.")
    rotate_degrees: tuple[float, float, float] = Field(
        (0.0, 0.0, 0.0), description="Largest rotation about z, y, x in degrees."
    )
    scale: tuple[float, float] = Field((1.0, 1.0), description="Range of the zoom; 1.1 makes things 10 % larger.")
    translate: float = Field(0.0, ge=0, le=1, description="Largest shift as a share of half the window.")
    probability: float = Field(1.0, ge=0, le=1, description="Share of the items that rotation and scale apply to.")
    thick: float = Field(
        3.0, gt=1, description="Slices thicker than this many voxels of their plane are turned in their plane alone."
    )
