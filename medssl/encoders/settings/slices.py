"""Settings of `medssl.encoders.slices`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from medssl.encoders.settings.input import InputSettings

__all__ = ["SliceSettings"]


class SliceSettings(InputSettings):
    """A 2D network of timm, with random weights.

    For a CPU or a first try: ``model: test_resnet``.
    """

    name: Literal["timm"] = "timm"
    model: str = Field(default="resnet18", description="Name of a timm model that gives a feature pyramid.")
    features: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None, min_length=1, description="Which levels of the model to take, rising. None takes all."
    )
    tokens: bool = Field(
        default=False,
        description="Of a transformer: take images of any size that its patch divides (its positions are "
        "interpolated), and norm what is taken of it, as published weights mean it.",
    )
    checkpointing: bool = Field(
        default=False, description="Recompute features in the backward pass: less memory, about a third more time."
    )

    @model_validator(mode="after")
    def _norm_is_known(self) -> Self:
        if self.pool == "prenorm":
            raise ValueError(
                "pool: prenorm is not for timm, whose models do not say which norm is their last (and the usual batch "
                "norms leave each image its own mean). Take mean, grid, levels, cells or attention."
            )
        return self
