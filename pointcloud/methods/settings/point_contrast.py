"""Settings of `pointcloud.methods.point_simclr` and `pointcloud.methods.point_moco`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from medssl.methods.settings.contrast import BatchContrastSettings, MomentumContrastSettings
from medssl.settings import Settings
from pointcloud.views.settings.crops import CropSettings
from pointcloud.views.settings.multi_crop import MultiCropSettings

__all__ = ["PairSettings", "PointMoCoSettings", "PointSimCLRSettings"]


class PairSettings(MultiCropSettings):
    """Two views of each cloud, large ones alone."""

    small: CropSettings = CropSettings(number=0, share=(0.2, 0.5))
    thinned: tuple[int, ...] = Field((), description="Views of fewer points; a contrast of pairs has none.")

    @model_validator(mode="after")
    def _two(self) -> Self:
        if self.large.number != 2 or self.small.number or self.thinned:
            raise ValueError(
                "A contrast of pairs takes two views of a cloud: large.number 2, small.number 0 and no thinned ones. "
                f"Got {self.large.number}, {self.small.number} and {list(self.thinned)}."
            )
        return self


class PointSimCLRSettings(BatchContrastSettings, PairSettings, Settings):
    """Settings of SimCLR on clouds."""

    name: Literal["point_simclr"] = "point_simclr"


class PointMoCoSettings(MomentumContrastSettings, PairSettings, Settings):
    """Settings of MoCo on clouds."""

    name: Literal["point_moco"] = "point_moco"
