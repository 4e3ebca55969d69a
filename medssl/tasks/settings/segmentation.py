"""Settings of `medssl.tasks.segmentation`."""

from __future__ import annotations

from pydantic import Field

from medssl.settings import Settings
from medssl.views.settings.intensity import IntensitySettings
from medssl.views.settings.spatial import SpatialSettings

__all__ = ["SegmentationSettings", "Triple"]

Triple = tuple[int, int, int]


def _spatial() -> SpatialSettings:
    return SpatialSettings(rotate_degrees=(15.0, 15.0, 15.0), scale=(0.8, 1.25), probability=0.5)


def _intensity() -> IntensitySettings:
    return IntensitySettings(
        contrast=(0.75, 1.25),
        brightness=0.1,
        gamma=(0.7, 1.5),
        noise=0.05,
        blur_voxels=1.0,
        low_resolution=2.0,
        probability=0.2,
    )


class SegmentationSettings(Settings):
    """What a segmenter is trained with, beyond the encoder and the schedule."""

    window: Triple = Field(default=(96, 96, 96), description="Voxels of a training and inference window, (z, y, x).")
    foreground_share: float = Field(
        default=0.5, ge=0, le=1, description="Share of windows that must hold a labelled voxel."
    )
    structures: tuple[int, ...] | None = Field(
        default=None,
        description="Structure numbers to segment; the others become background. None takes all of the store.",
    )
    regions: bool | None = Field(
        default=None,
        description="Whether the store's regions (unions of structures, which may overlap) are segmented, each with a "
        "sigmoid of its own. None: where the store has some and structures names none.",
    )
    convs_per_stage: int = Field(default=1, ge=1, description="Convolution blocks in each stage of the decoder.")
    deep_supervision: bool = Field(
        default=False, description="Whether coarser stages of the decoder are supervised too."
    )
    dice_weight: float = Field(default=1.0, ge=0, description="Weight of the soft Dice loss.")
    cross_entropy_weight: float = Field(default=1.0, ge=0, description="Weight of the cross-entropy.")
    batch_dice: bool = Field(default=True, description="Whether the Dice sums over the batch before its ratio.")
    spatial: SpatialSettings = Field(default_factory=_spatial, description="Rotation, scale and flips.")
    intensity: IntensitySettings = Field(default_factory=_intensity, description="Contrast, noise, blur, resolution.")
