"""Settings of `medssl.encoders.contract`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from medssl.settings import Settings

__all__ = ["POOL_WORDS", "InputSettings", "Pool"]

Pool = Literal["mean", "prenorm", "grid", "levels", "cells", "attention", "class"]
POOL_WORDS = (
    "How features become one vector, for methods, probes, classifiers, embed and exports alike: 'mean' of the coarsest "
    "level; 'prenorm', the mean before the last norm; 'grid', means in 2 x 2 x 2 cells; 'levels', the means of all "
    "levels joined; 'cells', the cells of the three coarsest levels joined, what small crops are told by; 'attention', "
    "learnt weights of the places; 'class', the class token of a transformer that has one."
)


class InputSettings(Settings):
    """What the settings of every encoder begin with."""

    in_channels: Annotated[int, Field(ge=1)] | Literal["follow"] = Field(
        default="follow", description="Channels of the input; 'follow' takes as many as the store has, 1 without one."
    )

    pool: Pool = Field(default="mean", description=POOL_WORDS)

    @model_validator(mode="after")
    def _class_token_is_there(self) -> Self:
        if self.pool == "class" and not getattr(self, "class_token", False):
            raise ValueError(
                "pool: class takes a class token, which is there with encoder.name=vit encoder.class_token=true alone. "
                "Take mean, grid, levels, cells or attention."
            )
        return self

    @property
    def input_channels(self) -> int:
        """Channels of the input, as a number."""
        return 1 if self.in_channels == "follow" else self.in_channels
