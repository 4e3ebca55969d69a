"""What a classifier distinguishes, what it looks at, and how it is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medssl.settings import Settings
from medssl.views.settings.intensity import IntensitySettings
from medssl.views.settings.spatial import SpatialSettings

__all__ = ["ClassificationSettings"]

Triple = tuple[int, int, int]


def _spatial() -> SpatialSettings:
    return SpatialSettings(rotate_degrees=(15.0, 15.0, 15.0), scale=(0.8, 1.25), translate=0.1, probability=0.5)


def _intensity() -> IntensitySettings:
    return IntensitySettings(
        contrast=(0.75, 1.25), brightness=0.1, gamma=(0.7, 1.5), noise=0.05, blur_voxels=1.0, probability=0.2
    )


class ClassificationSettings(Settings):
    """What a classifier distinguishes, what it looks at, and how it is trained, beyond the encoder and the schedule."""

    target: str = Field(default="", description="Target of the store that is learned, such as diagnosis.")
    shows: int | None = Field(
        default=None, description="In place of a target: a structure's number; the classes are absent and present."
    )
    shows_voxels: int = Field(default=1, ge=1, description="Voxels of the structure from which on it is present.")
    classes: tuple[str, ...] | None = Field(
        default=None, description="Classes of the target in order, the last of two is the positive one; None takes all."
    )
    level: Literal["volume", "slice", "set"] = Field(
        default="volume",
        description="'volume': a scan at once; 'slice': each slice, averaged over the scan where the class is the "
        "scan's; 'set': slices of a scan, pooled by attention.",
    )
    window: Triple = Field(
        default=(64, 96, 96), description="Voxels that the network sees at once, (z, y, x); z is 1 for slices."
    )
    fit: Literal["resize", "crop"] = Field(
        default="resize", description="'resize' scales the body to the window; 'crop' keeps the store's voxels."
    )
    set_size: int = Field(default=16, ge=1, description="Slices of a set while training, spread over the body.")
    set_limit: int = Field(default=64, ge=1, description="Most slices of a set when predicting.")
    attention: int = Field(default=64, ge=1, description="Width of the attention over a set.")
    feature_norm: bool = Field(
        default=True, description="Whether features are standardised (batch norm) before the last layer."
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of features dropped before the last layer.")
    frozen: bool = Field(default=False, description="Train the head alone, and leave the encoder as it is.")
    balance: Literal["weights", "sampling", "none"] = Field(
        default="weights",
        description="'weights' weighs the loss so that classes count alike; 'sampling' draws classes, then patients.",
    )
    calibrate: bool = Field(
        default=True, description="Choose a temperature (and, of two classes, the threshold) on the held-out scans."
    )
    spatial: SpatialSettings = Field(default_factory=_spatial, description="Rotation, scale and flips.")
    intensity: IntensitySettings = Field(default_factory=_intensity, description="Contrast, noise, blur.")
