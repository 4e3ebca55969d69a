"""What fine-tuning on clouds may be told."""

from __future__ import annotations

from pydantic import Field

from medssl.settings import Settings
from pointcloud.views.settings.spatial import SpatialSettings

__all__ = ["CloudTaskSettings"]


class CloudTaskSettings(Settings):
    """Head and augmentation of a network on clouds; the augmentation is Point-MAE's (Pang et al. 2022)."""

    points: int = Field(1024, ge=8, description="Points of a cloud that the network sees at once.")
    hidden: tuple[int, ...] = Field(
        (256, 256), description="Widths of the layers before the last; [] for a linear head."
    )
    dropout: float = Field(0.5, ge=0, lt=1, description="Share of features dropped after each of those layers.")
    frozen: bool = Field(False, description="Train the head alone, and leave the encoder as it is.")
    told_class: bool = Field(
        True,
        description="Segmentation: tell the network each cloud's class, and choose among that class's parts alone, as "
        "ShapeNetPart's protocol does.",
    )
    votes: int = Field(
        1, ge=1, description="Predictions that are averaged, each of other points and augmented anew; 1: a single one."
    )
    calibrate: bool = Field(
        True,
        description="Classification: choose a temperature (of two classes a threshold too) on the held-out clouds.",
    )
    spatial: SpatialSettings = Field(
        SpatialSettings(scale=(2 / 3, 3 / 2), by_axis=True, translate=0.2), description="Turns, size, shifts, noise."
    )
