"""Settings of `medssl.methods.joined`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from medssl.methods.table import METHODS
from medssl.settings import Settings

__all__ = ["JoinedPart", "JoinedSettings"]

_JOINS = ("joined", "voco_masked")

if TYPE_CHECKING:
    PartMethod = Settings
else:
    PartMethod = METHODS.settings_union(but=_JOINS)


class JoinedPart(Settings):
    """One of the methods that are joined."""

    weight: float = Field(1.0, gt=0, description="Weight of the part's loss.")
    method: PartMethod = Field(description="The method, by its name, with its settings.")


class JoinedSettings(Settings):
    """Settings of joined methods."""

    name: Literal["joined"] = "joined"
    parts: dict[str, JoinedPart] = Field(
        min_length=2,
        description="The methods, each under a name of your choice.",
    )
