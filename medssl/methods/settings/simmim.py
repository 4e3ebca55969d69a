"""Settings of `medssl.methods.simmim`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medssl.methods.settings.masked_window import MaskedWindowSettings

__all__ = ["SimMIMSettings", "Triple"]

Triple = tuple[int, int, int]


class SimMIMSettings(MaskedWindowSettings):
    """Settings of SimMIM."""

    name: Literal["simmim"] = "simmim"
    patch: Triple | None = Field(
        None, description="Size of the patches that are hidden, in voxels. None: the stride of the coarsest level."
    )
    ratio: float = Field(0.6, gt=0, lt=1, description="Share of the patches that are hidden.")
