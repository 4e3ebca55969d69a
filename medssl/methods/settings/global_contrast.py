"""Settings of `medssl.methods.global_contrast`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medssl.methods.settings.partition_views import PartitionSettings
from medssl.views.settings.spatial import SpatialSettings

__all__ = ["GlobalContrastSettings"]


class GlobalContrastSettings(PartitionSettings):
    """Settings of the contrast of partitions; the defaults are the paper's, on slices."""

    name: Literal["global_contrast"] = "global_contrast"
    loss: Literal["random", "negatives", "aligned"] = Field(
        "aligned", description="G^R, G^D- or G^D of the paper; the last needs scans that show the same region."
    )
    hidden: int = Field(1024, ge=8, description="Width of the head.")
    head_bias: bool = Field(False, description="Whether the head's layers have biases; not as released.")
    pool: Literal["flatten", "mean"] = Field("flatten", description="What the head takes of the coarsest features.")
    spatial: SpatialSettings = SpatialSettings(scale=(1.92, 1.92), translate=0.3)
