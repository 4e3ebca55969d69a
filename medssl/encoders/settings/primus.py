"""Settings of `medssl.encoders.primus`."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from medssl.encoders.settings.vit import Positive, Size, TokenSettings

__all__ = ["PrimusSettings"]


class PrimusSettings(TokenSettings):
    """A Primus. The defaults are Primus-M over windows of 160 voxels.

    For a CPU or a first try: ``width: 72``, ``depth: 2``, ``heads: 3``.
    """

    sizes: ClassVar[dict[str, Size]] = {
        "small": Size(396, 12, 6),
        "base": Size(792, 12, 12),
        "medium": Size(864, 16, 12),
        "large": Size(1056, 24, 16),
    }

    name: Literal["primus"] = "primus"
    size: Literal["small", "base", "medium", "large"] = Field(
        default="medium",
        description="Primus-S (396 channels, 12 blocks, 6 heads), -B (792, 12, 12), -M (864, 16, 12), -L (1056, 24, "
        "16).",
    )
    mlp_ratio: float = Field(default=8 / 3, gt=0, description="Hidden channels of a block as a multiple of the width.")
    patch: Positive | tuple[Positive, Positive, Positive] = Field(
        default=8, description="Voxels of a token, a number or [z,y,x]."
    )
    grid: tuple[Positive, Positive, Positive] | None = Field(
        default=(20, 20, 20),
        description="Tokens of the learnt table, [z,y,x], which the rotary code counts too; both are interpolated for "
        "windows of other sizes. None leaves the table out, and counts the window's tokens.",
    )

    @model_validator(mode="after")
    def _heads_hold_three_axes(self) -> Self:
        width, _, heads = self.dimensions
        if (width // heads) % 6:
            raise ValueError(
                f"A head's channels are pairs for each of three axes, so width / heads is a multiple of 6. Got {width} "
                f"and {heads} heads; try width {heads * 6 * max(1, round(width / heads / 6))}."
            )
        return self
