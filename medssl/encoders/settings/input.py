"""Settings of `medssl.encoders.contract`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medssl.settings import Settings

__all__ = ["POOL_WORDS", "InputSettings", "Pool"]

Pool = Literal["mean", "prenorm", "grid", "levels", "cells", "attention"]
POOL_WORDS = (
    "How features become one vector, for methods, probes, classifiers, embed and exports alike: 'mean' of the coarsest "
    "level; 'prenorm', the mean before the last norm; 'grid', means in 2 x 2 x 2 cells; 'levels', the means of all "
    "levels joined; 'cells', the cells of the three coarsest levels joined, what small crops are told by; 'attention', "
    "learnt weights of the places."
)


class InputSettings(Settings):
    """What the settings of every encoder begin with."""

    in_channels: Annotated[int, Field(ge=1)] | Literal["follow"] = Field(
        default="follow", description="Channels of the input; 'follow' takes as many as the store has, 1 without one."
    )

    pool: Pool = Field(default="mean", description=POOL_WORDS)

    @property
    def input_channels(self) -> int:
        """Channels of the input, as a number."""
        return 1 if self.in_channels == "follow" else self.in_channels
