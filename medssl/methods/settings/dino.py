"""Settings of `medssl.methods.dino`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from medssl.methods.settings.crop_views import CropSettings
from medssl.methods.settings.prototypes import PrototypeSettings

__all__ = ["DINOSettings", "IBOTSettings"]


class DINOSettings(PrototypeSettings, CropSettings):
    """Settings of DINO."""

    name: Literal["dino"] = "dino"
    local_views: int = Field(4, ge=0, description="Small views a window, for the student alone.")


class IBOTSettings(DINOSettings):
    """Settings of iBOT: those of DINO, and the masks."""

    name: Literal["ibot"] = "ibot"  # type: ignore[assignment]
    mask: Literal["block", "random"] = Field(
        "block", description="What is hidden: blocks, as published, or patches one by one."
    )
    mask_ratio: float = Field(0.3, gt=0, lt=1, description="Share of the patches that are hidden in a masked view.")
    mask_spread: float = Field(0.2, ge=0, lt=1, description="How far a view's share may lie from it, for blocks.")
    mask_probability: float = Field(0.5, gt=0, le=1, description="Share of the large views that are masked.")
    patch_mean: Literal["all", "masked"] = Field(
        "all", description="Large views of the mean at patches: all, as published, or those with a masked patch."
    )
    patch_weight: float = Field(1.0, ge=0, description="Weight of the loss at masked patches.")

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        low, high = self.mask_ratio - self.mask_spread, self.mask_ratio + self.mask_spread
        if self.mask == "block" and not 0 <= low <= high < 1:
            raise ValueError(
                f"mask_spread must leave shares between 0 and 1 about mask_ratio, {self.mask_ratio}. Got "
                f"{self.mask_spread}."
            )
        return self
