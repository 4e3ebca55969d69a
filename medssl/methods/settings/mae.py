"""Settings of `medssl.methods.mae`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from medssl.methods.settings.masked_window import MaskedWindowSettings

__all__ = ["MAESettings", "Positive"]

Positive = Annotated[int, Field(ge=1)]


class MAESettings(MaskedWindowSettings):
    """Settings of MAE; the patches that are hidden are the encoder's tokens."""

    name: Literal["mae"] = "mae"
    normalise: bool = Field(True, description="Normalise each patch of the target to mean 0 and deviation 1.")
    decoder_width: Positive = Field(512, description="Channels of the decoder.")
    decoder_depth: Positive = Field(8, description="Blocks of the decoder.")
    decoder_heads: Positive = Field(16, description="Attention heads of the decoder; they divide its channels.")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.decoder_width % self.decoder_heads:
            raise ValueError(
                f"decoder_heads must divide decoder_width, {self.decoder_width}. Got {self.decoder_heads}. "
                f"Try {max(1, self.decoder_width // 32)}."
            )
        return self
