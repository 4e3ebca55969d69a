"""Settings of `medssl.methods.slotcon`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from medssl.settings import Settings
from medssl.views.settings.intensity import IntensitySettings

__all__ = ["SlotConSettings", "Triple"]

Triple = tuple[int, int, int]


def _intensity() -> IntensitySettings:
    return IntensitySettings(
        contrast=(0.65, 1.5), brightness=0.15, gamma=(0.7, 1.5), noise=0.08, blur_voxels=1.0, probability=0.5
    )


class SlotConSettings(Settings):
    """Settings of SlotCon."""

    name: Literal["slotcon"] = "slotcon"
    window: Triple = Field((96, 96, 96), description="Window read from a scan, in voxels, (z, y, x).")
    crop: Triple = Field((64, 64, 64), description="Size of a view, in voxels.")
    edge: tuple[float, float] = Field(
        (0.7, 1.3), description="Range of a region's edge, in edges of the view that it is resized to; 1 keeps voxels."
    )
    overlap: float = Field(0.01, ge=0, lt=1, description="Share of the second region that the first must cover.")
    flip: tuple[float, float, float] = Field(
        (0.0, 0.0, 0.5), description="Probability of a flip along z, y, x; x swaps left and right."
    )
    intensity: IntensitySettings = Field(default_factory=_intensity, description="Contrast, noise, blur.")
    prototypes: int = Field(256, ge=2, description="Groups; 256 in the paper for COCO, 2048 for ImageNet.")
    hidden: int = Field(4096, ge=8, description="Width of projector and predictor.")
    projected: int = Field(256, ge=4, description="Length of a place's projection.")
    temperature: float = Field(0.1, gt=0, description="Temperature of the student's groups in the distillation.")
    teacher_temperature: float = Field(
        0.07, gt=0, description="Temperature of the teacher's groups, and of both networks' slots."
    )
    slot_temperature: float = Field(0.2, gt=0, description="Temperature of the contrast of slots.")
    group_weight: float = Field(0.5, ge=0, le=1, description="Weight of the distillation; the rest is the contrast's.")
    centre_momentum: float = Field(0.9, ge=0, le=1, description="Momentum of the teacher's centre.")
    momentum: float = Field(0.99, ge=0, le=1, description="Momentum of the teacher at the start.")
    final_momentum: float = Field(1.0, ge=0, le=1, description="Momentum at the end; cosine between the two.")

    @model_validator(mode="after")
    def _edges_fit(self) -> Self:
        if not 0 < self.edge[0] <= self.edge[1]:
            raise ValueError(f"edge is a range above 0, the smaller first. Got {self.edge}.")
        return self
