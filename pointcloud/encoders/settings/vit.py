"""Settings of `pointcloud.encoders.vit`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from medssl.settings import Settings

__all__ = ["PointViTSettings"]


class PointViTSettings(Settings):
    """Settings of the 3D vision transformer; the defaults are the small model of the papers."""

    name: Literal["point_vit"] = "point_vit"
    width: int = Field(192, ge=4, description="Length of a token.")
    depth: int = Field(4, ge=1, description="Transformer blocks.")
    heads: int = Field(4, ge=1, description="Attention heads; divides the width.")
    mlp_ratio: float = Field(2.0, gt=0, description="Width of the perceptrons, as a multiple of the tokens'.")
    drop_path: float = Field(0.0, ge=0, lt=1, description="Chance that a branch is left out, in the last block.")
    points_per_token: int = Field(32, ge=1, description="A cloud of N points has ceil(N / this) tokens.")
    patch: int = Field(32, ge=2, description="Points of a patch: those nearest to its place.")
    tokeniser: Literal["edge", "pointnet"] = Field("edge", description="How a patch becomes a token.")
    tokeniser_scale: float = Field(
        1.0,
        gt=0,
        le=4,
        description="Width of the tokeniser's layers, as a multiple of the papers'; most of a small "
        "model's time goes there.",
    )
    positions: Literal["none", "input", "every"] = Field(
        "none", description="Whether the places are told to the blocks: not, to the first, or to every one."
    )
    pool: Literal["cls", "max_mean"] = Field(
        "cls", description="The embedding: a class token, or the tokens' maximum beside their mean."
    )

    @model_validator(mode="after")
    def _heads_fit(self) -> PointViTSettings:
        if self.width % self.heads:
            raise ValueError(f"heads must divide width. Got {self.heads} heads for a width of {self.width}.")
        return self
