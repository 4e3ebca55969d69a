"""Settings of `medssl.encoders.swin`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from medssl.encoders.settings.input import InputSettings

__all__ = ["Four", "Positive", "SwinSettings"]

Positive = Annotated[int, Field(ge=1)]


Four = tuple[Positive, Positive, Positive, Positive]


class SwinSettings(InputSettings):
    """A Swin UNETR encoder. The defaults are the smallest published VoCo (feature_size 48, version 2)."""

    name: Literal["swin"] = "swin"
    feature_size: int = Field(
        default=48, ge=12, description="Channels of the finest level, a multiple of 12; 24, 48, 96, 192 are published."
    )
    depths: Four = Field(default=(2, 2, 2, 2), description="Transformer blocks of each of the four stages.")
    heads: Four = Field(default=(3, 6, 12, 24), description="Attention heads of each stage.")
    window: Positive = Field(default=7, description="Side of the attention window, in tokens.")
    use_v2: bool = Field(
        default=True, description="Whether a residual convolution block begins each stage (Swin UNETR V2, as in VoCo)."
    )
    merging: Literal["monai", "legacy"] = Field(
        default="monai",
        description="Which of the eight sub-grids of tokens a stage joins: 'monai' all, as MONAI from 1.5 on; 'legacy' "
        "those of MONAI until 1.4, which all published Swin UNETR and VoCo weights were trained with.",
    )
    axes: Literal["zyx", "xyz"] = Field(
        default="zyx",
        description="Axes of the arrays that the weights were trained on: 'zyx' as here, or 'xyz' as MONAI's users "
        "have them; images are then turned before the network, and its features back.",
    )
    drop_path: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="Share of residual branches dropped in the deepest block, in training."
    )
    checkpointing: bool = Field(
        default=False, description="Recompute each block in the backward pass: less memory, about a third more time."
    )

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        if self.feature_size % 12:
            raise ValueError(
                f"feature_size must be a multiple of 12. Got {self.feature_size}. "
                f"Try {max(12, round(self.feature_size / 12) * 12)}."
            )
        widths = [self.feature_size * 2**stage for stage in range(4)]
        wrong = [(w, h) for w, h in zip(widths, self.heads, strict=True) if w % h]
        if wrong:
            raise ValueError(
                f"heads must divide the channels of their stage, {widths}. Got {list(self.heads)}. Try [3, 6, 12, 24]."
            )
        return self
