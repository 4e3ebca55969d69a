"""Settings of `medssl.views.intensity`."""

from __future__ import annotations

from pydantic import Field

from medssl.settings import Settings

__all__ = ["IntensitySettings"]


class IntensitySettings(Settings):
    """Ranges of the changes and the probability of each; the default changes nothing."""

    contrast: tuple[float, float] = Field((1.0, 1.0), description="Range of the factor about the item's mean.")
    brightness: float = Field(0.0, ge=0, description="Largest added offset, in units of the image range.")
    gamma: tuple[float, float] = Field((1.0, 1.0), description="Range of the exponent, drawn log-uniformly.")
    noise: float = Field(0.0, ge=0, description="Largest standard deviation of added Gaussian noise.")
    blur_voxels: float = Field(0.0, ge=0, description="Largest standard deviation of a Gaussian blur, in voxels.")
    low_resolution: float = Field(1.0, ge=1, description="Largest factor of simulated down- and upsampling.")
    probability: float = Field(1.0, ge=0, le=1, description="Probability of each change, drawn one by one.")
