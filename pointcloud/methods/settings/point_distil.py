"""Settings of `pointcloud.methods.point_distil`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from medssl.methods.settings.parts import WithParts
from medssl.methods.settings.prototypes import PrototypeSettings
from pointcloud.views.settings.multi_crop import MultiCropSettings

__all__ = ["PointDistilSettings"]

_SCALE = 64.0  # of the published contrast, on scores that were divided by the student's temperature


class PointDistilSettings(WithParts, PrototypeSettings, MultiCropSettings):
    """Settings of distillation with contrast; the defaults are those of the published code."""

    name: Literal["point_distil"] = "point_distil"
    prototypes: int = Field(512, ge=2, description="Prototypes; 4096 in later work.")
    hidden: int = Field(2048, ge=8, description="Width of the head.")
    final_teacher_temperature: float = Field(0.04, gt=0, description="Temperature of the teacher after its warm-up.")
    temperature_warmup: float = Field(0.0, ge=0, le=1, description="Share of the run over which it rises.")
    freeze_prototypes: float = Field(
        1 / 300, ge=0, le=1, description="Share of the run in which prototypes stand still."
    )
    momentum: float = Field(0.996, ge=0, le=1, description="Momentum of the teacher at the start.")
    contrast_weight: float = Field(0.01, ge=0, description="Weight of the contrast; 0 is distillation alone.")
    contrast: Literal["scores", "bottleneck"] = Field(
        "scores",
        description="What is compared: the teacher's probabilities with the student's scores, as published, or both "
        "heads' normalised vectors before the prototypes, by InfoNCE, which needs no distinct prototypes yet.",
    )
    contrast_scale: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="One over the temperature of the contrast. None: 64 over the student's temperature (640) with "
        "contrast scores, as in the published code; 64 with contrast bottleneck.",
    )
    patch_weight: float = Field(0.0, ge=0, description="Weight of the distillation at hidden patches; 0 hides none.")
    mask_ratio: tuple[float, float] = Field((0.2, 0.4), description="Least and greatest share of hidden patches.")
    teacher_statistics: Literal["running", "batch"] = Field(
        "running", description="What the teacher's batch norms use: the student's running statistics, or its batch's."
    )

    @property
    def scale(self) -> float:
        """One over the temperature of the contrast."""
        published = _SCALE / self.temperature if self.contrast == "scores" else _SCALE
        return published if self.contrast_scale is None else self.contrast_scale

    @property
    def offers(self) -> frozenset[str]:
        """Pairs of a student's and a teacher's vector, where these are compared."""
        return frozenset({"contrast", "two views"} if self.contrast == "bottleneck" and self.contrast_weight else set())

    @model_validator(mode="after")
    def _shares_fit(self) -> PointDistilSettings:
        low, high = self.mask_ratio
        if not 0 < low <= high < 1:
            raise ValueError(f"mask_ratio must be two shares between 0 and 1, the lower first. Got {self.mask_ratio}.")
        if self.large.number < 2 and not (self.large.number and (self.small.number or self.thinned)):
            raise ValueError("A student needs a view that its teacher does not see: large.number 2, or small views.")
        return self
